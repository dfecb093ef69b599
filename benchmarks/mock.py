"""A mock llama-server: `python -m benchmarks.mock` prints its port and serves until its stdin ends.

Light enough to stand behind the fastest router, faithful where a router feels it: 5 s of keep-alive idleness,
100 requests a connection, a close after each error, and usage counts of an instance that really remembers its
conversations.
"""

import asyncio
import re
import sys
import time
from typing import cast

import httptools
import uvloop

from benchmarks import answers
from benchmarks.answers import Protocol
from benchmarks.pace import Pace, Stream
from benchmarks.pages import NOT_FOUND, PAGES, QUIETLY_MISSING

IDLE_S = 5.0  # cpp-httplib's keep-alive timeout
MAX_REQUESTS = 100  # cpp-httplib's keep-alive maximum
STAMP = re.compile(rb"conv-[0-9a-f]{16}")

_HEAD = b"HTTP/1.1 %s\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n%sKeep-Alive: timeout=5, max=100\r\n"
_JSON = b"Content-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
_SSE = b"Content-Type: text/event-stream\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"


class Instance:
    """What the connections of one mock share."""

    def __init__(self) -> None:
        self.pace = Pace()
        self.wires: set[Wire] = set()
        self._kept: dict[bytes, int] = {}

    def tokens(self, body: bytes) -> tuple[int, int]:
        """Prompt and cached tokens: what this conversation had here before, else nothing."""
        found = STAMP.search(body)
        key = found.group() if found else b""
        prompt = max(2, len(body) // 4)
        cached = min(self._kept.get(key, 0), prompt - 1)
        self._kept[key] = prompt
        return prompt, cached

    def sweep(self) -> None:
        """Close what has been idle too long, once a second."""
        now = time.monotonic()
        for wire in list(self.wires):
            wire.close_if_idle(now)
        asyncio.get_running_loop().call_later(1.0, self.sweep)


class Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self, instance: Instance) -> None:
        self.lost = False
        self._instance = instance
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._parts: list[bytes] = []
        self._served = 0
        self._busy = False
        self._last = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self._instance.wires.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._instance.wires.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self._close()

    def on_message_begin(self) -> None:
        self._url = b""
        self._parts = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._busy = True
        self._served += 1
        path = self._url.partition(b"?")[0].decode("latin-1")
        body = b"".join(self._parts)
        self._parts = []
        if self._parser.get_method() == b"POST" and path in list(Protocol):
            self._generate(Protocol(path), body)
            return
        page = PAGES.get(path)
        if page is not None:
            self._answer(b"200 OK", page())
            return
        if path not in QUIETLY_MISSING:
            print(f"no such page: {path}", file=sys.stderr)
            self._served = MAX_REQUESTS
        self._answer(b"404 Not Found", NOT_FOUND)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self.lost:
            self._transport.write(data)

    def finish(self) -> None:
        """The answer is out: wait for the next request, or close after the last one allowed."""
        self._busy = False
        self._last = time.monotonic()
        if self._served >= MAX_REQUESTS:
            self._close()

    def close_if_idle(self, now: float) -> None:
        if not self._busy and now - self._last > IDLE_S:
            self._close()

    def _generate(self, protocol: Protocol, body: bytes) -> None:
        tokens = self._instance.tokens(body)
        if wants_stream(body):
            self.write(self._head(b"200 OK") + _SSE)
            self._instance.pace.add(Stream(self, protocol, tokens, max_tokens(body)))
        else:
            self._answer(b"200 OK", answers.plain(protocol, *tokens))

    def _answer(self, status: bytes, body: bytes) -> None:
        self.write(self._head(status) + _JSON % len(body) + body)
        self.finish()

    def _head(self, status: bytes) -> bytes:
        return _HEAD % (status, b"Connection: close\r\n" if self._served >= MAX_REQUESTS else b"")

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def wants_stream(body: bytes) -> bool:
    """Whether the request says `"stream": true`, wherever its writer put it."""
    return _after(body, b'"stream":').startswith(b"true")


def max_tokens(body: bytes) -> int:
    """The number of deltas asked for; one peer forwards it under OpenAI's newer name."""
    digits = re.match(rb"\d+", _after(body, b'"max_tokens":') or _after(body, b'"max_completion_tokens":'))
    return int(digits.group()) if digits else 16


def _after(body: bytes, name: bytes) -> bytes:
    """The bytes that follow a top-level name: quoted text cannot hold it, its quotes would be escaped."""
    at = body.rfind(name, max(0, len(body) - 4096))
    if at < 0:
        at = body.find(name)
    return body[at + len(name) :][:24].lstrip() if at >= 0 else b""


async def serve() -> None:
    """Serve on a free loopback port until stdin ends, which it does when the parent dies."""
    loop = asyncio.get_running_loop()
    instance = Instance()
    server = await loop.create_server(lambda: Wire(instance), "127.0.0.1", 0, backlog=512)
    instance.sweep()
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
