"""Corridor: what every call needs on its way, in one value. `app.build` makes it; nobody changes it."""

from collections.abc import Callable

import msgspec

from router.config.schema import Deadlines
from router.errors import RouterError
from router.fleet.fleet import Fleet
from router.fleet.health import Event
from router.fleet.instance import InstanceId
from router.relay.admission import Admission
from router.relay.attempt import Attempt
from router.relay.pool import Pools
from router.wire.record import CallRecord


class Running:
    """The attempts under way at each instance, so that those that cannot tell by themselves are told of its death."""

    def __init__(self) -> None:
        self._attempts: dict[InstanceId, set[Attempt]] = {}

    def __repr__(self) -> str:
        return f"Running[{', '.join(f'{id_} {len(some)}' for id_, some in self._attempts.items() if some)}]"

    def add(self, attempt: Attempt) -> None:
        """An attempt begins."""
        self._attempts.setdefault(attempt.instance.id, set()).add(attempt)

    def remove(self, attempt: Attempt) -> None:
        """It is over."""
        self._attempts[attempt.instance.id].discard(attempt)

    def instance_died(self, instance_id: InstanceId, error: Callable[[], RouterError]) -> None:
        """End the plain calls there: nothing else would, since they are silent until they are whole."""
        for attempt in list(self._attempts.get(instance_id, ())):
            if attempt.plain:
                attempt.abandon(error())


class Telling(msgspec.Struct, frozen=True):
    """How an error is told to a client: status, the envelope's type, the sentence."""

    status: int
    type: str
    message: str


class Corridor(msgspec.Struct, frozen=True, kw_only=True):
    """`record` takes each call's record when it is over; `observe` takes what a call learnt about an instance.

    `suspect` has the poll look at an instance at once; `tell` is `edge.rescue`'s table, for errors inside a stream.
    """

    fleet: Fleet
    admission: Admission
    pools: Pools
    running: Running
    deadlines: Deadlines
    queue_deadline_s: float
    record: Callable[[CallRecord], None]
    observe: Callable[[InstanceId, Event], None]
    suspect: Callable[[InstanceId], None]
    tell: Callable[[RouterError], Telling]
