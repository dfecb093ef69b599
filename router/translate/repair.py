"""llama-server's native answers, made right: the client's name for the model, errors in their envelope, usage read.

The common token event is recognised by its first bytes and forwarded as it came; JSON is read only where a message
starts and ends. Bytes in, bytes out, no I/O.
"""

import re

import msgspec

from router.errors import RouterError
from router.translate.faults import read_fault, to_error
from router.wire.reading import read
from router.wire.sse import EventSplitter, event_data, event_name, make_event

_DELTA = b"event: content_block_delta\n"


class Usage(msgspec.Struct, gc=False):
    """What an answer says that it used; None where it has not said it (yet)."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class _Message(msgspec.Struct, frozen=True):
    usage: Usage | None = None
    stop_reason: str | None = None


class _WholeMessage(_Message, frozen=True, kw_only=True):
    content: tuple[msgspec.Raw, ...]


class _DeltaEnd(msgspec.Struct, frozen=True):
    delta: _Message | None = None
    usage: Usage | None = None


_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_message = msgspec.json.Decoder(_Message)
_whole_message = msgspec.json.Decoder(_WholeMessage)
_message_delta = msgspec.json.Decoder(_DeltaEnd)


class NativeStream:
    """One streamed answer. Feed it what comes; it returns what goes to the client.

    `committed`: message_start has been seen, so bytes have been returned that nobody can take back. `ended`:
    message_stop has been seen; what comes after it is dropped. `error`: the instance gave up in the middle; nothing
    is returned for that event, since only the caller knows whether the call can still be mended elsewhere.
    """

    __slots__ = (
        "_instance_id",
        "_message_id",
        "_model",
        "_splitter",
        "committed",
        "ended",
        "error",
        "events",
        "stop_reason",
        "usage",
    )

    def __init__(self, *, model: str, instance_id: str, message_id: str = "msg_unknown") -> None:
        """`model`: the name that the client asked for. `message_id`: for a message that comes without its start."""
        self._model = msgspec.json.encode(model)
        self._message_id = message_id
        self._instance_id = instance_id
        self._splitter = EventSplitter()
        self.committed = False
        self.ended = False
        self.error: RouterError | None = None
        self.events = 0
        self.usage = Usage()
        self.stop_reason = ""

    def passes(self, frame: bytes, start: int) -> bool:
        """Say whether `frame`, from `start` to its last line break, is one common event that needs no repair.

        True counts it as forwarded. What is decided here must be what `feed` would decide.
        """
        if (
            self.committed
            and frame.startswith(_DELTA, start)
            and frame.find(b"\n\n", start) == len(frame) - 4
            and not self.ended
            and self.error is None
            and not self._splitter.pending
        ):
            self.events += 1
            return True
        return False

    def feed(self, data: bytes) -> bytes:
        """Return the bytes for the client; empty when nothing is ready or everything was ours to swallow.

        Raises:
            EventTooLarge: the instance sends something without end.
            msgspec.DecodeError: an event that we must read is not JSON.

        """
        if (
            data.startswith(_DELTA)
            and self.committed
            and not self.ended
            and self.error is None
            and not self._splitter.pending
            and data.find(b"\n\n") == len(data) - 2
        ):
            self.events += 1
            return data
        return b"".join([self._event(event) for event in self._splitter.feed(data)])

    def _event(self, event: bytes) -> bytes:
        if self.ended or self.error:
            return b""
        if event.startswith(_DELTA):
            self.events += 1
            return event if self.committed else b""
        match event_name(event):
            case b"message_start" if not self.committed:
                return self._start(event)
            case b"content_block_start" if not self.committed:
                return self._missing_start() + event
            case b"message_delta":
                self._read_end(event_data(event))
            case b"message_stop":
                self.ended = self.committed
            case b"error":
                self.error = to_error(200, read_fault(event_data(event)), instance_id=self._instance_id)
                return b""
            case b"":
                return b""  # llama-server's comment against silence: the router sends its own pings
        return event if self.committed else b""

    def _start(self, event: bytes) -> bytes:
        fields = read(_raw_object, event_data(event))
        raw = fields.get("message", msgspec.Raw(b"{}"))
        message = read(_message, raw)
        fields["message"] = msgspec.Raw(_with_model(bytes(raw), self._model))
        self.usage = message.usage or Usage()
        self.committed = True
        return make_event(b"message_start", msgspec.json.encode(fields))

    def _missing_start(self) -> bytes:
        """llama-server sends no message_start when its first token is a part of a character (an emoji, say).

        Its usage is unknown then: the event needs numbers, the record gets none.
        """
        self.committed = True
        usage = {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}
        message: dict[str, object] = {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": msgspec.Raw(self._model),
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        return make_event(b"message_start", msgspec.json.encode({"type": "message_start", "message": message}))

    def _read_end(self, data: bytes) -> None:
        end = read(_message_delta, data)
        if end.delta and end.delta.stop_reason:
            self.stop_reason = end.delta.stop_reason
        if end.usage and end.usage.output_tokens is not None:
            self.usage.output_tokens = end.usage.output_tokens


def repair_message(body: bytes, *, model: str) -> tuple[bytes, Usage, str]:
    """Make a plain answer right; returns it with its usage and stop reason.

    Raises:
        msgspec.DecodeError: it is not a message.

    """
    message = read(_whole_message, body)
    return _with_model(body, msgspec.json.encode(model)), message.usage or Usage(), message.stop_reason or ""


def _with_model(message: bytes, model: bytes) -> bytes:
    """Put the client's model name into a message object, everything else as it was."""
    fields = read(_raw_object, message)
    fields["model"] = msgspec.Raw(model)
    return msgspec.json.encode(fields)


# ---------------------------------------------------------------- requests

_TRAILING_BRACE = re.compile(rb"\}\s*\Z")


def with_max_tokens(body: bytes, max_tokens: int) -> bytes:
    """Add the pool's default to a body that has none; spliced in at the end, since nothing else may change."""
    return _TRAILING_BRACE.sub(b',"max_tokens":%d}' % max_tokens, body)


def with_model(body: bytes, model: str) -> bytes:
    """Name the model as the instance knows it; every other byte of the values stays as the client wrote it."""
    return _with_model(body, msgspec.json.encode(model))
