"""The message, and the events around its blocks, with the hosted API's order of fields."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from router.wire.sse import make_event

MESSAGE_STOP = make_event(b"message_stop", b'{"type":"message_stop"}')
_NOTHING: Mapping[str, object] = MappingProxyType({})


def message(
    *,
    model: str,
    message_id: str,
    usage: Mapping[str, object],
    content: tuple[Mapping[str, object], ...] = (),
    stop_reason: str | None = None,
    stop_sequence: str | None = None,
) -> dict[str, object]:
    """The message object: whole in a plain answer, without content and reasons at the start of a stream."""
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": usage,
    }


def event(name: bytes, fields: object) -> bytes:
    """Frame an object as an event. Raw values may hold the line breaks of an event with several data lines."""
    return make_event(name, msgspec.json.encode(fields).replace(b"\n", b" "))


def message_start(message: Mapping[str, object]) -> bytes:
    """The first event."""
    return event(b"message_start", {"type": "message_start", "message": message})


def message_delta(
    delta: Mapping[str, object], usage: Mapping[str, object], rest: Mapping[str, object] = _NOTHING
) -> bytes:
    """The last event but one. `delta`: why it ends; `rest`: what an instance says besides."""
    return event(b"message_delta", {"type": "message_delta", "delta": delta, "usage": usage, **rest})
