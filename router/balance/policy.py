"""Choose: one call, the fleet as it is now, one decision. The only place where it is made."""

from typing import assert_never

import msgspec

from router.balance import cost
from router.fleet.health import State
from router.fleet.instance import InstanceId
from router.fleet.view import FleetView


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a call is placed by. `affinity` is the same 64 bits for every turn of one conversation.

    `excluded`: instances that have failed this call already.
    """

    pool: str
    affinity: int
    excluded: frozenset[InstanceId] = frozenset()


class Candidate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One instance in the ranking, with the terms that put it there."""

    instance_id: InstanceId
    free: int
    busy_share: float
    asleep: bool = False


class Place(msgspec.Struct, frozen=True, tag="place", gc=False):
    """Send it to this instance now. The lease may still say no."""

    instance_id: InstanceId


class Wait(msgspec.Struct, frozen=True, tag="wait", gc=False):
    """Every slot that could serve it is leased; ask again when one comes back."""


class Refuse(msgspec.Struct, frozen=True, tag="refuse", gc=False):
    """Nobody can serve it, now or soon. `reason`: `no_instance`, or `all_failed` when each has failed this call."""

    reason: str


Verdict = Place | Wait | Refuse


class Decision(msgspec.Struct, frozen=True, gc=False):
    """A verdict and the whole ranking behind it, best first. The log, the header and tests read this one value."""

    verdict: Verdict
    ranking: tuple[Candidate, ...] = ()


def choose(call: Call, view: FleetView) -> Decision:
    """Rank the pool by busy share, ties by rendezvous hash, and say what to do with the call.

    One that sleeps comes last: it would have to load its model first. The best may be full while a lower one is not
    (on probation an idle instance takes one call), so the verdict is for the first that has a free slot.

    Pure: same arguments, same answer. Advice only: the lease decides.
    """
    ranking = [
        Candidate(
            instance_id=row.instance.id,
            free=row.free,
            busy_share=cost.busy_share(row),
            asleep=row.health.state is State.SLEEPING,
        )
        for row in view.pool_rows(call.pool)
        if row.serving and row.instance.id not in call.excluded
    ]
    if not ranking:
        return Decision(_nobody(call, view))
    if len(ranking) > 1:
        ranking.sort(key=lambda candidate: _order(candidate, call.affinity))
    free = next((candidate for candidate in ranking if candidate.free > 0), None)
    return Decision(Place(free.instance_id) if free is not None else Wait(), tuple(ranking))


def _order(candidate: Candidate, affinity: int) -> tuple[bool, float, int]:
    return candidate.asleep, candidate.busy_share, -cost.rendezvous(affinity, candidate.instance_id)


def _nobody(call: Call, view: FleetView) -> Wait | Refuse:
    """Nobody serves: wait for one that may soon be back, unless it has failed this very call."""
    others = [row for row in view.pool_rows(call.pool) if row.instance.id not in call.excluded]
    if any(row.health.hopeful for row in others):
        return Wait()
    return Refuse("all_failed" if call.excluded else "no_instance")


def word(verdict: Verdict) -> str:
    """The verdict in one word, for a header, a label and the log."""
    match verdict:
        case Place():
            return "place"
        case Wait():
            return "wait"
        case Refuse():
            return "refuse"
        case _:
            assert_never(verdict)
