"""One llama-server in virtual time: its queue, its batches, and the stalls of copying KV.

`update_slots` (llama.cpp tools/server): a batch is one token for each decoding slot and then prompt tokens in the order
of the slots, up to --batch-size. Tasks are taken from the queue between batches, one per idle slot, first come first
served. Decoding without prompts is followed in one stretch rather than token by token.
"""

import math
from collections import deque
from enum import Enum

import msgspec

from router.sim.kv import Kv
from router.sim.prompt import Prompt
from router.sim.speed import Speed

BATCH_TOKENS = 2048
_NEVER = math.inf
# Tokens: a stretch ends where the first sequence does, but for rounding.
_ROUNDING = 1e-6


class What(Enum):
    """What a server tells of a call."""

    BEGUN = "begun"  # the head of the answer: its first prompt tokens are in a batch
    FIRST_TOKEN = "first_token"  # noqa: S105 - of text
    FINISHED = "finished"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One of them. `cached_tokens`: how many of the prompt were in KV when it began."""

    what: What
    number: int
    cached_tokens: int


class _Doing(Enum):
    NOTHING = 0
    COPYING = 1
    BATCH = 2
    DECODING = 3


class _Job:
    """A task. `read`: prompt tokens in KV; `reading`: those of the batch under way; `left`: output still to come."""

    __slots__ = ("begun", "cached", "left", "number", "output_tokens", "prompt", "read", "reading")

    def __init__(self, number: int, prompt: Prompt, output_tokens: int) -> None:
        self.number = number
        self.prompt = prompt
        self.output_tokens = max(1, output_tokens)
        self.left = float(self.output_tokens)
        self.cached = self.read = self.reading = 0
        self.begun = False

    def decoding(self) -> bool:
        return self.read == self.prompt.tokens

    @property
    def context(self) -> float:
        return self.read + self.output_tokens - self.left


class Server:
    """Told of calls and of time; tells what became of them. `until_s`: when to call `step` next, unless told before."""

    def __init__(self, *, slots: int, ram_tokens: int, unified: bool = False, speed: Speed | None = None) -> None:
        self.kv = Kv(slots=slots, ram_tokens=ram_tokens, unified=unified)
        self.speed = speed or Speed()
        self.slots = slots
        self.until_s = _NEVER
        self._queue: deque[_Job] = deque()
        self._jobs: dict[int, _Job] = {}
        self._doing = _Doing.NOTHING
        self._since_s = 0.0
        self._step_s = 0.0

    def __repr__(self) -> str:
        return f"Server[{self.running}/{self.slots} busy, {self.waiting} wait, {self._doing.name.lower()}]"

    @property
    def running(self) -> int:
        """Busy slots."""
        return len(self._jobs)

    @property
    def waiting(self) -> int:
        """Tasks without a slot."""
        return len(self._queue)

    @property
    def context_tokens(self) -> float:
        """KV in use by busy slots."""
        return sum(job.context for job in self._jobs.values())

    def submit(self, number: int, prompt: Prompt, output_tokens: int, now_s: float) -> list[Event]:
        """A request has come. What is under way is finished first, unless it is only decoding."""
        self._queue.append(_Job(number, prompt, output_tokens))
        events: list[Event] = []
        if self._doing is _Doing.DECODING:
            self._decoded(now_s, events)
        if self._doing in {_Doing.NOTHING, _Doing.DECODING}:
            self._go_on(now_s, events)
        return events

    def step(self, now_s: float) -> list[Event]:
        """What was under way until `until_s`, which is now, is over; begin what comes next."""
        events: list[Event] = []
        if self._doing is _Doing.BATCH:
            self._batch_done(now_s, events)
        elif self._doing is _Doing.DECODING:
            self._decoded(now_s, events)
        self._go_on(now_s, events)
        return events

    def _go_on(self, now_s: float, events: list[Event]) -> None:
        self._since_s = now_s
        copied = 0
        while self._queue and len(self._jobs) < self.slots:
            job = self._queue.popleft()
            slot, job.cached, moved = self.kv.start(job.prompt)
            job.read = job.cached
            self._jobs[slot] = job
            copied += moved
        if copied:
            self._do(_Doing.COPYING, now_s + self.speed.copy_s(copied))
        elif any(not job.decoding() for job in self._jobs.values()):
            self._do(_Doing.BATCH, now_s + self._fill_batch(events))
        elif self._jobs:
            left = min(job.left for job in self._jobs.values())
            context = sum(job.context for job in self._jobs.values()) + left * len(self._jobs) / 2
            self._step_s = self.speed.decode_s(len(self._jobs), context)
            self._do(_Doing.DECODING, now_s + left * self._step_s)
        else:
            self._do(_Doing.NOTHING, _NEVER)

    def _do(self, doing: _Doing, until_s: float) -> None:
        self._doing, self.until_s = doing, until_s

    def _fill_batch(self, events: list[Event]) -> float:
        """Say which prompt tokens the next batch has; returns the seconds that it takes."""
        decoding = [job for job in self._jobs.values() if job.decoding()]
        took_s = self.speed.decode_s(len(decoding), sum(job.context for job in decoding))
        room = BATCH_TOKENS - len(decoding)
        for slot in sorted(self._jobs):
            job = self._jobs[slot]
            if job.decoding() or not room:
                continue
            job.reading = min(room, job.prompt.tokens - job.read)
            room -= job.reading
            took_s += self.speed.prefill_s(job.read, job.read + job.reading)
            if not job.begun:
                job.begun = True
                events.append(Event(What.BEGUN, job.number, job.cached))
        return took_s

    def _batch_done(self, now_s: float, events: list[Event]) -> None:
        for slot, job in list(self._jobs.items()):
            if job.decoding():
                self._generated(slot, job, 1.0, now_s, events)
            elif job.reading:
                job.read += job.reading
                job.reading = 0
                if job.decoding():
                    events.append(Event(What.FIRST_TOKEN, job.number, job.cached))
                    self._generated(slot, job, 1.0, now_s, events)

    def _decoded(self, now_s: float, events: list[Event]) -> None:
        tokens = (now_s - self._since_s) / self._step_s
        for slot, job in list(self._jobs.items()):
            self._generated(slot, job, tokens, now_s, events)

    def _generated(self, slot: int, job: _Job, tokens: float, now_s: float, events: list[Event]) -> None:
        job.left -= tokens
        if job.left <= _ROUNDING:
            del self._jobs[slot]
            self.kv.finish(slot, job.output_tokens, now_s)
            events.append(Event(What.FINISHED, job.number, job.cached))
