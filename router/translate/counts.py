"""The tokens of a chat completion, counted as the Messages API counts them.

There the whole prompt is input + cache_creation + cache_read; in a chat completion `prompt_tokens` is the whole and the
cached ones are a part of it.
"""

import msgspec

from router.translate.answer import Usage
from router.wire import openai


class Counts(msgspec.Struct, gc=False):
    """What is known so far; None is unknown, and is left out of what the client gets: it would take 0 for a fact."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    written_tokens: int = 0
    output_tokens: int | None = None
    thinking_tokens: int | None = None

    def take(self, facts: openai.Chunk | openai.Completion) -> None:
        """Learn from a chunk. Its usage beats its timings, and both beat what was known.

        llama-server's timings are used only for an answer that comes without usage: while the prompt is read they
        count what has been read so far.
        """
        progress, timings, usage = facts.prompt_progress, facts.timings, facts.usage
        if progress is not None:
            self.prompt_tokens, self.cached_tokens = progress.total, progress.cache
        elif timings is not None and timings.prompt_n is not None and timings.cache_n is not None:
            self.prompt_tokens, self.cached_tokens = timings.prompt_n + timings.cache_n, timings.cache_n
        if timings is not None and timings.predicted_n:
            self.output_tokens = timings.predicted_n
        if usage is not None:
            self._take_usage(usage)

    def _take_usage(self, usage: openai.Usage) -> None:
        if usage.prompt_tokens is not None:
            self.prompt_tokens = usage.prompt_tokens
        if usage.completion_tokens is not None:
            self.output_tokens = usage.completion_tokens
        if (prompt := usage.prompt_tokens_details) is not None:
            if prompt.cached_tokens is not None:
                self.cached_tokens = prompt.cached_tokens
            self.written_tokens = prompt.cache_write_tokens or self.written_tokens
        if (completion := usage.completion_tokens_details) is not None and completion.reasoning_tokens is not None:
            self.thinking_tokens = completion.reasoning_tokens

    @property
    def input_tokens(self) -> int | None:
        """Those that were computed and not kept; never below 0, whatever a server adds up."""
        if self.prompt_tokens is None:
            return None
        return max(0, self.prompt_tokens - (self.cached_tokens or 0) - self.written_tokens)

    def at_start(self, guess_tokens: int) -> dict[str, object]:
        """The usage of message_start; `guess_tokens` of input where the server has said nothing."""
        known = self._prompt() or {"input_tokens": guess_tokens}
        return {**known, "output_tokens": 0}

    def at_end(self, events: int, silent: bool = False) -> dict[str, object]:
        """The usage of message_delta or of a plain message.

        `events`: the best guess at the output. `silent`: none of the output was for the client.
        """
        output = 0 if silent else max(0, events if self.output_tokens is None else self.output_tokens)
        whole: dict[str, object] = {**self._prompt(), "output_tokens": output}
        if self.thinking_tokens is not None:
            whole["output_tokens_details"] = {"thinking_tokens": max(0, self.thinking_tokens)}
        return whole

    def for_record(self) -> Usage:
        """What is known, without guesses."""
        return Usage(self.input_tokens, self.cached_tokens, self.output_tokens)

    def _prompt(self) -> dict[str, object]:
        if self.input_tokens is None:
            return {}
        known = {"input_tokens": self.input_tokens, "cache_creation_input_tokens": max(0, self.written_tokens)}
        if self.cached_tokens is not None:
            known["cache_read_input_tokens"] = max(0, self.cached_tokens)
        return dict(known)
