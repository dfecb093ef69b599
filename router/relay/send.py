"""To the client: the head once, then bytes, pings against silence, and an end that is never taken for a whole answer.

`Link` is the client's side of a call as the relay needs it; `edge.protocol` implements it on the connection itself,
so that a token travels from the instance's socket to the client's in one turn of the event loop, without waking a
task.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from router.clock import monotonic_s
from router.errors import RouterError
from router.relay.voice import Telling, Voice

Header = tuple[bytes, bytes]

_STREAM_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx in front of us would collect the tokens
)


class Link(Protocol):
    """One request's connection. After the client has gone every write does nothing and raises nothing."""

    @property
    def gone(self) -> bool:
        """The client has closed its connection."""

    @property
    def started(self) -> bool:
        """The head of the answer is out."""

    async def read_body(self) -> bytes:
        """Return the whole request body. Raises ClientGone."""

    def interrupt(self, error: RouterError) -> None:
        """Have `read_body` raise this if it still waits."""

    def watch(
        self, *, on_gone: Callable[[], None] | None = None, on_writable: Callable[[bool], None] | None = None
    ) -> None:
        """Say whom to call when the client leaves, and when its socket fills (False) and drains (True)."""

    def respond(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Send a whole answer at once."""

    def begin(self, status: int, headers: Sequence[Header]) -> None:
        """Send the head of an answer whose length is not known."""

    def write(self, data: bytes) -> None:
        """Send a piece of it."""

    def write_frame(self, frame: bytes) -> None:
        """Send a piece that is in chunked framing already."""

    def end(self) -> None:
        """End it cleanly."""


class ClientStream:
    """A streamed answer, from before its first byte to its end.

    It is never silent for longer than `hold_s`: when nothing has come by then, the client gets its 200 and a ping, and
    from that moment every failure is an event in the stream.
    """

    __slots__ = ("_ended", "_headers", "_hold_s", "_last_s", "_link", "_request_id", "_timer", "_voice", "bytes_out")

    def __init__(self, link: Link, *, voice: Voice, request_id: str, headers: Sequence[Header], hold_s: float) -> None:
        """`headers`: what the answer has whichever instance gives it."""
        self._link = link
        self._voice = voice
        self._request_id = request_id
        self._headers = headers
        self._hold_s = hold_s
        self._last_s = monotonic_s()
        self._ended = False
        self.bytes_out = 0
        self._timer = asyncio.get_running_loop().call_later(hold_s, self._on_silence)

    def __repr__(self) -> str:
        state = "ended" if self._ended else "begun" if self.begun else "held"
        return f"ClientStream({state}, {self.bytes_out} bytes)"

    @property
    def begun(self) -> bool:
        """The head is out: a status can no longer tell of a failure."""
        return self._link.started

    def begin(self, headers: Sequence[Header], told_late: bytes) -> None:
        """Send the head, with the headers that name the instance.

        When the head went out earlier, `told_late` (an SSE comment) says what those headers would have said.
        """
        if self.begun:
            self.write(told_late)
        else:
            self._link.begin(200, (*_STREAM_HEADERS, *self._headers, *headers))

    def write(self, data: bytes) -> None:
        """Send events, whole ones."""
        self._last_s = monotonic_s()
        self.bytes_out += len(data)
        self._link.write(data)

    def write_frame(self, frame: bytes, now_s: float) -> None:
        """Send one whole event in chunked framing; `now_s` because the caller has just asked."""
        self._last_s = now_s
        self.bytes_out += len(frame)
        self._link.write_frame(frame)

    def end(self) -> None:
        """End cleanly: message_stop, or the one error event, has been written."""
        if not self._ended:
            self._ended = True
            self._timer.cancel()
            self._link.end()

    def fail(self, told: Telling) -> None:
        """End a begun stream with its one error event; one that has ended stays as it is."""
        if self._ended:
            return
        self.write(self._voice.error_event(told, self._request_id))
        self.end()

    def drop(self) -> None:
        """Stop minding it: the answer is given elsewhere, or the client has gone."""
        self._ended = True
        self._timer.cancel()

    def _on_silence(self) -> None:
        if self._ended or self._link.gone:
            return
        quiet_s = monotonic_s() - self._last_s
        if quiet_s < self._hold_s * 0.99:  # timers may fire a little early
            self._arm(self._hold_s - quiet_s)
            return
        if not self.begun:
            self._link.begin(200, (*_STREAM_HEADERS, *self._headers))
        self.write(self._voice.ping)
        self._arm(self._hold_s)

    def _arm(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_silence)
