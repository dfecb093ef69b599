"""The callers: raw protocols on uvloop, because a generator dearer than the router would measure itself.

Closed loop: each lane is one keep-alive connection that sends its next call when the last is answered and
checked.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import cast

import httptools

from benchmarks import answers
from benchmarks.jobs import Job

PATIENCE_S = 20.0  # for the calls still running when a window's time is up
TOO_MANY_FAULTS = 200

Feed = Callable[[int], bytes]
"""The next request of a lane."""


class Run:
    """One burst of calls over all lanes, and what became of them."""

    def __init__(self, job: Job, feed: Feed, calls: int, seconds: float) -> None:
        self.job = job
        self.feed = feed
        self.latencies: list[float] = []
        self.faults: Counter[str] = Counter()
        self.alone = 0
        self.done = asyncio.get_running_loop().create_future()
        self._left = calls
        self._deadline = time.perf_counter() + seconds
        self._busy = 0

    def draw(self, lane: int) -> bytes | None:
        """The next request, None when this run begins no more."""
        over = self._left <= 0 or time.perf_counter() >= self._deadline
        if over or self.faults.total() > TOO_MANY_FAULTS:
            self._busy -= 1
            if self._busy == 0 and not self.done.done():
                self.done.set_result(None)
            return None
        self._left -= 1
        return self.feed(lane)

    async def drive(self, lanes: list["Lane"]) -> float:
        """Run all lanes until they are quiet; the seconds it took."""
        began = time.perf_counter()
        self._busy = len(lanes)
        for lane in lanes:
            lane.begin(self)
        patience = self._deadline - began + PATIENCE_S
        try:
            await asyncio.wait_for(self.done, patience)
        except TimeoutError:
            self.faults["no answer in time"] += self._busy
        return time.perf_counter() - began


class Line(asyncio.Protocol):
    """One connection, read for its lane."""

    def __init__(self, lane: "Lane", mark: bytes) -> None:
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.alone = 0
        self._lane = lane
        self._mark = mark
        self._parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self._lane.lost(self, "connection lost")

    def data_received(self, data: bytes) -> None:
        if self._mark and data.count(self._mark) == 1:
            self.alone += 1
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._lane.lost(self, "not HTTP")

    def on_message_begin(self) -> None:
        self._parts = []

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._lane.answered(self, self.parser.get_status_code(), b"".join(self._parts))


class Lane:
    """One caller; it connects again when the router hangs up."""

    def __init__(self, number: int, job: Job) -> None:
        self._number = number
        self._job = job
        self._run: Run | None = None
        self._line: Line | None = None
        self._in_call = False
        self._began = 0.0
        self._connecting: asyncio.Task[None] | None = None

    def begin(self, run: Run) -> None:
        self._run = run
        self._next()

    def close(self) -> None:
        self._run = None
        if self._connecting is not None:
            self._connecting.cancel()
        if self._line is not None and self._line.transport is not None:
            self._line.transport.close()

    def answered(self, line: Line, status: int, body: bytes) -> None:
        """A whole answer came: check it and go on."""
        if line is not self._line or not self._in_call:
            return
        if self._run is not None:
            self._run.alone += line.alone
        line.alone = 0
        if not line.parser.should_keep_alive():
            self._line = None
            if line.transport is not None:
                line.transport.close()
        wrong = answers.faults(self._job.protocol, body, self._job.deltas)
        self._end(wrong if status == 200 else f"status {status}")

    def lost(self, line: Line, why: str) -> None:
        """The connection is of no more use; a fault if a call was on it."""
        if line is not self._line:
            return
        self._line = None
        if line.transport is not None:
            line.transport.abort()
        if self._in_call:
            self._end(why)

    def _next(self) -> None:
        request = self._run.draw(self._number) if self._run is not None else None
        if request is None:
            return
        self._in_call = True
        self._began = time.perf_counter()
        if self._line is None or self._line.transport is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect(request))
        else:
            self._line.transport.write(request)

    async def _connect(self, request: bytes) -> None:
        mark = self._job.protocol.mark if self._job.deltas else b""
        self._line = line = Line(self, mark)
        try:
            await asyncio.get_running_loop().create_connection(lambda: line, "127.0.0.1", self._job.port)
        except OSError:
            await asyncio.sleep(0.05)  # else a router that is down costs TOO_MANY_FAULTS in no time
            self.lost(line, "connection refused")
            return
        self._began = time.perf_counter()  # a kept connection is what is measured
        if line.transport is not None:
            line.transport.write(request)

    def _end(self, fault: str) -> None:
        self._in_call = False
        if self._run is None:
            return
        if fault:
            self._run.faults[fault] += 1
        else:
            self._run.latencies.append(time.perf_counter() - self._began)
        self._next()
