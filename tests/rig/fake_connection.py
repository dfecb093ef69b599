"""One connection of the scripted instance: requests one after the other, with llama-server's habits."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import NoReturn

from tests.rig.fake_seen import Seen


class TurnEndedError(Exception):
    """The client has left, or a behaviour has ended the connection on purpose."""


class Wire(asyncio.StreamReaderProtocol):
    """The raw connection: requests come out, bytes go in, and it can end badly."""

    def __init__(self, serve: Callable[["Wire"], Coroutine[None, None, None]], alive: set["Wire"]) -> None:
        self._alive = alive
        self.number = 0  # the server numbers its connections
        self.client_left = asyncio.Event()
        self._requests = 0
        self._serve = serve
        self._reader = asyncio.StreamReader(limit=1 << 20)
        super().__init__(self._reader)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._alive.add(self)
        self._writer = asyncio.StreamWriter(transport, self, self._reader, asyncio.get_running_loop())
        self._task = asyncio.ensure_future(self._serve(self))

    def eof_received(self) -> bool:
        self.client_left.set()
        super().eof_received()
        return True  # we close by ourselves

    def connection_lost(self, exc: Exception | None) -> None:
        self._alive.discard(self)
        self.client_left.set()
        super().connection_lost(exc)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def abort(self) -> None:
        """End with RST, dropping what is not yet sent."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.fileno() != -1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def reset(self) -> NoReturn:
        """End with RST, and end the turn."""
        self.abort()
        raise TurnEndedError

    def close(self) -> NoReturn:
        """End with FIN after what was written, and end the turn."""
        self.transport.close()
        raise TurnEndedError

    async def next_request(self, idle_s: float) -> Seen:
        """The next request, or an error when none comes: TimeoutError, IncompleteReadError."""
        async with asyncio.timeout(idle_s):
            raw = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = raw.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        fields = [line.partition(":") for line in lines]
        headers = tuple((name, value.strip()) for name, _, value in fields)
        by_name = {name.lower(): value for name, value in headers}
        if by_name.get("transfer-encoding", "").lower() == "chunked":
            body = b"".join([part async for part in self._chunks()])
        else:
            body = await self._reader.readexactly(int(by_name.get("content-length") or 0))
        self._requests += 1
        return Seen(
            connection=self.number,
            nth=self._requests,
            method=method,
            target=target,
            headers=headers,
            body=body,
        )

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readline(), 16):
            yield await self._reader.readexactly(size)
            await self._reader.readline()
        await self._reader.readline()


QUIET_ENDS = (TurnEndedError, ConnectionError, TimeoutError, asyncio.IncompleteReadError)


def quietly() -> suppress:
    """Suppress the ways in which a connection may end without anything being wrong."""
    return suppress(*QUIET_ENDS)
