"""Writes a Messages stream, in the hosted API's order of events and fields."""

from collections.abc import Mapping

import msgspec

from router.wire.sse import make_event

_encode = msgspec.json.encode
_MESSAGE_STOP = make_event(b"message_stop", b'{"type":"message_stop"}')


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


class Writer:
    """Collects events until they are taken; one block is open at a time. Whoever calls keeps the order."""

    __slots__ = ("_head", "_index", "_out", "started")

    def __init__(self) -> None:
        self._out: list[bytes] = []
        self._index = -1  # of the last block that was opened
        self._head = b""  # an event of the open block, up to where its text begins
        self.started = False

    def __repr__(self) -> str:
        return f"Writer(block {self._index}, {len(self._out)} events wait)"

    @property
    def head(self) -> bytes:
        """A delta of the open block, up to where its text begins; `}}` and the blank line end it."""
        return self._head

    def take(self) -> bytes:
        """Return what was written since the last time."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def start(self, message: Mapping[str, object]) -> None:
        """message_start."""
        self._event("message_start", {"message": message})
        self.started = True

    def open(self, block: Mapping[str, object], delta: str, field: str) -> None:
        """Open the next block. `delta`, `field`: the type of its deltas and the field that `add` fills."""
        self._index += 1
        self._event("content_block_start", {"index": self._index, "content_block": block})
        head = f'{{"type":"content_block_delta","index":{self._index},"delta":{{"type":"{delta}","{field}":'
        self._head = b"event: content_block_delta\ndata: " + head.encode()

    def add(self, text: str) -> None:
        """One delta."""
        self._out.append(b"%b%b}}\n\n" % (self._head, _encode(text)))

    def sign(self, signature: str) -> None:
        """The last delta of a thinking block."""
        self._event(
            "content_block_delta",
            {"index": self._index, "delta": {"type": "signature_delta", "signature": signature}},
        )

    def close(self) -> None:
        """Close the open block."""
        self._event("content_block_stop", {"index": self._index})

    def end(self, stop_reason: str, stop_sequence: str | None, usage: Mapping[str, object]) -> None:
        """message_delta and message_stop."""
        delta = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
        self._event("message_delta", {"delta": delta, "usage": usage})
        self._out.append(_MESSAGE_STOP)

    def _event(self, name: str, fields: dict[str, object]) -> None:
        self._out.append(make_event(name.encode(), _encode({"type": name, **fields})))
