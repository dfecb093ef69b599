"""Choose: one call, the fleet as it is now, one decision. The only place where it is made."""

from typing import assert_never

import msgspec

from router.balance import cost
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

    Pure: same arguments, same answer. Advice only: the lease decides.
    """
    ranking = [
        Candidate(instance_id=row.instance.id, free=row.slots - row.busy, busy_share=cost.busy_share(row))
        for row in view.pool_rows(call.pool)
        if row.serving and row.instance.id not in call.excluded
    ]
    if not ranking:
        return Decision(Refuse("all_failed" if call.excluded else "no_instance"))
    if len(ranking) > 1:
        ranking.sort(key=lambda candidate: _order(candidate, call.affinity))
    best = ranking[0]
    return Decision(Place(best.instance_id) if best.free > 0 else Wait(), tuple(ranking))


def _order(candidate: Candidate, affinity: int) -> tuple[float, int]:
    return candidate.busy_share, -cost.rendezvous(affinity, candidate.instance_id)


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
