"""Our side of a client's connection: uvicorn's httptools protocol with limits, deadlines, enveloped refusals, a Link.

uvicorn answers some bad requests before any application sees them, in plain text, and holds others for ever. Here a
head has 64 KiB, 100 headers and 10 s; a body has its cap and may not pause for 30 s; and whatever is refused gets the
envelope and a request id.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from router.clock import monotonic_s
from router.edge.rescue import tell
from router.errors import (
    ClientGone,
    HeadTooLarge,
    RequestInvalid,
    RequestStalled,
    RequestTooLarge,
    RouterError,
)
from router.wire.anthropic import error_body

Header = tuple[bytes, bytes]

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
HEAD_DEADLINE_S = 10.0
BODY_DEADLINE_S = 30.0
# After a refusal we go on reading for a while and throw it away: closing with unread bytes would reset the connection,
# and a client that is still sending would lose the answer.
LINGER_S = 5.0
LINGER_BYTES = 64 * 1024 * 1024
SWEEP_S = 1.0

EXTENSION = "llama_router"

# Sixteen digits that no other process has, and a count: unique, cheap, and in the order of arrival.
_request_ids = (f"req_{secrets.token_hex(8)}{number:08x}" for number in itertools.count(1))
new_request_id = _request_ids.__next__


class ClientLink(RequestResponseCycle):
    """One request: uvicorn's cycle, which Litestar uses, and the Link that the relay writes to directly."""

    request_id: str
    headers: Sequence[Header]
    _on_gone: Callable[[], None] | None = None
    _on_writable: Callable[[bool], None] | None = None

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

    @property
    def write_paused(self) -> bool:
        """The client's socket is full."""
        return self.flow.write_paused

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

    async def read_body(self) -> bytes:
        """Return the whole body, waiting for what has not come.

        Raises:
            ClientGone: the client left, or was refused, before it was whole.

        """
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        while self.more_body and not self.disconnected:
            self.message_event.clear()
            await self.message_event.wait()
        if self.disconnected:
            raise ClientGone("the client closed its connection before its request was whole")
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts = []
        return body

    def respond(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Send a whole answer in one write."""
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
        if self.disconnected:
            return
        self.response_started = True
        self.chunked_encoding = True
        head = self._head(status, headers)
        head.append(b"transfer-encoding: chunked\r\n\r\n")
        self.transport.write(b"".join(head))

    def write(self, data: bytes) -> None:
        """Send one chunk."""
        if not self.disconnected:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def write_frame(self, frame: bytes) -> None:
        """Send one chunk that is framed already."""
        if not self.disconnected:
            self.transport.write(frame)

    def end(self) -> None:
        """Send the last chunk."""
        if not self.disconnected:
            self.transport.write(b"0\r\n\r\n")
            self._complete()

    def cut(self) -> None:
        """Close without the last chunk."""
        self.transport.close()

    def _head(self, status: int, headers: Sequence[Header]) -> list[bytes]:
        # Names and values are ours, or came through a parser that refuses line breaks: no further check per header.
        parts = [STATUS_LINE[status], *[b"%b: %b\r\n" % header for header in (*self.default_headers, *headers)]]
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


class RouterProtocol(HttpToolsProtocol):
    """One client connection. `configure` sets the caps for the process; `sweep` keeps the deadlines for all of them."""

    max_body_bytes = 32 * 1024 * 1024
    max_connections = 4096
    cycle: ClientLink  # we make them, in on_headers_complete
    alive: ClassVar[set["RouterProtocol"]] = set()
    on_refusal: Callable[[RouterError], None] = staticmethod(lambda error: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase = "idle"  # idle | head | body | answer | refused
        self._progress_s = self._head_since_s = monotonic_s()
        self._head_bytes = self._size_of_head = 0
        self._discarded_bytes = 0
        self._refusal: RouterError | None = None

    # ------------------------------------------------------------ bytes

    def data_received(self, data: bytes) -> None:
        """Parse, within the limits."""
        if self._phase == "refused":
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self._progress_s = monotonic_s()
        if self._phase == "idle":
            self._phase = "head"
            self._head_since_s = self._progress_s
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.refuse(RequestInvalid("this endpoint does not upgrade connections; use plain HTTP/1.1"))
        except httptools.HttpParserError as error:
            self.refuse(self._refusal or RequestInvalid(_parser_words(error)))
            return
        if self._phase == "head":
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.refuse(_head_too_large())

    def on_message_begin(self) -> None:
        """A new request, perhaps pipelined behind another."""
        super().on_message_begin()
        self._phase = "head"
        self._size_of_head = 0

    def on_url(self, url: bytes) -> None:
        """Count it in."""
        self._size_of_head += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count it in."""
        self._size_of_head += len(name) + len(value)
        if self._size_of_head > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            self._give_up(_head_too_large())
        name = name.lower()
        if name == b"content-length" and value.isdigit() and (len(value) > 18 or int(value) > self.max_body_bytes):
            self._give_up(_body_too_large(self.max_body_bytes))
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the application, with our cycle in place of uvicorn's."""
        self._head_bytes = 0
        self._phase = "body"
        self._fill_scope()
        link = ClientLink(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self.scope["http_version"] != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        link.prepare(self.headers)
        self.scope["extensions"] = {EXTENSION: link}  # type: ignore[dict-item]
        existing, self.cycle = self.cycle, link
        if existing is None or existing.response_complete:
            self._start_asgi_task(link, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((link, self.app))

    def _fill_scope(self) -> None:
        version = self.parser.get_http_version()
        if version != "1.1":
            self.scope["http_version"] = version
        self.scope["method"] = self.parser.get_method().decode("ascii")
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            self._give_up(RequestInvalid("the request line has a URL that cannot be read"))
        raw_path = url.path or b"/"
        self.scope["path"] = raw_path.decode("ascii", "replace")
        self.scope["raw_path"] = raw_path
        self.scope["query_string"] = url.query or b""

    def on_body(self, body: bytes) -> None:
        """Keep it as it comes; it is joined once."""
        link = self.cycle
        if link.response_complete:
            return
        link.size_bytes += len(body)
        if link.size_bytes > self.max_body_bytes:
            self._give_up(_body_too_large(self.max_body_bytes))
        link.parts.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._phase = "answer"
        link = self.cycle
        link.more_body = False
        link.message_event.set()

    def on_response_complete(self) -> None:
        """The answer is out; the next request of a pipeline, if any, may start."""
        super().on_response_complete()
        if self._phase == "answer":
            self._phase = "idle"
            self._progress_s = monotonic_s()

    # ------------------------------------------------------------ flow

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        # With no room to buffer, uvloop writes at once instead of after another turn of its loop, which saves an
        # epoll_wait per token; and it says at once when the client is slower than the instance.
        transport.set_write_buffer_limits(high=0)
        self.alive.add(self)
        if len(self.connections) > self.max_connections:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that nobody listens any more, and those piped behind it."""
        self.alive.discard(self)
        if self.cycle is not None:
            self.cycle.client_left()
        for link, _ in self.pipeline:
            cast("ClientLink", link).client_left()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        if self.cycle is not None:
            self.cycle.socket_writable(can_write=False)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        if self.cycle is not None:
            self.cycle.socket_writable(can_write=True)

    # ------------------------------------------------------------ refusals

    def refuse(self, error: RouterError) -> None:
        """Answer what never became a request, and close once the client has had time to read it."""
        if self._phase == "refused" or self.transport.is_closing():
            return
        self._phase = "refused"
        self._progress_s = monotonic_s()
        self.on_refusal(error)
        link = self.cycle
        answered = link is not None and link.response_started and not link.response_complete
        if link is not None:
            link.client_left()
        if answered:
            self.transport.close()
            return
        told = tell(error)
        request_id = new_request_id()
        body = error_body(told.type, told.message, request_id)
        head = [
            STATUS_LINE[told.status],
            *[b"%b: %b\r\n" % header for header in self.server_state.default_headers],
        ]
        head.append(
            b"content-type: application/json\r\nrequest-id: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            % (request_id.encode(), len(body))
        )
        self.transport.write(b"".join(head) + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def _give_up(self, error: RouterError) -> None:
        """From inside a parser callback: stop parsing, then refuse."""
        self._refusal = error
        raise error

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has sent its end has nothing more to say to a refusal either."""
        return False

    def check_deadlines(self, now_s: float) -> None:
        """Called by the sweep, about once a second."""
        quiet_s = now_s - self._progress_s
        match self._phase:
            case "head" if now_s - self._head_since_s > HEAD_DEADLINE_S:
                self.refuse(RequestStalled(f"the request head was not complete within {HEAD_DEADLINE_S:g} s"))
            case "body" if quiet_s > BODY_DEADLINE_S:
                self.refuse(RequestStalled(f"no byte of the request body came for {BODY_DEADLINE_S:g} s"))
            case "refused" if quiet_s > LINGER_S:
                self.transport.abort()
            case "idle" if quiet_s > max(self.timeout_keep_alive, HEAD_DEADLINE_S):
                self.transport.close()


def sweep() -> None:
    """Look at the deadlines of every connection; one timer for all of them costs nothing per request."""
    now_s = monotonic_s()
    for connection in list(RouterProtocol.alive):
        connection.check_deadlines(now_s)


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"the request head is larger than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers")


def _body_too_large(cap_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"the request body is larger than {cap_bytes} bytes; shorten the conversation")


def _parser_words(error: httptools.HttpParserError) -> str:
    """Llhttp's reason in our words; its own are kept, since they name the broken rule."""
    return f"the request is not valid HTTP/1.1: {error}".rstrip(": ")
