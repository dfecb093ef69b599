"""ClientLink: one request on its connection, as the relay writes to it and as ASGI sees it."""

import itertools
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from router.errors import ClientGone, RouterError

Header = tuple[bytes, bytes]

_log = logging.getLogger("llama_router")
EXTENSION = "llama_router"

# Sixteen digits that no other process has, and a count: unique, cheap, and in the order of arrival.
_PROCESS = secrets.token_hex(8)
_numbers = itertools.count(1)


def new_request_id() -> str:
    """`req_` and 24 hex digits."""
    return f"req_{_PROCESS}{next(_numbers):08x}"


class ClientLink(RequestResponseCycle):
    """One request: uvicorn's cycle, which Litestar uses, and the Link that the relay writes to directly."""

    request_id: str
    headers: Sequence[Header]
    _interrupted: RouterError | None = None
    relay_headers: Sequence[Header] = ()
    _framed = True
    _on_gone: Callable[[], None] | None = None
    _on_writable: Callable[[bool], None] | None = None
    _on_growth: Callable[[int], None] | None = None
    _said_late = False

    def prepare(self, headers: Sequence[Header]) -> None:
        """Take what the head said. Called once, in place of a longer __init__."""
        self.headers = headers
        self.request_id = new_request_id()
        self.parts: list[bytes] = []
        self.size_bytes = 0

    # ------------------------------------------------------------ Link

    @property
    def gone(self) -> bool:
        """The client has closed its connection."""
        return self.disconnected

    @property
    def started(self) -> bool:
        """The head of the answer is out."""
        return self.response_started

    def watch(
        self,
        *,
        on_gone: Callable[[], None] | None = None,
        on_writable: Callable[[bool], None] | None = None,
    ) -> None:
        """Say whom to tell; both are called from the event loop, outside any task."""
        self._on_gone = on_gone
        self._on_writable = on_writable
        if self.disconnected and on_gone is not None:
            on_gone()

    def weigh(self, grown: Callable[[int], None] | None) -> None:
        """Say whom to tell by how many bytes the body has grown, beginning with what is there; None: nobody any more.

        What it raises refuses the request.
        """
        self._on_growth = grown
        if grown is not None and self.size_bytes:
            grown(self.size_bytes)

    def take(self, part: bytes) -> None:
        """A part of the body has come; it is joined with the others once."""
        self.size_bytes += len(part)
        self.parts.append(part)
        if self._on_growth is not None:
            self._on_growth(len(part))

    async def read_body(self) -> bytes:
        """Return the whole body, waiting for what has not come.

        Raises:
            ClientGone: the client left, or was refused, before it was whole.
            RouterError: what `interrupt` was given.

        """
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        while self.more_body and not self.disconnected and self._interrupted is None:
            self.message_event.clear()
            await self.message_event.wait()
        if self._interrupted is not None:
            raise self._interrupted
        if self.disconnected:
            raise ClientGone("the client closed its connection before its request was whole")
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts = []
        return body

    def interrupt(self, error: RouterError) -> None:
        """Wait for the rest of the body no longer: `read_body` raises this."""
        if self.more_body:
            self._interrupted = error
            self.keep_alive = False
            self.message_event.set()

    def respond(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Send a whole answer in one write."""
        if self.response_complete:
            self._say_late()
            return
        if self.disconnected:
            return
        self.response_started = True
        head = self._head(status, headers)
        head.append(b"content-length: %d\r\n\r\n" % len(body))
        if self.scope["method"] != "HEAD":
            head.append(body)
        self.transport.write(b"".join(head))
        self._complete()

    def begin(self, status: int, headers: Sequence[Header]) -> None:
        """Send the head of a chunked answer."""
        if self.response_complete:
            self._say_late()
            return
        if self.disconnected:
            return
        self.response_started = True
        self._framed = self.chunked_encoding = self.scope["http_version"] != "1.0"
        head = self._head(status, headers)
        # HTTP/1.0 knows no chunks: there the end of the connection ends the answer.
        head.append(b"transfer-encoding: chunked\r\n\r\n" if self._framed else b"\r\n")
        self.transport.write(b"".join(head))

    def write(self, data: bytes) -> None:
        """Send one chunk."""
        if self.response_complete:
            self._say_late()
        elif not self.disconnected:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._framed else data)

    def write_frame(self, frame: bytes) -> None:
        """Send one chunk that is framed already."""
        if self.response_complete:
            self._say_late()
        elif not self.disconnected:
            self.transport.write(frame if self._framed else frame[frame.index(b"\r\n") + 2 : -2])

    def end(self) -> None:
        """Send the last chunk."""
        if self.response_complete:
            self._say_late()
        elif not self.disconnected:
            if self._framed:
                self.transport.write(b"0\r\n\r\n")
            self._complete()

    def _say_late(self) -> None:
        """The answer is over, and what was to be written would be taken for the next one: dropped, and told once.

        A fault of ours, whoever wrote it.
        """
        if not self._said_late:
            self._said_late = True
            _log.error("request %s: something was written after the end of its answer, and dropped", self.request_id)

    def _head(self, status: int, headers: Sequence[Header]) -> list[bytes]:
        # Names and values are ours, or came through a parser that refuses line breaks: no further check per header.
        every = (*self.default_headers, *self.relay_headers, *headers)
        parts = [STATUS_LINE[status], *[b"%b: %b\r\n" % header for header in every]]
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        return parts

    def _complete(self) -> None:
        self.response_complete = True
        self._on_gone = self._on_writable = None
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    # ------------------------------------------------------------ what the protocol tells

    def client_left(self) -> None:
        """The connection is gone, or the request was refused: nothing more comes and nobody listens."""
        if self.response_complete or self.disconnected:
            return
        self.disconnected = True
        self.message_event.set()
        on_gone, self._on_gone = self._on_gone, None
        if on_gone is not None:
            on_gone()

    def socket_writable(self, can_write: bool) -> None:  # a callback with one meaning
        """The client's socket filled or drained."""
        if self._on_writable is not None:
            self._on_writable(can_write)

    async def receive(self) -> Any:
        """ASGI, for everything that is not relayed."""
        if self.response_complete:
            return {"type": "http.disconnect"}
        try:
            body = await self.read_body()
        except ClientGone:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}
