"""One call as the client hears it: when the first words came, what was used, and what the router said of it."""

import asyncio
import re
import time
from typing import cast

import httptools
import msgspec

from benchmarks.answers import Protocol

_ROUTERS = "x-router-"
_CHAT_WORDS = re.compile(rb'"content":\s*"[^"]')
_MESSAGE_WORDS = re.compile(rb'"text_delta"')


class Heard(msgspec.Struct, kw_only=True):
    """What is known of a call so far. Tokens are None until they are told; times are seconds since it was sent."""

    ttft_s: float | None = None
    total_s: float = 0.0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    request_id: str = ""
    router: dict[str, str] = {}
    error: str = ""


class _Usage(msgspec.Struct, frozen=True):
    """Both protocols' usage: those of the other are absent."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: dict[str, int | None] | None = None


class _Message(msgspec.Struct, frozen=True):
    usage: _Usage | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str = ""
    message: _Message | None = None
    usage: _Usage | None = None
    error: object = None


_event = msgspec.json.Decoder(_Event)


class Ear(asyncio.Protocol):
    """Sends a request and listens until the answer is over, whole or not; `heard` is filled as it comes."""

    def __init__(self, request: bytes, protocol: Protocol) -> None:
        self.heard = Heard()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._words = _MESSAGE_WORDS if protocol is Protocol.MESSAGES else _CHAT_WORDS
        self._last = protocol.last
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._sent_s = 0.0
        self._rest = b""
        self._status = 0
        self._whole = False
        self._ended = False

    def __repr__(self) -> str:
        return f"Ear[{self.heard!r}]"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send at once."""
        self._transport = cast("asyncio.Transport", transport)
        self._sent_s = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take a piece of the answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end("not HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        """Without a length or chunks this is how an answer ends; else it is lost before its end."""
        self._end("" if self._whole and self._status == 200 else "cut off")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the router's own."""
        key = name.decode("latin-1").lower()
        if key.startswith(_ROUTERS):
            self.heard.router = {**self.heard.router, key: value.decode("latin-1")}
        elif key in ("request-id", "x-request-id"):
            self.heard.request_id = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The status is known now."""
        self._status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """Look at each line of the stream."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)

    def on_message_complete(self) -> None:
        """The answer is over."""
        if self._status != 200:
            self._end(f"status {self._status}")
        else:
            self._end("" if self._whole else "stream not complete")

    def give_up(self, why: str) -> None:
        """Hang up, unless it is over."""
        self._end(why)

    def _line(self, line: bytes) -> None:
        if line.startswith(b": " + _ROUTERS.encode()):  # told in the stream when its head had to go out before
            told = (part.partition(":") for part in line[2:].decode("latin-1").split("; "))
            said = {name.strip(): value.strip() for name, _, value in told if name.strip().startswith(_ROUTERS)}
            self.heard.router = {**self.heard.router, **said}
            return
        if self._last in line:
            self._whole = True
        if line.startswith(b"event: error"):  # llama-server's own has no field that says so
            self._end("error event")
        if not line.startswith(b"data:"):
            return
        if self.heard.ttft_s is None and self._words.search(line):
            self.heard.ttft_s = time.perf_counter() - self._sent_s
        if b'"usage"' in line or b'"error"' in line:
            self._tell(line[5:])

    def _tell(self, data: bytes) -> None:
        try:
            event = _event.decode(data)
        except msgspec.DecodeError:
            return
        if event.error is not None or event.type == "error":
            self._end("error event")
            return
        usage = event.usage or (event.message.usage if event.message is not None else None)
        if usage is not None:
            _take(self.heard, usage)

    def _end(self, error: str) -> None:
        if self._ended:
            return
        self._ended = True
        self.heard.total_s = time.perf_counter() - self._sent_s if self._sent_s else 0.0
        self.heard.error = self.heard.error or error
        if not self.over.done():  # whoever waited may have been cancelled, and the future with it
            self.over.set_result(None)
        if self._transport is not None:
            self._transport.abort()


async def listen(ear: Ear, port: int) -> None:
    """Make the call; it has been answered or has failed when this returns. When cancelled, it hangs up."""
    try:
        await asyncio.get_running_loop().create_connection(lambda: ear, "127.0.0.1", port)
        await ear.over
    except OSError:
        ear.give_up("connection refused")
    finally:
        ear.give_up("cut")


def _take(heard: Heard, usage: _Usage) -> None:
    """Later counts replace earlier ones, but nothing told does not replace a number."""
    if usage.prompt_tokens is not None:
        heard.prompt_tokens = usage.prompt_tokens
        heard.cached_tokens = (usage.prompt_tokens_details or {}).get("cached_tokens")
    if usage.input_tokens is not None:
        cached = usage.cache_read_input_tokens if usage.cache_read_input_tokens is not None else heard.cached_tokens
        heard.cached_tokens = cached or 0
        heard.prompt_tokens = usage.input_tokens + heard.cached_tokens
    output = usage.output_tokens if usage.output_tokens is not None else usage.completion_tokens
    if output is not None:
        heard.output_tokens = output
