"""Many clients at once and what became of each call, cheap enough for hundreds on a small machine.

    with Crowd(router.port) as crowd:
        call = crowd.call(ask("nonce:a", stream=True))
        call.wait_for(lambda it: it.content)  # or call.leave()
        assert call.ended().fault() == ""

The clients share an event loop in a thread of its own, so that a test can do other things meanwhile.
"""

import asyncio
import contextlib
import io
import itertools
import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from router.cli import main
from router.demo.process import ChildProcess
from tests.rig.figures import tell
from tests.rig.legality import Illegal, Message, check
from tests.test_app import as_bytes, ask

WAIT_S = 20.0
_numbers = itertools.count(1)

report = tell
"""Figures for people, at the end of the run."""


class Call:
    """One call of one client; every public attribute may be read while it runs. Times are monotonic seconds."""

    def __init__(self, crowd: "Crowd", body: Mapping[str, Any], text: str | None = None) -> None:
        """`text`: what the answer must say; None: anything."""
        self.body, self.text = body, text
        self.status = 0  # 0: no head has come
        self.headers: dict[str, str] = {}
        self.raw = b""  # of the answer's body, without its framing
        self.whole = False  # the answer ended as HTTP says that it ends
        self.over = False
        self.left = False
        self.started_s = time.monotonic()
        self.head_s = self.content_s = self.ended_s = 0.0  # 0: not yet
        self._crowd = crowd
        self._writer: asyncio.StreamWriter | None = None
        crowd.made.append(self)

    def __repr__(self) -> str:
        state = "left" if self.left else "whole" if self.whole else "cut" if self.over else "under way"
        return f"<Call {state}, status {self.status}, {len(self.raw)} bytes {self.raw[-200:]!r}>"

    @property
    def streamed(self) -> bool:
        return self.body.get("stream") is True

    @property
    def content(self) -> bool:
        """The first event of the message has come; pings and comments are none."""
        return self.content_s > 0

    @property
    def wait_s(self) -> float:
        """From the request to the first event of the message."""
        return self.content_s - self.started_s

    @property
    def instance(self) -> str:
        """Who answered: from the header, or from the comment in a stream that began before it was known."""
        if "x-router-instance" in self.headers:
            return self.headers["x-router-instance"]
        found = re.findall(rb"^: x-router-instance: ([^;\n]+)", self.raw, re.MULTILINE)
        return found[-1].decode() if found else ""

    @property
    def message(self) -> Message:
        """The streamed answer, which must be exact; the comment is ours, which names the instance after a hold."""
        return check(self.raw, comments=True)

    def wait_for(self, met: Callable[["Call"], object], within_s: float = WAIT_S) -> Self:
        with self._crowd.changed:
            assert self._crowd.changed.wait_for(lambda: met(self), within_s), f"not within {within_s:g} s: {self!r}"
        return self

    def ended(self, within_s: float = WAIT_S) -> Self:
        """Wait until it is over."""
        return self.wait_for(lambda it: it.over, within_s)

    def leave(self) -> None:
        """Hang up in the middle: with a reset, whatever has not been read."""
        self._crowd.soon(self._leave)

    def fault(self) -> str:
        """What is wrong with an answer that should be a good one; empty when nothing is."""
        if self.status != 200 or not self.whole:
            return repr(self)
        try:
            said = self._said()
        except (Illegal, ValueError, LookupError) as error:
            return f"{error} in {self!r}"
        return "" if self.text in {None, said} else f"{said!r} instead of {self.text!r}"

    def _said(self) -> str:
        if not self.streamed:
            return "".join(block["text"] for block in json.loads(self.raw)["content"])
        message = self.message
        if message.error is not None:
            raise ValueError(f"an error event: {message.error}")
        return message.text

    def _leave(self) -> None:
        self.left = True
        if self._writer is not None:
            self._writer.transport.abort()

    async def run(self, port: int) -> None:
        """For the crowd: make the call."""
        try:
            reader, self._writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            if self.left:
                return
            self._writer.write(as_bytes(self.body, "Content-Type: application/json", "Connection: close"))
            await self._read(reader)
            self.whole = True
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended_s = time.monotonic()
            self.over = True
            if self._writer is not None:
                self._writer.close()
            self._crowd.tell()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.partition(": ") for line in head[1:] if line]
        self.headers = {name.lower(): value for name, _, value in pairs}
        self.head_s = time.monotonic()
        self.status = int(head[0].split()[1])
        self._crowd.tell()
        if self.headers.get("transfer-encoding") != "chunked":
            self._take(await reader.readexactly(int(self.headers["content-length"])))
            return
        while size := int(await reader.readline() or b"0", 16):
            self._take((await reader.readexactly(size + 2))[:-2])
        if await reader.readexactly(2) != b"\r\n":
            raise ConnectionError

    def _take(self, data: bytes) -> None:
        self.raw += data
        if not self.content and (not self.streamed or b"event: message_start" in self.raw):
            self.content_s = time.monotonic()
        self._crowd.tell()


class Crowd:
    """Clients of one router. Leaving the context hangs up for those that still listen, and checks every stream."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.changed = threading.Condition()  # told whenever anything has come for any call
        self.loop = asyncio.new_event_loop()
        self.made: list[Call] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self.loop.run_forever, name="crowd")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(WAIT_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()
        if kind is None:
            self._hold_to_the_rules()

    def soon(self, action: Callable[[], object]) -> None:
        self.loop.call_soon_threadsafe(action)

    def tell(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a coroutine run beside the calls until the crowd leaves."""
        self.soon(lambda: self._start(work))

    def call(self, body: Mapping[str, Any], text: str | None = None) -> Call:
        """Make one call."""
        call = Call(self, body, text)
        self.run(call.run(self.port))
        return call

    def calls(self, count: int, **more: object) -> list[Call]:
        """Make so many streamed calls at once, each with a prompt of its own; `more` as for `ask`."""
        return [self.call(ask(new_nonce(), **{"stream": True, **more})) for _ in range(count)]

    def load(self, clients: int = 6, **more: object) -> "Load":
        """Clients that call again and again, as a context; `more` as for `ask`."""
        return Load(self, clients, more)

    def _hold_to_the_rules(self) -> None:
        """No stream broke a rule, whatever its test looked at; those that were left or cut, as far as they went."""
        for call in self.made:
            if call.streamed and call.status == 200:
                check(call.raw, comments=True, whole=call.whole)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Load:
    """Calls without a pause, two of three streamed. `calls`: those that are over, in the order of their ends."""

    def __init__(self, crowd: Crowd, clients: int, more: Mapping[str, object]) -> None:
        self._crowd, self._clients, self._more = crowd, clients, more
        self.calls: list[Call] = []
        self._going = 0
        self._stopped = False

    def __enter__(self) -> Self:
        self._going = self._clients
        for number in range(self._clients):
            self._crowd.run(self._keep_calling(number))
        return self

    def __exit__(self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None) -> None:
        self._stopped = True
        if kind is None:
            with self._crowd.changed:
                assert self._crowd.changed.wait_for(lambda: self._going == 0, WAIT_S), "calls that do not end"

    def more(self, count: int, within_s: float = WAIT_S) -> None:
        """Wait until so many calls that begin from now on are over."""
        since_s = time.monotonic()
        with self._crowd.changed:
            met = self._crowd.changed.wait_for(lambda: len(self._since(since_s)) >= count, within_s)
        assert met, f"{len(self._since(since_s))} calls within {within_s:g} s, not {count}"

    def faults(self) -> list[str]:
        """What went wrong, for every call with which anything did."""
        return [fault for call in self.calls if (fault := call.fault())]

    def used(self, since_s: float = 0.0) -> set[str]:
        """The instances that have answered calls that began since then."""
        return {call.instance for call in self._since(since_s)}

    def _since(self, since_s: float) -> list[Call]:
        return [call for call in self.calls if call.started_s >= since_s]

    async def _keep_calling(self, number: int) -> None:
        try:
            while not self._stopped:
                stream = {"stream": True} if number % 3 else {}
                call = Call(self._crowd, ask(new_nonce(), **{**stream, **self._more}))
                await call.run(self._crowd.port)
                self.calls.append(call)
        finally:
            self._going -= 1
            self._crowd.tell()


class Deferred(msgspec.Struct):
    """What was seen of the calls that waited inside instances: they never should."""

    most: int = 0
    samples: int = 0


@contextlib.contextmanager
def watching_deferred(crowd: Crowd, ports: Sequence[int], every_s: float = 0.1) -> Iterator[Deferred]:
    """Read requests_deferred from every instance's /metrics, again and again."""
    seen = Deferred()
    over = asyncio.Event()

    async def watch(port: int) -> None:
        while not over.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                page = await reader.read(-1)
            seen.most = max(seen.most, *map(int, re.findall(rb"requests_deferred (\d+)", page)))
            seen.samples += 1
            await asyncio.sleep(every_s)

    for port in ports:
        crowd.run(watch(port))
    yield seen
    crowd.soon(over.set)


def new_nonce() -> str:
    return f"nonce:l{next(_numbers)}"


def fleet(router: str) -> dict[str, Any]:
    """What /admin/fleet says."""
    # Not httpx: a new client would cost ten times what the router spends on its answer.
    with urllib.request.urlopen(f"{router}/admin/fleet", timeout=WAIT_S) as answer:
        page: dict[str, Any] = json.load(answer)
        return page


def instances(router: str) -> dict[str, dict[str, Any]]:
    """The instances of /admin/fleet by id."""
    return {row["id"]: row for row in fleet(router)["instances"]}


def states(router: str) -> dict[str, str]:
    return {id_: row["state"] for id_, row in instances(router).items()}


def taken(router: str) -> int:
    """Leases that are out, and slots that are closing."""
    return sum(row["busy"] + row["closing"] for row in instances(router).values())


def waiting(router: str) -> int:
    return sum(pool["waiting"] for pool in fleet(router)["models"])


def command(*args: str) -> ChildProcess:
    """A llama-router command as a process of its own, not started yet."""
    return ChildProcess("llama-router", "router", args)


def run_command(*args: str) -> tuple[int, str]:
    """Run a llama-router command in this process, which is quicker; its exit status and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(args)
    return status, said.getvalue()
