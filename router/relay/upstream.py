"""HTTP/1.1 client for the hot path: one connection to one instance, callbacks instead of awaits.

Whoever sends a request hands over a Sink, and the bytes of the answer are pushed into it in the same turn of the event
loop in which they arrived: no task is woken per token. httptools (llhttp) does the parsing.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from router.errors import UpstreamBroke, UpstreamFailed
from router.fleet.instance import Instance

Header = tuple[bytes, bytes]

# Up to this size copying the body behind its head is cheaper than a second buffer.
JOINED_BYTES = 64 * 1024
# Hex digits and the line break of a chunk head without extensions.
_MAX_CHUNK_HEAD = 10
_HEX_DIGITS = b"0123456789abcdefABCDEF"


class Sink(Protocol):
    """Who receives an answer. `failed` or `ended` comes last and exactly once, and nothing after it."""

    def head(self, status: int, headers: list[Header]) -> None:
        """The status and the headers, names in lower case."""

    def data(self, chunk: bytes) -> None:
        """A piece of the body, never empty, without its chunked framing."""

    def framed(self, frame: bytes, start: int) -> bool:
        """Offered before `data`: one whole chunk of a chunked body in its framing; its content begins at `start`.

        True: taken. False: it comes again as `data`. A relay whose client reads chunks too need not unpack the common
        token event only to pack it again.
        """

    def ended(self) -> None:
        """The body is whole."""

    def failed(self, error: UpstreamFailed, *, untouched: bool) -> None:
        """The answer will not be whole. `untouched`: a reused connection died before any byte of the answer.

        Then the instance most likely never read the request (it closed an idle connection as we wrote), and it is
        safe to send it again on a fresh one.
        """


class UpstreamConnection(asyncio.Protocol):
    """One connection. It carries one call at a time; `on_free` is told when it may carry the next."""

    __slots__ = (
        "_aligned",
        "_at_chunk_end",
        "_headers",
        "_informational",
        "_on_free",
        "_parser",
        "_reusable",
        "_saw_head",
        "_saw_length",
        "_sink",
        "_touched",
        "idle_since_s",
        "instance",
        "transport",
        "uses",
    )

    def __init__(self, instance: Instance, on_free: "Callable[[UpstreamConnection], None]") -> None:
        self.instance = instance
        self.transport: asyncio.Transport | None = None
        self.uses = 0
        self.idle_since_s = 0.0
        self._on_free = on_free
        self._parser = httptools.HttpResponseParser(self)
        self._sink: Sink | None = None
        self._headers: list[Header] = []
        self._informational = False
        self._aligned = self._at_chunk_end = False
        self._touched = False
        self._reusable = True
        self._saw_length = self._saw_head = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self._sink else "idle"
        return f"UpstreamConnection({self.instance.id}, {state}, used {self.uses} times)"

    @property
    def closed(self) -> bool:
        """It cannot carry another call."""
        return self.transport is None or self.transport.is_closing()

    # ------------------------------------------------------------ what the relay calls

    def send(self, head: bytes, body: bytes, sink: Sink) -> None:
        """Write a request; the answer goes to `sink`. The connection must be free."""
        transport = self.transport
        if transport is None or transport.is_closing():
            sink.failed(self._broke("closed its connection"), untouched=self.uses > 0)
            return
        self._sink = sink
        self._headers = []
        self._touched = self._aligned = self._saw_length = self._saw_head = False
        self.uses += 1
        if len(body) < JOINED_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    def pause(self) -> None:
        """Read no more until `resume`: the client is slower than the instance."""
        if not self.closed:
            self.transport.pause_reading()  # type: ignore[union-attr]  # closed looked

    def resume(self) -> None:
        """Read on."""
        if not self.closed:
            self.transport.resume_reading()  # type: ignore[union-attr]  # closed looked

    def abandon(self) -> None:
        """Close now and tell nobody: the call is over for us. llama-server sees it and frees the slot."""
        self._sink = None
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        if self.transport is not None:
            self.transport.close()

    # ------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=0)  # write at once: see edge.protocol

    def data_received(self, data: bytes) -> None:
        """Parse; whatever the parser finds goes straight into the sink."""
        if self._sink is None:
            # Bytes that nobody asked for: what follows could be taken for the next call's answer.
            self.abandon()
            return
        if self._aligned:
            # Whole chunks leave the parser where it is, so one that is taken as it stands need not be shown to it.
            start = data.find(b"\r\n", 1, _MAX_CHUNK_HEAD) + 2
            if start > 2 and _is_one_chunk(data, start) and self._sink.framed(data, start):
                return
        self._touched = True
        self._at_chunk_end = False
        try:
            self._parser.feed_data(data)
            # Nothing but a chunk's end can be the last callback of a read that ends in a line break and leaves the
            # parser between two chunks: a chunk head would have called back, and half a head has no line break.
            self._aligned = self._at_chunk_end and data.endswith(b"\r\n")
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("sent something that is not HTTP")

    def eof_received(self) -> bool:
        """Let the transport close itself."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer without length and without chunks ends here; any other is cut."""
        self.transport = None
        if self._sink is None:
            return
        if exc is None and self._saw_head and not self._saw_length:
            sink, self._sink = self._sink, None
            sink.ended()
            return
        self._fail("closed its connection before the answer was whole")

    # ------------------------------------------------------------ httptools callbacks

    def on_message_begin(self) -> None:
        """An answer begins; one behind the answer, in the same read, is nobody's."""
        if self._sink is None:
            self.abandon()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect."""
        name = name.lower()
        if name in {b"content-length", b"transfer-encoding"}:
            self._saw_length = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Tell the sink. An informational head (100 Continue, 103) is no answer: llhttp reports it as a message."""
        status = self._parser.get_status_code()
        self._informational = status < 200
        if self._informational:
            self._headers = []
            return
        self._saw_head = True
        # llama-server closes after every status of 400 or more, whatever its header says.
        self._reusable = self._parser.should_keep_alive() and status < 400
        if self._sink is not None:
            self._sink.head(status, self._headers)

    def on_body(self, chunk: bytes) -> None:
        """Pass on."""
        if self._sink is not None:
            self._sink.data(chunk)

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._at_chunk_end = False

    def on_chunk_complete(self) -> None:
        """It is whole."""
        self._at_chunk_end = True

    def on_message_complete(self) -> None:
        """Free the connection first, so that the sink may start the next call on it at once."""
        if self._informational:
            return
        self._at_chunk_end = False
        sink, self._sink = self._sink, None
        if self._reusable and not self.closed:
            self._on_free(self)
        else:
            self.close()
        if sink is not None:
            sink.ended()

    # ------------------------------------------------------------

    def _fail(self, what: str) -> None:
        sink, self._sink = self._sink, None
        untouched = not self._touched and self.uses > 1
        self.abandon()
        if sink is not None:
            sink.failed(self._broke(what), untouched=untouched)

    def _broke(self, what: str) -> UpstreamBroke:
        return UpstreamBroke(f"instance {self.instance.id} {what}", instance_id=self.instance.id)


def _is_one_chunk(data: bytes, start: int) -> bool:
    """Say whether `data` is one whole chunk, no more and no less; its content begins at `start`."""
    digits = data[: start - 2]
    if digits.strip(_HEX_DIGITS):  # int() would also take signs, spaces, underscores and 0x
        return False
    size = int(digits, 16)
    return len(data) == start + size + 2 and data.endswith(b"\r\n")
