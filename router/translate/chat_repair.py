"""A chat completion for a client of the OpenAI API, from a server that speaks it: passed on, and made exact.

llama-server names its alias or the path of its model in every chunk, leaves the role out when the first token is a part
of a character, and ends its body in the middle of an answer when it is stopped; what other servers do in their own way
is in `chat_mend`. The rest goes through as it came, a server's own extra fields too.
"""

from typing import Literal

from router.errors import RouterError, UpstreamBroke
from router.translate.answer import Usage
from router.translate.chat_chunk import NamedChunk, Naming, is_token, read_chunk, role_for
from router.translate.chat_forced import ForcedChat
from router.translate.chat_mend import Mender
from router.translate.counts import Counts
from router.translate.faults import read_fault, to_error
from router.translate.mould import Mould, framed, key_of
from router.translate.stops import GAVE_UP, stop_reason
from router.wire import openai
from router.wire.chat import DONE_EVENT
from router.wire.sse import MAX_EVENT_BYTES, EventSplitter, EventTooLarge, event_data, event_name

_Brings = Literal["nothing", "token", "finish", "late"]
_NO_DELTA = openai.Delta()
_DATA = b"data: {"


class ChatStream:
    """One streamed answer; see `AnswerStream`.

    Until the first word, thought, call or finish nothing goes out, so that another instance may still serve the call:
    chunks with the role alone wait, and go out in front of it. Usage waits for the end.
    """

    __slots__ = (
        "_counts",
        "_finished",
        "_held",
        "_held_bytes",
        "_instance_id",
        "_mender",
        "_mould",
        "_naming",
        "_ours",
        "_seen",
        "_splitter",
        "_tools",
        "_usage_asked",
        "_usage_event",
        "committed",
        "ended",
        "error",
        "events",
        "stop_reason",
    )  # fmt: skip

    def __init__(
        self,
        *,
        model: str,
        instance_id: str,
        usage_asked: bool,
        completion_id: str = "chatcmpl-0",
        created_s: int = 0,
        forced: ForcedChat | None = None,
    ) -> None:
        """`model`: the name that the client asked for. `usage_asked`: as `ChatHead` says. The rest is `Mender`'s."""
        self._mender = Mender(completion_id, created_s, forced)
        self._naming = Naming(model)
        self._instance_id = instance_id
        self._usage_asked = usage_asked
        self._mould, self._ours = Mould(), Mould()
        self._splitter = EventSplitter()
        self._counts = Counts()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._tools = False
        self._usage_event = b""
        self.committed = False
        self.ended = False
        self.error: RouterError | None = None
        self.events = 0
        self.stop_reason = ""

    @property
    def usage(self) -> Usage:
        """What the server has counted so far."""
        return self._counts.for_record()

    def through(self, frame: bytes, start: int) -> bytes | None:
        """Take the common chunk the short way: another text in what stood around the last one. See `AnswerStream`."""
        if self._splitter.pending or not self.committed or self.ended or self.error is not None:
            return None
        literal = self._mould.text(frame, start)
        if literal is None:
            return None
        self.events += 1
        ours = self._ours
        return framed(b"%b%b%b" % (ours.head, literal, ours.tail))

    def feed(self, data: bytes) -> bytes:
        """Return the bytes for the client; empty when nothing is ready or all was to be swallowed.

        Raises:
            EventTooLarge: the instance sends something without end.
            msgspec.DecodeError: an event is not JSON, or not a chunk.

        """
        return b"".join([self._event(event) for event in self._splitter.feed(data)])

    def finish(self) -> bytes:
        """Add `[DONE]` where every choice was finished; a body that is over before that is a cut."""
        if self.ended or self.error or not self._whole:
            return b""
        return self._end()

    @property
    def _whole(self) -> bool:
        return bool(self._seen) and self._seen == self._finished

    def _event(self, event: bytes) -> bytes:
        if self.ended or self.error:
            return b""
        if event.startswith(_DATA) and event.find(b"\n") == len(event) - 2:
            data = event[6:-2]
        else:
            data = event_data(event).replace(b"\n", b" ").strip()
            if not data:
                return b""  # a comment against silence: the router sends its own
            if data.startswith(b"[DONE]"):
                return self._end() if self._whole else self._broke("ended its answer before it was finished")
            if event_name(event) == b"error":
                return self._gave_up(data)
        chunk = read_chunk(data)
        return self._gave_up(data) if chunk.failed else self._pass_on(data, chunk)

    def _pass_on(self, data: bytes, chunk: NamedChunk) -> bytes:
        self._count(chunk)
        if not chunk.choices:
            if chunk.usage is not None and self._usage_asked:
                self._usage_event = _event(self._exact(data, chunk))
            return b""
        came = data
        data = self._mender.mend(came, chunk)
        if not data:  # a text that is kept until it is a whole call
            self.events += 1
            return b""
        if data is not came:
            chunk = read_chunk(data)
        brings = [self._told(choice) for choice in chunk.choices or ()]
        if self._mender.broken and not self.error:
            self._broke(self._mender.broken)
        if self.error or "late" in brings:
            return b""
        self.events += "token" in brings
        out = self._exact(data, chunk)
        if self.committed:
            out = _event(out)
            self._cast(_event(came), out, chunk)
            return out
        if "token" not in brings and "finish" not in brings:
            self._hold(out)
            return b""
        self.committed = True
        self._cast(_event(came), _event(out), chunk)
        return self._opening(out)

    def _cast(self, theirs: bytes, ours: bytes, chunk: NamedChunk) -> None:
        """Remember the shape of a chunk that was nothing but text or reasoning, as it came and as it goes out."""
        key = key_of(chunk)
        if not key or not self._mould.cast(theirs, key) or not self._ours.cast(ours, key):
            self._mould.clear()

    def _count(self, chunk: NamedChunk) -> None:
        if chunk.usage is not None or chunk.timings is not None or chunk.prompt_progress is not None:
            self._counts.take(chunk)

    def _told(self, choice: openai.ChunkChoice) -> _Brings:
        """Say what a choice brings; `late`: it was finished already."""
        delta = choice.delta or _NO_DELTA
        token = is_token(delta)
        if choice.index in self._finished:
            if token:
                self._broke("went on after the end of its answer")
            return "late"
        self._seen.add(choice.index)
        self._tools = self._tools or bool(delta.tool_calls or delta.function_call)
        if choice.finish_reason is None:
            return "token" if token else "nothing"
        if choice.finish_reason in GAVE_UP:
            self._broke("broke the answer off")
            return "late"
        self._finished.add(choice.index)
        self._mould.clear()  # what comes after it must be looked at
        self.stop_reason, _ = stop_reason(choice.finish_reason, tools=self._tools)
        return "token" if token else "finish"

    def _exact(self, data: bytes, chunk: NamedChunk) -> bytes:
        unasked = chunk.usage is not None and not self._usage_asked
        return self._naming.exact(data, chunk, without="usage" if unasked else "")

    def _hold(self, out: bytes) -> None:
        self._held.append(out)
        self._held_bytes += len(out)
        if self._held_bytes > MAX_EVENT_BYTES:
            raise EventTooLarge(f"more than {MAX_EVENT_BYTES} bytes before the first word")

    def _opening(self, out: bytes) -> bytes:
        """What has waited and what has come, the role first."""
        waiting = [*self._held, out]
        self._held.clear()
        role = role_for(waiting[0])
        if role is not None:
            waiting.insert(0, role)
        return b"".join([_event(data) for data in waiting])

    def _end(self) -> bytes:
        self.ended = True
        return self._usage_event + DONE_EVENT

    def _gave_up(self, data: bytes) -> bytes:
        self.error = to_error(200, read_fault(data), instance_id=self._instance_id)
        return b""

    def _broke(self, how: str) -> bytes:
        self.error = UpstreamBroke(f"instance {self._instance_id} {how}", instance_id=self._instance_id)
        return b""


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
