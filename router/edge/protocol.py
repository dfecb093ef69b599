"""Our side of a client's connection: uvicorn's httptools protocol with limits, deadlines, enveloped refusals.

uvicorn answers some bad requests before any application sees them, in plain text, and holds others for ever. Here a
head has 64 KiB, 100 headers and 10 s; a body has its cap and may not pause for 30 s; and whatever is refused gets the
error object of the API whose path it is, and a request id.
"""

import asyncio
import urllib.parse
from collections.abc import Callable
from typing import Any, ClassVar, Literal, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from router.clock import monotonic_s
from router.config.units import size_words
from router.edge.link import EXTENSION, ClientLink, new_request_id
from router.edge.rescue import headers_of, tell, voice_of
from router.errors import (
    HeadTooLarge,
    RequestInvalid,
    RequestStalled,
    RequestTooLarge,
    RouterError,
    TooManyConnections,
)

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
HEAD_DEADLINE_S = 10.0
BODY_DEADLINE_S = 30.0
# Requests sent ahead on one connection. They are read, so that a client's leaving is noticed; so there must be an end.
MAX_PIPED = 8
# And of the body of each: until its turn comes nobody counts it for its key.
MAX_PIPED_BYTES = 256 * 1024
# After a refusal we go on reading for a while and throw it away: closing with unread bytes would reset the connection,
# and a client that is still sending would lose the answer.
LINGER_S = 5.0
LINGER_BYTES = 64 * 1024 * 1024
SWEEP_S = 1.0
_AT_ONCE = "send it without a pause"
_TLS_HELLO = b"\x16\x03"

# What is being read: nothing, a head, a body; or nothing any more, because something was refused ("refused") or will
# be as soon as the requests before it have been answered ("parked").

Reading = Literal["idle", "head", "body", "refused", "parked"]


class RouterProtocol(HttpToolsProtocol):
    """One client connection. The caps stand on the class, for the process; `sweep` keeps the deadlines for all of them.

    `_active` is the request that is being answered; `cycle` (uvicorn's name) the newest one, which may be piped behind.
    """

    max_body_bytes = 32 * 1024 * 1024
    max_connections = 4096
    on_refusal: Callable[[RouterError], None] = staticmethod(lambda error: None)
    alive: ClassVar[set["RouterProtocol"]] = set()
    cycle: ClientLink  # we make them, in on_headers_complete

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading: Reading = "idle"
        self._progress_s = self._head_since_s = monotonic_s()
        self._head_bytes = self._size_of_head = 0
        self._discarded_bytes = 0
        self._unparsed_bytes = 0
        self._length = 0
        self._active: ClientLink | None = None
        self._refusal: RouterError | None = None

    # ------------------------------------------------------------ bytes

    def data_received(self, data: bytes) -> None:
        """Parse, within the limits."""
        if self._reading in {"refused", "parked"}:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self._progress_s = monotonic_s()
        if self._unparsed_bytes:
            self._take_unparsed(data)
            return
        if self._reading == "idle":
            self._begin_head()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            self.refuse(self._refusal or RequestInvalid(_parser_words(error, data, self._reading)))
            return
        if self._reading == "head":
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.refuse(_head_too_large())

    def _begin_head(self) -> None:
        self._reading = "head"
        self._head_since_s = self._progress_s
        self._head_bytes = 0

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1, as a server may (RFC 9110, 7.8); the parser has stopped, and the body is still to come."""
        self.parser = httptools.HttpRequestParser(self)
        self._unparsed_bytes = self._length
        self._take_unparsed(rest)

    def _take_unparsed(self, data: bytes) -> None:
        body, rest = data[: self._unparsed_bytes], data[self._unparsed_bytes :]
        if body:
            self._unparsed_bytes -= len(body)
            self.on_body(body)
            if not self._unparsed_bytes:
                self.on_message_complete()
        if rest:
            self.data_received(rest)

    # ------------------------------------------------------------ httptools callbacks

    def on_message_begin(self) -> None:
        """A new request, perhaps piped behind another."""
        super().on_message_begin()
        self._begin_head()
        self._size_of_head = self._length = 0

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
        if name == b"content-length" and value.isdigit():
            if len(value) > 18 or int(value) > self.max_body_bytes:
                self._give_up(_body_too_large(self.max_body_bytes))
            self._length = int(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the application, with our cycle in place of uvicorn's."""
        self._fill_scope()
        if self.parser.should_upgrade() and any(name == b"transfer-encoding" for name, _ in self.headers):
            self._give_up(RequestInvalid("a chunked body with an offer to upgrade is not taken; send a Content-Length"))
        if len(self.pipeline) >= MAX_PIPED:
            self._give_up(RequestInvalid(f"more than {MAX_PIPED} requests were sent ahead; wait for their answers"))
        self._reading = "body"
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
        self.cycle = link
        if self._active is None:
            self._start_asgi_task(link, self.app)
        else:
            self.pipeline.appendleft((link, self.app))

    def _fill_scope(self) -> None:
        version = self.parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            self._give_up(RequestInvalid("the request line names no version that is served here; use HTTP/1.1"))
        self.scope["http_version"] = version
        self.scope["method"] = self.parser.get_method().decode("ascii")
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            self._give_up(RequestInvalid("the request line has a URL that cannot be read; write a path: /v1/messages"))
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii", "replace")
        self.scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        self.scope["raw_path"] = raw_path
        self.scope["query_string"] = url.query or b""

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Keep it as it comes, as long as nobody finds it too much."""
        link = self.cycle
        if link.response_complete:
            return
        if link.size_bytes + len(body) > self.max_body_bytes:
            self._give_up(_body_too_large(self.max_body_bytes))
        if link is not self._active and link.size_bytes + len(body) > MAX_PIPED_BYTES:
            words = "a request that is sent ahead of another's answer may have"
            self._give_up(RequestInvalid(f"{words} {size_words(MAX_PIPED_BYTES)}; wait for that answer first"))
        try:
            link.take(body)
        except RouterError as error:
            self._give_up(error)

    def on_message_complete(self) -> None:
        """The request is whole; one that offers an upgrade is only when its body has come too."""
        if self._length and self.parser.should_upgrade():
            return
        self._reading = "idle"
        link = self.cycle
        link.more_body = False
        link.message_event.set()

    def on_response_complete(self) -> None:
        """The answer is out; the next request that is piped behind it may start, or what was wrong with one be told."""
        self._active = None
        self._progress_s = monotonic_s()
        super().on_response_complete()
        if self._reading == "parked" and self._active is None and self._refusal is not None:
            self._reading = "idle"
            self.refuse(self._refusal)

    # ------------------------------------------------------------ flow

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        # With no room to buffer, uvloop writes at once instead of after another turn of its loop, which saves an
        # epoll_wait per token; and it says at once when the client is slower than the instance.
        transport.set_write_buffer_limits(high=0)
        self.alive.add(self)
        if len(self.connections) > self.max_connections:
            self.on_refusal(TooManyConnections(f"more than {self.max_connections} connections", retry_after_s=5))
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that nobody listens any more, and those piped behind it."""
        self.alive.discard(self)
        self._clients_left()
        super().connection_lost(exc)

    def _clients_left(self) -> None:
        for link, _ in self.pipeline:
            cast("ClientLink", link).client_left()
        self.pipeline.clear()
        if self._active is not None:
            self._active.client_left()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        if self._active is not None:
            self._active.socket_writable(can_write=False)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        if self._active is not None:
            self._active.socket_writable(can_write=True)

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has sent its end has left: the transport closes itself."""
        return False

    # ------------------------------------------------------------ refusals

    def refuse(self, error: RouterError) -> None:
        """Answer what never became a request, and close once the client has had time to read it.

        Requests that came whole before it are answered first.
        """
        if self._reading in {"refused", "parked"} or self.transport.is_closing():
            return
        if self._reading == "body" and self.cycle.response_complete:
            self.transport.close()  # its answer is out; a second one would be taken for that to the next request
            return
        its_own = self._active is self.cycle and self._reading == "body"
        if self._active is not None and not its_own:
            if self._reading == "body" and self.pipeline:
                self.pipeline.popleft()[0].client_left()  # type: ignore[attr-defined]  # the newest: its body is broken
            self._refusal = error
            self._reading = "parked"
            return
        self._reading = "refused"
        self._progress_s = monotonic_s()
        self.on_refusal(error)
        begun = self._active is not None and self._active.response_started
        request_id = new_request_id()
        if its_own and self._active is not None:
            request_id = self._active.request_id
            self._active.interrupt(error)  # so that the call's record tells the real cause, under the same id
        self._clients_left()
        if begun:
            self.transport.close()
            return
        self.transport.write(self._refusing(error, request_id))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def _refusing(self, error: RouterError, request_id: str) -> bytes:
        told = tell(error)
        body = voice_of((self.url or b"").decode("latin-1")).error_body(told, request_id)
        head = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        head += [b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in headers_of(error).items()]
        head.append(
            b"content-type: application/json\r\nrequest-id: %b\r\nx-request-id: %b\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n" % (request_id.encode(), request_id.encode(), len(body))
        )
        return STATUS_LINE[told.status] + b"".join(head) + body

    def _give_up(self, error: RouterError) -> None:
        """From inside a parser callback: stop parsing, then refuse."""
        self._refusal = error
        raise error

    def check_deadlines(self, now_s: float) -> None:
        """Called by the sweep, about once a second. A head piped behind a call has time until its turn comes."""
        quiet_s = now_s - self._progress_s
        match self._reading:
            case "head" if self._active is not None:
                self._head_since_s = now_s
            case "head" if now_s - self._head_since_s > HEAD_DEADLINE_S:
                self.refuse(
                    RequestStalled(f"the request head was not complete within {HEAD_DEADLINE_S:g} s; {_AT_ONCE}")
                )
            case "body" if quiet_s > BODY_DEADLINE_S:
                self.refuse(RequestStalled(f"no byte of the request body came for {BODY_DEADLINE_S:g} s; {_AT_ONCE}"))
            case "refused" if quiet_s > LINGER_S:
                self.transport.abort()
            case "idle" if self._active is None and quiet_s > max(self.timeout_keep_alive, HEAD_DEADLINE_S):
                self.transport.close()


def sweep() -> None:
    """Look at the deadlines of every connection; one timer for all of them costs nothing per request."""
    now_s = monotonic_s()
    for connection in list(RouterProtocol.alive):
        connection.check_deadlines(now_s)


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(
        f"the request head is larger than {size_words(MAX_HEAD_BYTES)} or has more than {MAX_HEADERS} headers; "
        "send fewer or shorter ones"
    )


def _body_too_large(cap_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"the request body is larger than {size_words(cap_bytes)}; shorten the conversation")


def _parser_words(error: httptools.HttpParserError, data: bytes, reading: Reading) -> str:
    """Llhttp's reason, which names the broken rule, and what to do in ours. `data`: what it could not read."""
    if reading == "head" and data.startswith(_TLS_HELLO):
        return "this port speaks plain HTTP and was sent TLS; write http:// in the client's base URL"
    fix = "a chunk is its size in hex, CRLF, its bytes, CRLF" if reading == "body" else "send what RFC 9112 describes"
    return f"the request is not valid HTTP/1.1: {error}".rstrip(": ") + f"; {fix}"
