"""One try on one instance: bytes out, an answer in, and the deadlines of both.

An Attempt is the sink of an upstream connection. A streamed answer flows through it to the client as it comes; a
plain one, and any error, is collected. Whoever started it waits for one future, which brings the answer or the
failure.
"""

import asyncio
from collections.abc import Callable
from typing import Literal

import msgspec

from router.clock import monotonic_s
from router.config.schema import Deadlines
from router.errors import (
    CallTooLong,
    RouterError,
    UpstreamBroke,
    UpstreamFailed,
    UpstreamTimedOut,
)
from router.fleet.instance import Instance
from router.relay.pool import ConnectionPool
from router.relay.send import ClientStream, Header
from router.relay.upstream import UpstreamConnection
from router.translate.answer import AnswerStream
from router.translate.faults import read_fault, to_error
from router.wire.sse import EventTooLarge

MAX_PLAIN_BYTES = 64 * 1024 * 1024
# How long an instance may take from message_stop to the end of its body before its connection is given up.
CLOSING_S = 1.0
_EVENT_STREAM = b"text/event-stream"

Phase = Literal["head", "body", "stream", "over"]


class Answer(msgspec.Struct, frozen=True):
    """A plain answer, whole."""

    status: int
    headers: list[Header]
    body: bytes


class Attempt:
    """One request to one instance. Use `run`, once."""

    def __init__(self, instance: Instance, *, deadlines: Deadlines, started_s: float) -> None:
        """`started_s`: when the call began; its whole time is bounded, whatever the number of attempts.

        Callbacks may be set: `on_sent`, when the request is on its way; `on_begun`, when the head of a stream comes;
        `on_committed`, when the first event of a stream or a whole plain answer has come; `on_reading`, when reading
        stops for a slow client (False) and goes on (True).
        """
        self.instance = instance
        self.first_event_s: float | None = None
        self.last_event_s: float | None = None
        self.on_sent: Callable[[float], None] = _nothing
        self.on_begun: Callable[[], None] = _nothing
        self.on_committed: Callable[[], None] = _nothing
        self.on_reading: Callable[[bool], None] = _nothing
        self._deadlines = deadlines
        self._ends_s = started_s + deadlines.call_s
        self._phase: Phase = "head"
        self._done: asyncio.Future[Answer | None] | None = None
        self._abandoned: RouterError | None = None
        self._connecting: asyncio.Timeout | None = None
        self._connection: UpstreamConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_byte_s = 0.0
        self._status = 0
        self._headers: list[Header] = []
        self._parts: list[bytes] = []
        self._size_bytes = 0
        self._untouched = False
        self._paused = False
        self._stream: AnswerStream | None = None
        self._client: ClientStream | None = None
        self._begin_with: tuple[list[Header], bytes] = ([], b"")

    def __repr__(self) -> str:
        return f"Attempt({self.instance.id}, {self._phase})"

    # ------------------------------------------------------------ what the exchange calls

    def into(self, stream: AnswerStream, client: ClientStream, headers: list[Header], told_late: bytes) -> "Attempt":
        """Let a streamed answer flow through `stream` to `client`; see ClientStream.begin for the last two."""
        self._stream = stream
        self._client = client
        self._begin_with = (headers, told_late)
        return self

    async def run(self, pool: ConnectionPool, head: bytes, body: bytes) -> Answer | None:
        """Send the request and return the plain answer; None when the answer was streamed, to its end.

        Raises:
            UpstreamFailed: the instance did not do its part.
            RequestInvalid: the instance says that the client did not do its own.
            ClientGone: `abandon` was called.

        """
        try:
            connection = pool.take()
            reused = connection is not None
            connection = connection or await self._connect(pool)
            try:
                return await self._on(connection, head, body)
            except UpstreamBroke:
                if not (reused and self._untouched):
                    raise
            # The instance closed the idle connection just as we wrote on it: once more, on a fresh one.
            return await self._on(await self._connect(pool), head, body)
        finally:
            self._phase = "over"
            if self._timer is not None:
                self._timer.cancel()

    def abandon(self, error: RouterError) -> None:
        """End it from outside: the client has gone, or the instance was found dead. Upstream is closed at once."""
        if self._abandoned is None:
            self._abandoned = error
            if self._connecting is not None:
                self._connecting.reschedule(asyncio.get_running_loop().time())
        self._finish(None if self._whole else error)

    @property
    def plain(self) -> bool:
        """It is silent until its answer is whole, so that no deadline but the whole call's can judge it."""
        return self._stream is None

    # ------------------------------------------------------------ one connection

    async def _connect(self, pool: ConnectionPool) -> UpstreamConnection:
        """Open a connection, unless the attempt is abandoned first: to a host that is gone it takes seconds."""
        if self._abandoned is not None:
            raise self._abandoned
        try:
            # A timeout without a time: to let it pass now is a way to end this wait from outside, without a task.
            async with asyncio.timeout(None) as self._connecting:
                return await pool.connect()
        except TimeoutError:
            if self._abandoned is None:
                raise
            raise self._abandoned from None
        finally:
            self._connecting = None

    async def _on(self, connection: UpstreamConnection, head: bytes, body: bytes) -> Answer | None:
        if self._abandoned is not None:
            connection.close()
            raise self._abandoned
        self._done = asyncio.get_running_loop().create_future()
        self._phase = "head"
        self._untouched = False
        self._connection = connection
        self._last_byte_s = monotonic_s()
        self._arm()
        connection.send(head, body, self)
        self.on_sent(self._last_byte_s)
        try:
            return await self._done
        finally:
            if self._connection is not None:  # only when this task was cancelled
                self._connection.abandon()

    def _finish(self, result: RouterError | Answer | None) -> None:
        """The one way out. After a failure, what may still come from the instance is not wanted any more."""
        connection, self._connection = self._connection, None
        self._phase = "over"
        if self._done is None or self._done.done():
            return
        if isinstance(result, RouterError):
            if connection is not None:
                connection.abandon()
            self._done.set_exception(result)
        else:
            self._done.set_result(result)

    # ------------------------------------------------------------ Sink

    def head(self, status: int, headers: list[Header]) -> None:
        """Decide whether it will be streamed or collected."""
        self._last_byte_s = monotonic_s()
        self._status = status
        self._headers = headers
        kind = next((value for name, value in headers if name == b"content-type"), b"")
        if self._stream is not None and status == 200 and kind.startswith(_EVENT_STREAM):
            self._phase = "stream"
            if self._deadlines.idle_s < self._deadlines.head_s:
                self._arm()  # the deadline has moved nearer, and the timer would find out too late
            self.on_begun()
        else:
            self._phase = "body"

    def data(self, chunk: bytes) -> None:
        """Pass a piece of a stream on; collect a piece of anything else."""
        if self._phase == "stream":
            self._flow(chunk)
            return
        self._size_bytes += len(chunk)
        if self._size_bytes > MAX_PLAIN_BYTES:
            self._finish(self._broke(f"sent more than {MAX_PLAIN_BYTES} bytes in one answer"))
            return
        self._parts.append(chunk)

    def framed(self, frame: bytes, start: int) -> bool:
        """The hot path: once per token. The common event does not leave its framing."""
        stream, client = self._stream, self._client
        if stream is None or client is None:
            return False
        out = stream.through(frame, start)
        if out is None:
            return False
        self._last_byte_s = self.last_event_s = now_s = monotonic_s()
        client.write_frame(out, now_s)
        return True

    def ended(self) -> None:
        """Judge what has come."""
        if self._phase == "over":
            return
        if self._phase == "stream":
            self._last_words()
            self._finish(None if self._whole else self._stream_error or self._broke("ended the stream in the middle"))
            return
        body = b"".join(self._parts)
        if self._status == 200 and self._stream is None:
            self.on_committed()
            self._finish(Answer(self._status, self._headers, body))
        elif self._status == 200:
            self._finish(self._broke("did not stream its answer"))
        else:
            asked = next((value for name, value in self._headers if name == b"retry-after"), b"")
            wait_s = int(asked) if asked.isdigit() else None
            error = to_error(self._status, read_fault(body), instance_id=self.instance.id, retry_after_s=wait_s)
            self._finish(error)

    def failed(self, error: UpstreamFailed, *, untouched: bool) -> None:
        """The connection is gone. A body torn off is a cut, whatever was said before it."""
        self._connection = None
        self._untouched = untouched
        self._finish(None if self._whole else error)

    # ------------------------------------------------------------ streaming

    def _flow(self, chunk: bytes) -> None:
        """What is not one common event alone: the first and the last, several at once, a part of one."""
        stream, client = self._stream, self._client
        if stream is None or client is None or self._phase == "over":
            return
        self._last_byte_s = now_s = monotonic_s()
        try:
            out = stream.feed(chunk)
        except (msgspec.DecodeError, EventTooLarge, KeyError):
            self._finish(self._broke("sent an event that cannot be read"))
            return
        if out:
            self._say(client, out, now_s)
        if stream.error is not None:
            self._finish(stream.error)
        elif stream.ended:
            self._last_event()

    def _last_words(self) -> None:
        """The body is over, in good order: some servers say the end of an answer only so."""
        if self._stream is None or self._client is None or self._whole or self._stream.error is not None:
            return
        out = self._stream.finish()
        if self._stream.ended:
            self._say(self._client, out, monotonic_s())
            self._client.end()

    def _say(self, client: ClientStream, out: bytes, now_s: float) -> None:
        """Pass events on; the first ones commit this attempt."""
        if self.first_event_s is None:
            self.first_event_s = now_s
            self.on_committed()
            client.begin(*self._begin_with)
        self.last_event_s = now_s
        client.write(out)

    @property
    def _stream_error(self) -> RouterError | None:
        return self._stream.error if self._stream is not None else None

    def _last_event(self) -> None:
        """The answer is whole at message_stop, whatever becomes of the connection; its last chunk frees that."""
        if self._client is not None:
            self._client.end()
        self._arm()

    @property
    def _whole(self) -> bool:
        return self._stream is not None and self._stream.ended

    def writable(self, can_write: bool) -> None:
        """The client's socket filled or drained: read from the instance only as fast as the client does."""
        self._paused = not can_write
        if self._connection is None:
            return
        if can_write:
            self._last_byte_s = monotonic_s()
            self._connection.resume()
            self._arm()  # the pause had no deadline but the whole call's
        else:
            self._connection.pause()
        self.on_reading(can_write)

    # ------------------------------------------------------------ deadlines

    def _due_s(self) -> float:
        """When to give up, if nothing more comes."""
        if self._whole:
            return self._last_byte_s + CLOSING_S
        if self._paused:
            return self._ends_s
        if self._phase == "stream":
            return min(self._last_byte_s + self._deadlines.idle_s, self._ends_s)
        if self._stream is not None:
            return min(self._last_byte_s + self._deadlines.head_s, self._ends_s)
        return self._ends_s

    def _arm(self) -> None:
        """Set the timer. Later bytes move the deadline, not the timer: it looks again when it fires."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, self._due_s() - monotonic_s()), self._on_timer)

    def _on_timer(self) -> None:
        if self._phase == "over":
            return
        if monotonic_s() < self._due_s() - 0.001:
            self._arm()
            return
        if self._phase == "stream" and self._due_s() < self._ends_s:
            self._last_words()  # it may be whole but for its usage and the end of its body
        if self._whole:
            if self._connection is not None:
                self._connection.abandon()
            self._finish(None)
            return
        if self._due_s() >= self._ends_s:
            self._finish(CallTooLong(f"the call took longer than {self._deadlines.call_s:g} s"))
            return
        silent_s = monotonic_s() - self._last_byte_s
        self._finish(
            UpstreamTimedOut(
                f"instance {self.instance.id} was silent for {silent_s:.0f} s", instance_id=self.instance.id
            )
        )

    def _broke(self, what: str) -> UpstreamBroke:
        return UpstreamBroke(f"instance {self.instance.id} {what}", instance_id=self.instance.id)


def _nothing(*_: object) -> None:
    """Nobody wants to know."""
