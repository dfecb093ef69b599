"""The streams of a mock instance and the clock that they go by.

Events arrive separately because of `Pace`: at each tick one fifth of the streams get one event each, so two
events of one stream are TICK_S * GROUPS apart and never in one write. The generator counts the deltas that
reached it alone.
"""

import asyncio
from typing import Protocol as Shape

from benchmarks import answers
from benchmarks.answers import Protocol

TICK_S = 0.002  # uvloop's timers count whole milliseconds
GROUPS = 5  # so a stream gets an event each 10 ms, and each tick is a batch as a decode step is


class Wire(Shape):
    """What a stream needs of its connection."""

    lost: bool

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...


class Stream:
    """One streamed answer on its way."""

    def __init__(self, wire: Wire, protocol: Protocol, tokens: tuple[int, int], deltas: int) -> None:
        self.wire = wire
        self.protocol = protocol
        self.tokens = tokens
        self.deltas = deltas
        self.sent = 0

    def step(self) -> bool:
        """Write one chunk; False when that was the last."""
        self.sent += 1
        if self.sent > self.deltas:
            last = answers.closing(self.protocol, *self.tokens, self.deltas)
            self.wire.write(_chunk(last) + b"0\r\n\r\n")
            self.wire.finish()
            return False
        event = answers.delta(self.protocol, self.sent)
        if self.sent == 1:
            event = answers.opening(self.protocol, *self.tokens) + event
        self.wire.write(_chunk(event))
        return not self.wire.lost


class Pace:
    """Steps the streams group by group; the timer runs only while there are any."""

    def __init__(self) -> None:
        self._groups: list[list[Stream]] = [[] for _ in range(GROUPS)]
        self._turn = 0
        self._next = 0
        self._running = False

    def add(self, stream: Stream) -> None:
        self._groups[self._next].append(stream)
        self._next = (self._next + 1) % GROUPS
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._turn = (self._turn + 1) % GROUPS
        self._groups[self._turn] = [stream for stream in self._groups[self._turn] if stream.step()]
        self._running = any(self._groups)
        if self._running:  # armed after the work: a late tick delays the next, it does not bunch with it
            asyncio.get_running_loop().call_later(TICK_S, self._tick)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
