"""Answers of OpenAI's chat completions as far as the router reads them: the plain completion, and the streamed chunk.

Read leniently: unknown fields are skipped, and what servers leave out or send as null is None. Fields beyond OpenAI's
own name the server that sends them.
"""

import msgspec

StopWord = str | int | list[int] | None


class FunctionPart(msgspec.Struct, frozen=True, gc=False):
    """A call's name and arguments, or a piece of them.

    `arguments` is JSON in a string; some servers send the object itself.
    """

    name: str | None = None
    arguments: str | dict[str, msgspec.Raw] | None = None


class ToolCallPart(msgspec.Struct, frozen=True, gc=False):
    """A call, or what one chunk adds to it; only a stream has `index`."""

    index: int | None = None
    id: str | None = None
    function: FunctionPart | None = None


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What one chunk adds; a plain completion's message has the same fields.

    `reasoning_content`: llama-server, DeepSeek, older vLLM; `reasoning`: vLLM, OpenRouter; some send both, equal.
    `function_call`: what `tool_calls` was before 2023-11.
    """

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCallPart, ...] | None = None
    function_call: FunctionPart | None = None
    refusal: str | None = None


class ChunkChoice(msgspec.Struct, frozen=True, gc=False):
    """`stop_reason` (vLLM) and `matched_stop` (sglang): the stop word that was hit, or a token's number."""

    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None
    stop_reason: StopWord = None
    matched_stop: StopWord = None


class PromptDetails(msgspec.Struct, frozen=True, gc=False):
    """Parts of `prompt_tokens`, not additions to it."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionDetails(msgspec.Struct, frozen=True, gc=False):
    """A part of `completion_tokens`."""

    reasoning_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of the call; vLLM can send it with every chunk, then it grows."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class PromptProgress(msgspec.Struct, frozen=True, gc=False):
    """llama-server, if asked with `return_progress`: the prompt's tokens, and how many of them its cache held."""

    total: int
    cache: int = 0


class Timings(msgspec.Struct, frozen=True, gc=False):
    """llama-server's, in its last chunk: prompt tokens from its cache, those that it computed, and tokens generated."""

    cache_n: int | None = None
    prompt_n: int | None = None
    predicted_n: int | None = None


class Verbose(msgspec.Struct, frozen=True, gc=False):
    """llama-server, if asked with `verbose`: what ended the answer, "word" for a stop word, and which."""

    stop_type: str | None = None
    stopping_word: str | None = None


class _Facts(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    usage: Usage | None = None
    prompt_progress: PromptProgress | None = None
    timings: Timings | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")
    verbose: Verbose | None = msgspec.field(default=None, name="__verbose")


class Chunk(_Facts, frozen=True, gc=False, kw_only=True):
    """One event of a stream. `choices` None: not there, so this may be no chunk; empty: it brings usage."""

    choices: tuple[ChunkChoice, ...] | None = None


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One answer of a plain completion."""

    message: Delta
    index: int = 0
    finish_reason: str | None = None
    stop_reason: StopWord = None
    matched_stop: StopWord = None


class Completion(_Facts, frozen=True, gc=False, kw_only=True):
    """A plain answer."""

    choices: tuple[Choice, ...]


chunk_decoder = msgspec.json.Decoder(Chunk)
completion_decoder = msgspec.json.Decoder(Completion)


def arguments_text(function: FunctionPart) -> str:
    """The arguments as JSON text; empty when there are none. Bytes that are not UTF-8 become U+FFFD."""
    given = function.arguments
    if isinstance(given, dict):
        return msgspec.json.encode(given).decode(errors="replace")
    return given or ""


def first_of(choices: tuple[Choice, ...]) -> Choice | None:
    """The answer that a client gets who knows only one; None when there is none."""
    return min(choices, key=lambda choice: choice.index, default=None)


def stop_word(choice: ChunkChoice | Choice, verbose: Verbose | None) -> str | None:
    """The stop word that ended the answer, if the server says one. It may be the template's, not the caller's."""
    for named in (choice.stop_reason, choice.matched_stop):
        if isinstance(named, str):
            return named
    if verbose is not None and verbose.stop_type == "word":
        return verbose.stopping_word
    return None
