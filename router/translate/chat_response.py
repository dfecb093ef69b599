"""A plain Messages answer for a client of the OpenAI API."""

from typing import Any

import msgspec

from router.translate.answer import Usage
from router.wire.message_events import TokenCounts
from router.wire.reading import check_utf8, read

# Every stop_reason of the Messages API; one that is new is taken for a natural end.
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "compaction": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
BROKEN_OFF = frozenset({"length", "content_filter"})
"""The finish reasons of answers that may end inside the arguments of a call."""


class MessageUsage(TokenCounts, gc=False):
    """The tokens of a message, and how they are told elsewhere."""

    def overlay(self, newer: TokenCounts | None) -> None:
        """Take what `newer` knows; message_delta counts from the start of the message."""
        for name in TokenCounts.__struct_fields__:
            if (value := getattr(newer, name, None)) is not None:
                setattr(self, name, value)

    def for_record(self) -> Usage:
        """What was written to the cache was computed."""
        computed = self.input_tokens
        if computed is not None:
            computed += self.cache_creation_input_tokens or 0
        return Usage(computed, self.cache_read_input_tokens, self.output_tokens)

    def for_client(self) -> dict[str, Any]:
        """OpenAI's object, in which `prompt_tokens` is the whole prompt and the cached ones are a part of it."""
        read_tokens = max(0, self.cache_read_input_tokens or 0)
        written = max(0, self.cache_creation_input_tokens or 0)
        prompt = max(0, self.input_tokens or 0) + read_tokens + written
        output = max(0, self.output_tokens or 0)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": read_tokens, "cache_write_tokens": written},
        }


def finish_reason(stop_reason: str, *, tools: bool) -> str:
    """Say it in OpenAI's words. Clients run calls only at `tool_calls`, and look for some only then."""
    said = FINISH_REASONS.get(stop_reason, "stop")
    if said in BROKEN_OFF:
        return said
    return "tool_calls" if tools else "stop"


class _Block(msgspec.Struct, frozen=True, gc=False):
    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, msgspec.Raw] | None = None


class _Message(msgspec.Struct, frozen=True, gc=False):
    content: tuple[_Block, ...]
    stop_reason: str
    usage: MessageUsage | None = None


_message = msgspec.json.Decoder(_Message)


def completion_of(body: bytes, *, model: str, completion_id: str, created_s: int) -> tuple[bytes, Usage, str]:
    """Return the completion, its usage, and its stop reason in the Messages API's words.

    `model`: the name that the client asked for. `created_s`: Unix time. Blocks other than text, thinking and calls of
    the client's tools are left out.

    Raises:
        msgspec.DecodeError: it is not a finished message, or has a call without id or name.

    """
    check_utf8(body)
    message = read(_message, body)
    calls = [_call(block) for block in message.content if block.type == "tool_use"]
    text = "".join([block.text for block in message.content if block.type == "text"])
    thinking = "".join([block.thinking for block in message.content if block.type == "thinking"])
    said: dict[str, Any] = {"role": "assistant", "content": None if calls and not text else text, "refusal": None}
    if thinking:
        said["reasoning_content"] = thinking
    if calls:
        said["tool_calls"] = calls
    finish = finish_reason(message.stop_reason, tools=bool(calls))
    usage = message.usage or MessageUsage()
    completion = {
        "id": completion_id,
        "object": "chat.completion",
        "created": created_s,
        "model": model,
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": finish}],
        "usage": usage.for_client(),
    }
    return msgspec.json.encode(completion), usage.for_record(), message.stop_reason


def _call(block: _Block) -> dict[str, Any]:
    if not block.id or not block.name:
        raise msgspec.ValidationError("a tool_use block without id or name")
    return {
        "id": block.id,
        "type": "function",
        "function": {"name": block.name, "arguments": arguments_of(block.input)},
    }


def arguments_of(input_: dict[str, msgspec.Raw] | None) -> str:
    """A call's input as compact JSON text, keys in their order."""
    return msgspec.json.format(msgspec.json.encode(input_ or {}), indent=-1).decode()
