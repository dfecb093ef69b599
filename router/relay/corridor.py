"""Corridor: what every call needs on its way, in one place. `app.build` makes it."""

from collections.abc import Callable

import msgspec

from router.admit.retries import RetryBudget
from router.balance.book import Book
from router.config.schema import Deadlines
from router.config.units import size_words
from router.errors import RateLimited, RouterError, ShuttingDown
from router.fleet.fleet import Fleet
from router.fleet.health import Event
from router.fleet.instance import Instance, Process
from router.fleet.load import TokenSizes
from router.relay.admission import Admission
from router.relay.attempt import Attempt
from router.relay.counted import Counted
from router.relay.pool import Pools
from router.relay.skills import Skills
from router.relay.voice import Telling
from router.wire.record import CallRecord


class Running:
    """The attempts under way at each process, so that those that wait for a first byte are told of its death.

    By process, not by id: a reload may give the id to another one, and what runs at the old one goes on there.
    """

    def __init__(self) -> None:
        self._attempts: dict[Process, set[Attempt]] = {}

    def __repr__(self) -> str:
        return (
            f"Running[{', '.join(f'{next(iter(some)).instance.id} {len(some)}' for some in self._attempts.values())}]"
        )

    def add(self, attempt: Attempt) -> None:
        """An attempt begins."""
        self._attempts.setdefault(attempt.instance.process, set()).add(attempt)

    def remove(self, attempt: Attempt) -> None:
        """It is over."""
        process = attempt.instance.process
        some = self._attempts[process]
        some.discard(attempt)
        if not some:
            del self._attempts[process]

    def at(self, instance: Instance) -> bool:
        """Attempts are under way there."""
        return instance.process in self._attempts

    def heard_s(self, instance: Instance) -> float:
        """When a stream last brought an event from there; 0 when none of those under way has."""
        some = self._attempts.get(instance.process, ())
        return max((attempt.last_event_s or 0.0 for attempt in some), default=0.0)

    def instance_died(self, instance: Instance, error: Callable[[], RouterError], *, begun: bool = False) -> None:
        """End the calls there that have shown nothing yet: they can be served elsewhere.

        Plain ones would never end by themselves. A stream that has begun goes on, and its own deadline judges it,
        unless `begun` says that it will never end: the comments of a stuck instance are bytes too.
        """
        for attempt in list(self._attempts.get(instance.process, ())):
            if begun or attempt.first_event_s is None:
                attempt.abandon(error())


class Weights:
    """Request bodies under way by key, so that one key cannot fill the router's memory."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._bytes: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Weights[{', '.join(f'{key} {size}' for key, size in self._bytes.items())}]"

    def add(self, key_id: str, size_bytes: int) -> None:
        """A body has come.

        Raises:
            RateLimited: it would be too much for this key; nothing is counted then.

        """
        total = self._bytes.get(key_id, 0) + size_bytes
        if total > self.max_bytes:
            raise RateLimited(
                f"this key has {size_words(total - size_bytes)} of requests under way, and "
                f"{size_words(self.max_bytes)} are allowed; wait until some are answered",
                retry_after_s=5,
            )
        self._bytes[key_id] = total

    def remove(self, key_id: str, size_bytes: int) -> None:
        """Its call is over."""
        left = self._bytes.get(key_id, 0) - size_bytes
        if left > 0:
            self._bytes[key_id] = left
        else:
            self._bytes.pop(key_id, None)


class Calls:
    """The exchanges under way, and whether new ones may begin."""

    def __init__(self) -> None:
        self._stops: set[Callable[[RouterError], None]] = set()
        self.stopping = False

    def __repr__(self) -> str:
        return f"Calls[{len(self._stops)} under way{', stopping' if self.stopping else ''}]"

    def __len__(self) -> int:
        return len(self._stops)

    def begin(self, stop: Callable[[RouterError], None]) -> None:
        """A call begins; `stop` ends it from outside.

        Raises:
            ShuttingDown: no new calls any more.

        """
        if self.stopping:
            raise ShuttingDown("this router is shutting down; try again, another one will answer", retry_after_s=5)
        self._stops.add(stop)

    def end(self, stop: Callable[[RouterError], None]) -> None:
        """It is over."""
        self._stops.discard(stop)

    def stop_all(self) -> None:
        """End what still runs, each with one error."""
        for stop in list(self._stops):
            stop(ShuttingDown("the router was shut down before this answer was whole", retry_after_s=5))


class Settings(msgspec.Struct, frozen=True):
    """What a reload may change for the calls that come after it."""

    deadlines: Deadlines
    queue_deadline_s: float


class Corridor(msgspec.Struct, kw_only=True):
    """`record` takes each call's record when it is over; `observe` takes what a call learnt about an instance.

    `suspect` has the poll look at an instance at once, `closing` has it watch for a slot to come free; these three mean
    the process of the Instance that the call was sent to, whatever a reload has done to its id. `tell` is
    `edge.rescue`'s table, for errors inside a stream. Only `settings` is ever replaced.
    """

    fleet: Fleet
    admission: Admission
    book: Book
    retries: RetryBudget
    token_sizes: TokenSizes
    pools: Pools
    skills: Skills
    counted: Counted
    running: Running
    calls: Calls
    weights: Weights
    settings: Settings
    record: Callable[[CallRecord], None]
    observe: Callable[[Instance, Event], None]
    suspect: Callable[[Instance], None]
    closing: Callable[[Instance], None]
    tell: Callable[[RouterError], Telling]
