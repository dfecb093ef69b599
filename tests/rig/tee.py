"""A pass-through between any client and the router that holds every event stream to the rules.

    with Tee(router.port) as tee:
        anthropic.Anthropic(base_url=tee.url, ...)  # the SDK reads what it likes; the tee reads all of it
        tee.check()                                 # raises Illegal; `tests/conftest.py` does so after every test

Bytes, ends and resets go through as they come, in both directions at once. What the client was sent is read beside
that (`tee_exchange`), so a client that is content proves nothing, and one that leaves early hides nothing.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from tests.rig.tee_exchange import Connection, Exchange, Illegal, fault

T = TypeVar("T")
HOST = "127.0.0.1"
WAIT_S = 10.0
# Closing with this set is a reset instead of an orderly end.
_RESET = struct.pack("ii", 1, 0)
_running: list["Tee"] = []


class Tee:
    """Stands before one port, with an event loop in a thread of its own. Leaving it checks what is left."""

    def __init__(self, port: int) -> None:
        """`port`: where the router listens, on 127.0.0.1."""
        self.streams = 0  # event streams that were checked
        self._target = port
        self._exchanges: list[Exchange] = []
        self._sides: set[_Side] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tee", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(WAIT_S)
        _running.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None) -> None:
        _running.remove(self)
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()
        if kind is None:
            self.check()

    def check(self) -> None:
        """Hold all streams that have ended since the last time to the rules. Illegal tells of each that broke one."""
        raise_for(self.faults())

    def faults(self) -> list[Illegal]:
        """What `check` would raise, one for each bad stream."""
        ended = self._ask(self._take) if self._loop.is_running() else self._exchanges
        self.streams += sum(it.is_stream for it in ended)
        return [found for it in ended if (found := fault(it)) is not None]

    def _ask(self, action: Callable[[], T]) -> T:
        """Do it in the loop's thread."""

        async def run() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(WAIT_S)

    def _take(self) -> list[Exchange]:
        """Those that are over; the others are asked for again."""
        over = [it for it in self._exchanges if it.over]
        self._exchanges[:] = [it for it in self._exchanges if not it.over]
        return over

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(self._accepted, sock=self._listener)

    def _accepted(self) -> "_Side":
        seen = Connection(self._exchanges.append)
        client = _Side(self, seen.from_client, seen.client_left, self._connect)
        router = _Side(self, seen.from_router, seen.router_left)
        client.other, router.other = router, client
        return client

    def _connect(self, client: "_Side") -> None:
        """The client is not listened to until there is somebody to tell."""
        client.transport.pause_reading()
        task = self._loop.create_task(self._join(client))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _join(self, client: "_Side") -> None:
        try:
            await self._loop.create_connection(lambda: client.other, HOST, self._target)
        except OSError:
            client.reset()
        else:
            client.transport.resume_reading()

    async def _end(self) -> None:
        self._server.close()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for side in [*self._sides]:
            side.reset()
        await asyncio.sleep(0)  # the transports say that they are lost in the next round


class _Side(asyncio.Protocol):
    """One of the two ends of a connection. What comes here goes out at the other one."""

    transport: asyncio.Transport
    other: "_Side"

    def __init__(
        self,
        tee: Tee,
        read: Callable[[bytes], None],
        ended: Callable[[], None],
        made: Callable[["_Side"], None] | None = None,
    ) -> None:
        self._tee, self._read, self._ended, self._made = tee, read, ended, made
        self._silent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._tee._sides.add(self)
        if self._made is not None:
            self._made(self)

    def data_received(self, data: bytes) -> None:
        self._read(data)  # first, so that nobody has heard of an end that the tee has not
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        self._ended()
        self._silent = True
        if self.other._silent:
            self.transport.close()
            self.other.transport.close()
        elif not self.other.transport.is_closing():
            self.other.transport.write_eof()
        return True  # the other direction goes on

    def connection_lost(self, exc: Exception | None) -> None:
        self._tee._sides.discard(self)
        self._ended()
        if hasattr(self.other, "transport") and not self.other.transport.is_closing():
            self.other.reset() if exc is not None else self.other.transport.close()

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def reset(self) -> None:
        """End at once, so that the peer sees a reset."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


def running_faults() -> list[Illegal]:
    """What all tees that run have found since they were last asked."""
    return [found for tee in _running for found in tee.faults()]


def raise_for(faults: list[Illegal]) -> None:
    """Raise the one, or one that tells of all."""
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise Illegal("\n\n".join([f"{len(faults)} streams are not legal", *map(str, faults)]))
