"""llama-server's native stream, made the hosted API's: same bytes for the common token event, the rest rebuilt.

The common event is known by its first bytes, which are fixed while a block is open, and by its last; what is between
is decoded, since a client would stop at broken JSON. Everything else goes through the parts: `untangle` (what the
instance means), `blocks` (what the client gets), `ending`. Bytes in, bytes out, no I/O.
"""

import re

import msgspec

from router.errors import RouterError, UpstreamBroke
from router.translate import render
from router.translate.answer import Usage
from router.translate.blocks import BlockWriter, BrokenAnswerError
from router.translate.ending import Tally, asked_for, stop_reason
from router.translate.faults import read_fault, to_error
from router.translate.plain import repair_message
from router.translate.untangle import Untangler
from router.wire.reading import check_utf8, read
from router.wire.sse import EventSplitter, EventTooLarge, event_data, event_name

__all__ = ["NativeStream", "repair_message"]


class _Ending(msgspec.Struct, frozen=True):
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Name(msgspec.Struct, frozen=True):
    type: str = ""
    error: msgspec.Raw = msgspec.Raw(b"null")


_Fields = dict[str, msgspec.Raw]
_object = msgspec.json.Decoder(_Fields)
_ending = msgspec.json.Decoder(_Ending)
_name = msgspec.json.Decoder(_Name)
_string = msgspec.json.Decoder(str).decode
_EMPTY = msgspec.Raw(b"{}")
_NULL = msgspec.Raw(b"null")
_TAIL = b'"}}\n\n'
_FRAMED_TAIL = _TAIL + b"\r\n"
_is_word = re.compile(rb"[A-Za-z0-9_.-]+").fullmatch


class NativeStream:
    """One streamed answer; see AnswerStream. It raises nothing: whatever cannot be read becomes its `error`.

    `events`: pieces of text, thinking or arguments, those included that the client does not get.
    """

    __slots__ = (
        "_common", "_ending_told", "_instance_id", "_message_id", "_model", "_passed", "_pieces", "_silent", "_skip",
        "_splitter", "_stop", "_tally", "_untangler", "_writer",
        "committed", "ended", "error", "stop_reason",
    )  # fmt: skip

    def __init__(
        self,
        *,
        model: str,
        instance_id: str,
        message_id: str,
        omit_thinking: bool = False,
        silent: bool = False,
        keep_ids: bool = False,
        stop: tuple[str, ...] | None = None,
    ) -> None:
        """`model`: the name that the client asked for. `message_id`: the one that it gets.

        `omit_thinking`: thinking goes out sealed in its signature. `silent`: the client asked for no tokens at all,
        only that the prompt be read. `keep_ids`: the instance's ids of tool calls are the Messages API's own. `stop`:
        the client's stop sequences, the only ones that it is told of; None: the instance knows no others.
        """
        self._model = model
        self._message_id = message_id
        self._instance_id = instance_id
        self._silent = silent
        self._stop = stop
        self._splitter = EventSplitter()
        self._writer = BlockWriter(message_id, omit_thinking=omit_thinking, keep_ids=keep_ids)
        self._untangler = Untangler(self._writer)
        self._tally = Tally()
        self._ending_told = False
        self._common = b""
        self._skip = 0
        self._pieces: list[str] | None = None
        self._passed = 0
        self.committed = False
        self.ended = False
        self.error: RouterError | None = None
        self.stop_reason = ""

    def __repr__(self) -> str:
        state = "ended" if self.ended else "failed" if self.error else "begun" if self.committed else "waiting"
        return f"NativeStream({self._instance_id}, {state}, {self.events} events)"

    @property
    def events(self) -> int:
        """Token events so far."""
        return self._passed + self._untangler.pieces

    @property
    def usage(self) -> Usage:
        """As far as the instance has told it."""
        return self._tally.for_record()

    def through(self, frame: bytes, start: int) -> bytes | None:
        """Take the common event the short way: it goes on as it is. See `AnswerStream`."""
        common = self._common
        if not common or not frame.startswith(common, start) or not frame.endswith(_FRAMED_TAIL):
            return None
        try:
            piece = _string(frame[start + self._skip : -6])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if not piece:
            return None
        if self._pieces is not None:
            self._pieces.append(piece)
        self._passed += 1
        return frame

    def feed(self, data: bytes) -> bytes:
        """Return the bytes for the client; empty when nothing is ready or all was to be swallowed."""
        if self._over:
            return b""
        if self._is_common(data):
            return data
        try:
            events = self._splitter.feed(data)
        except EventTooLarge:
            return self._fail("sent an event that cannot be read: it has no end")
        out = []
        for event_ in events:
            self._look(between=True)
            out.append(self._event(event_))
        self._look()
        return b"".join(out)

    def finish(self) -> bytes:
        """Say nothing more: an answer is whole only by its message_stop."""
        if not self._over:
            self._fail("ended the stream in the middle")
        return b""

    @property
    def _over(self) -> bool:
        return self.ended or self.error is not None

    # ------------------------------------------------------------ the short path

    def _look(self, *, between: bool = False) -> None:
        """Note what the common event looks like now. After half an event nothing is one.

        `between`: two events that came together; what comes after them does not matter yet.
        """
        may = between or not (self._over or self._splitter.pending)
        self._common = self._untangler.common if may else b""
        self._skip = len(self._common) - 1
        self._pieces = self._writer.pieces

    def _is_common(self, event_: bytes) -> bool:
        """`through`, for an event without framing."""
        return self._common != b"" and event_.endswith(_TAIL) and self.through(event_ + b"\r\n", 0) is not None

    # ------------------------------------------------------------ one event

    def _event(self, event_: bytes) -> bytes:
        if self._over:
            return b""
        if self._is_common(event_):
            return event_
        name, data = _named(event_)
        try:
            return self._told(name, data)
        except BrokenAnswerError as error:
            return self._fail(str(error))
        except msgspec.DecodeError:
            return self._fail("sent an event that cannot be read")

    def _told(self, name: bytes, data: bytes) -> bytes:
        match name:
            case b"message_start":
                return b"" if self.committed else self._start(check_utf8(data))
            case b"content_block_start" | b"content_block_delta" | b"message_delta":
                # llama-server sends no message_start when its first token is a part of a character (an emoji, say).
                # Only that would have counted the prompt: its message_delta counts the output alone.
                opening = b"" if self.committed else self._opening({})
                out = self._end(check_utf8(data)) if name == b"message_delta" else self._block(name, check_utf8(data))
                self.committed = True
                return opening + out
            case b"content_block_stop":
                return b"" if self._silent or not self.committed else self._untangler.stop(data)
            case b"message_stop":
                if not self._ending_told:
                    raise BrokenAnswerError("ended the stream without saying why")
                self.ended = True
                return render.MESSAGE_STOP
            case b"error":
                self.error = to_error(200, read_fault(data), instance_id=self._instance_id)
                return b""
            case b"ping" | b"":
                return b""  # the router sends its own; llama-server's comment against silence has no name
        return self._unknown(name, data)

    def _start(self, data: bytes) -> bytes:
        message = read(_object, read(_object, data).get("message", _EMPTY))
        self._tally.add(message.get("usage", _NULL))
        opening = self._opening(message)
        self.committed = True
        return opening

    def _opening(self, message: _Fields) -> bytes:
        """Make message_start; of the instance's only what this router does not know is kept."""
        usage = self._tally.at_start()
        ours = render.message(model=self._model, message_id=self._message_id, usage=usage)
        rest = {name: value for name, value in message.items() if name not in ours}
        return render.message_start({**ours, **rest})

    def _block(self, name: bytes, data: bytes) -> bytes:
        if self._silent:
            return b""
        if self._ending_told:
            raise BrokenAnswerError("went on after its end")
        return self._untangler.start(data) if name == b"content_block_start" else self._untangler.delta(data)

    def _end(self, data: bytes) -> bytes:
        if self._ending_told:
            return b""
        fields = read(_object, data)
        delta = fields.get("delta", _EMPTY)
        said, writer = read(_ending, delta), self._writer
        self._tally.add(fields.get("usage", _NULL))
        if said.stop_reason is None:
            return b""  # the Messages API may send several, and only the last has to say why
        if self._silent:
            self._tally.silence()
            reason, sequence = "max_tokens", None
        else:
            reason, sequence = stop_reason(
                said.stop_reason, asked_for(said.stop_sequence, self._stop), tools=writer.tools > 0, whole=writer.whole
            )
        usage = self._tally.at_end(events=self.events)
        told = read(_object, delta)
        ending = {**told, "stop_reason": reason, "stop_sequence": sequence}
        rest = {name: value for name, value in fields.items() if name not in {"type", "delta", "usage"}}
        out = render.message_delta(ending, usage, rest)
        self.stop_reason = reason
        self._ending_told = True
        return writer.close(cut=True) + out

    def _unknown(self, name: bytes, data: bytes) -> bytes:
        """Pass an event of a kind that came later than this router, if a client can read it at all.

        One whose data is of another kind is damaged: clients drop it, and with it what it says.
        """
        if not self.committed or not _is_word(name):
            return b""
        try:
            fields = read(_object, check_utf8(data))
            type_ = _string(fields["type"]) if "type" in fields else name.decode()
        except msgspec.DecodeError:
            return b""
        if type_ != name.decode():
            raise BrokenAnswerError("sent an event under two names")
        return render.event(name, fields)

    def _fail(self, what: str) -> bytes:
        self.error = UpstreamBroke(f"instance {self._instance_id} {what}", instance_id=self._instance_id)
        self._common = b""
        return b""


def _named(event_: bytes) -> tuple[bytes, bytes]:
    """Return an event's name and data. One that has no name line is named by its data, as some servers leave it out."""
    name, data = event_name(event_), event_data(event_)
    if name or not data:
        return name, data
    try:
        said = read(_name, data)
    except msgspec.DecodeError:
        return b"", data
    return said.type.encode() or (b"error" if said.error != _NULL else b""), data
