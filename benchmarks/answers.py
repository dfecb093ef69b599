"""What the mock instance answers, and what the generator expects to read.

The shapes and the framing are those of llama-server (one HTTP chunk per partial result: the first also opens
the stream, the last also closes it). Both protocols carry the same number of text deltas, and every delta is
EVENT_BYTES long in both, so that a streamed event is the same work for each router.
"""

import enum
import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec

MODEL = "m"
ANSWER = "An answer of one short line."
# llama-server's OpenAI chunk with an 8-character token comes to about this; Anthropic's deltas are padded up.
EVENT_BYTES = 224
_CHAT_ID = "chatcmpl-7Qm2vX9kT4bWcR1sYfJ0hLdPzNgA3eUo"
_DELTA = re.compile(rb"w(\d{5})")


class Protocol(enum.StrEnum):
    """The two wire protocols; the value is the path."""

    MESSAGES = "/v1/messages"
    CHAT = "/v1/chat/completions"

    @property
    def mark(self) -> bytes:
        """What is in each text delta and nowhere else."""
        return b'"text_delta"' if self is Protocol.MESSAGES else b'"content":"w'

    @property
    def last(self) -> bytes:
        """What a complete stream ends with."""
        return b'"message_stop"' if self is Protocol.MESSAGES else b"[DONE]"


def faults(protocol: Protocol, body: bytes, deltas: int) -> str:
    """Name what is wrong with an answer, "" if nothing; `deltas` 0 is a plain answer."""
    if not deltas:
        return "" if ANSWER.encode() in body else "wrong answer"
    if protocol.last not in body[-200:]:
        return "stream not complete"
    return "" if _expected(deltas) == _DELTA.findall(body) else "deltas lost or out of order"


def plain(protocol: Protocol, prompt: int, cached: int) -> bytes:
    """The whole body of an answer that is not streamed; both counts are tokens."""
    if protocol is Protocol.MESSAGES:
        return _json(
            {
                "id": _CHAT_ID,
                "type": "message",
                "role": "assistant",
                "content": [{"type": "text", "text": ANSWER}],
                "model": MODEL,
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {
                    "cache_read_input_tokens": cached,
                    "input_tokens": prompt - cached,
                    "output_tokens": 8,
                },
            }
        )
    message = {"role": "assistant", "content": ANSWER}
    return _json(
        {
            "choices": [{"finish_reason": "stop", "index": 0, "message": message}],
            "created": 1764000000,
            "model": MODEL,
            "system_fingerprint": "b9000-0000000",
            "object": "chat.completion",
            "usage": _chat_usage(prompt, cached, 8),
            "id": _CHAT_ID,
            "timings": _timings(prompt, cached, 8),
        }
    )


def opening(protocol: Protocol, prompt: int, cached: int) -> bytes:
    """The first chunk's events without the first delta."""
    if protocol is Protocol.CHAT:
        return _chat({"role": "assistant", "content": None})
    usage = {"cache_read_input_tokens": cached, "input_tokens": prompt - cached, "output_tokens": 0}
    message: dict[str, object] = {
        "id": _CHAT_ID,
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": MODEL,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return _event({"type": "message_start", "message": message}) + _event(block)


@lru_cache(maxsize=4096)
def delta(protocol: Protocol, number: int) -> bytes:
    """The text delta of that number, from 1, as one event."""
    text = f"w{number:05d} "
    short = _delta(protocol, text)
    return _delta(protocol, text + "." * (EVENT_BYTES - len(short)))


def closing(protocol: Protocol, prompt: int, cached: int, deltas: int) -> bytes:
    """The events of the last chunk."""
    if protocol is Protocol.CHAT:
        timings = _timings(prompt, cached, deltas)
        return _chat({}, finish="stop", timings=timings) + b"data: [DONE]\n\n"
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    return (
        _event({"type": "content_block_stop", "index": 0})
        + _event({"type": "message_delta", "delta": stop, "usage": {"output_tokens": deltas}})
        + _event({"type": "message_stop"})
    )


def _delta(protocol: Protocol, text: str) -> bytes:
    if protocol is Protocol.CHAT:
        return _chat({"content": text})
    piece = {"type": "text_delta", "text": text}
    return _event({"type": "content_block_delta", "index": 0, "delta": piece})


def _chat(piece: dict[str, object], finish: str | None = None, **more: object) -> bytes:
    body = {
        "choices": [{"finish_reason": finish, "index": 0, "delta": piece}],
        "created": 1764000000,
        "id": _CHAT_ID,
        "model": MODEL,
        "object": "chat.completion.chunk",
        **more,
    }
    return b"data: " + _json(body) + b"\n\n"


def _event(data: dict[str, object]) -> bytes:
    return b"event: " + str(data["type"]).encode() + b"\ndata: " + _json(data) + b"\n\n"


def _chat_usage(prompt: int, cached: int, generated: int) -> dict[str, object]:
    return {
        "completion_tokens": generated,
        "prompt_tokens": prompt,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _timings(prompt: int, cached: int, generated: int) -> dict[str, object]:
    return {
        "cache_n": cached,
        "prompt_n": prompt - cached,
        "prompt_ms": (prompt - cached) * 0.5,
        "predicted_n": generated,
        "predicted_ms": generated * 10.0,
    }


@lru_cache(maxsize=64)
def _expected(deltas: int) -> Sequence[bytes]:
    return [b"%05d" % number for number in range(1, deltas + 1)]


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
