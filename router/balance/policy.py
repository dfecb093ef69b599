"""Choose: one call, the fleet as it is now, one decision. The only place where it is made.

Three policies: `ptx` is the one to use; `sticky` and `least` are what others do, to compare with.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, assert_never

import msgspec

from router.balance import cost
from router.balance.book import FEW, GUARDS, Book
from router.balance.call import Call
from router.balance.cost import Terms
from router.balance.kv import Prompt
from router.fleet.health import State
from router.fleet.instance import InstanceId
from router.fleet.view import FleetView, Row

# How long a call waits for a better instance that is full, as a multiple of what it would gain by that.
STICKS = 3.0
# Differences below these are not worth moving a conversation for.
NEARLY_S, NEARLY_SHARE = 0.005, 0.05
# Of many instances so many are looked at closely, those that look best at a glance.
LOOKED_AT = 8
# Whoever is placed has this much to do besides reading; it keeps the response ratio of the warmest within bounds.
BESIDES_S = 0.3


class Candidate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One instance in the ranking, with the terms that put it there.

    `free`: slots that it could have now. `guard_s`: see `balance.book.Estimate`. `hit_tokens` of its `prompt_tokens`
    are believed to be warm there.
    """

    instance_id: InstanceId
    free: int
    busy_share: float
    asleep: bool = False
    terms: Terms = Terms()
    guard_s: float = 0.0
    hit_tokens: float = 0.0
    prompt_tokens: float = 0.0


class Place(msgspec.Struct, frozen=True, tag="place", gc=False):
    """Send it to this instance now. The lease may still say no."""

    instance_id: InstanceId


class Wait(msgspec.Struct, frozen=True, tag="wait", gc=False):
    """Not now; ask again when something has changed. `until_s`: or when it has waited this long; None: for a slot."""

    reason: str = "full"
    until_s: float | None = None


class Refuse(msgspec.Struct, frozen=True, tag="refuse", gc=False):
    """Nobody can serve it, now or soon. `reason`: `no_instance`, or `all_failed` when each has failed this call."""

    reason: str


Verdict = Place | Wait | Refuse


class Decision(msgspec.Struct, frozen=True, gc=False):
    """A verdict and the whole ranking behind it, best first. Log, header, metrics and `explain` read this one value."""

    verdict: Verdict
    ranking: tuple[Candidate, ...] = ()

    @property
    def placed(self) -> Candidate | None:
        """The one that it is sent to; None when it is not."""
        if not isinstance(self.verdict, Place):
            return None
        id_ = self.verdict.instance_id
        return next((one for one in self.ranking if one.instance_id == id_), None)

    @property
    def work_s(self) -> float:
        """What the call costs where it is placed, waiting left out: the divisor of its response ratio."""
        one = self.placed
        return BESIDES_S + (one.terms.read_s + one.terms.lost_s if one is not None else 0.0)


Choose = Callable[[Call, FleetView, float], Decision]
Policy = Literal["ptx", "least", "sticky"]


def policy(name: Policy, book: Book) -> Choose:
    """Return the policy of this name, with what it goes by."""
    match name:
        case "ptx":
            return ptx(book)
        case "least":
            return least
        case "sticky":
            return sticky(Homes())
        case _:
            assert_never(name)


def ptx(book: Book) -> Choose:
    """Predicted time to the first token, and what the placement costs the others.

    The best instance may be full while others are not. Then the call waits, as long as it gains by that; and before it
    destroys KV that is wanted it waits the longer, the fewer of the live conversations fit into all caches together.
    All these waits have an end, so nobody starves.
    """

    def choose(call: Call, view: FleetView, now_s: float) -> Decision:
        rows = serving(call, view)
        if not rows:
            return Decision(nobody(call, view))
        prompt = book.prompt(call, now_s)
        some = rows if len(rows) <= FEW else _promising(book, rows, call, prompt, now_s)
        ranking = _ranked([_candidate(book, row, call, prompt, now_s) for row in some], call.session)
        best = next((one for one in ranking if one.free > 0), None)
        if best is None:
            return Decision(Wait(), ranking)
        hold_s = _hold_s(ranking[0], best, over=lambda: book.over_subscribed(call.pool, rows, now_s))
        if now_s - call.arrived_s < hold_s:
            return Decision(Wait("warm" if best is not ranking[0] else "guard", hold_s), ranking)
        return Decision(Place(best.instance_id), ranking)

    return choose


def _hold_s(first: Candidate, best: Candidate, *, over: Callable[[], float]) -> float:
    """How long, from its arrival on, a call waits although it could be placed on `best`."""
    hold_s = 0.0
    if first is not best and not best.asleep:
        hold_s = STICKS * max(0.0, best.terms.ttft_s - first.terms.ttft_s)
    if best.guard_s > 0.0:
        hold_s = max(hold_s, GUARDS * over() * best.guard_s)
    return hold_s


def _promising(book: Book, rows: list[Row], call: Call, prompt: Prompt, now_s: float) -> list[Row]:
    """Of many instances those that may be the best: at the least they cost less than the others, and some are free."""
    bounds = book.at_least_s(rows, call, prompt, now_s)
    some = [row for _, row in bounds[:LOOKED_AT]]
    free = sum(row.free > 0 for row in some)
    if free < LOOKED_AT // 2:
        some += [row for _, row in bounds[LOOKED_AT:] if row.free > 0][: LOOKED_AT // 2 - free]
    return some


def _candidate(book: Book, row: Row, call: Call, prompt: Prompt, now_s: float) -> Candidate:
    estimate = book.estimate(row, call, prompt, now_s)
    hit_tokens = estimate.probe.hit_tokens
    free = row.free
    if free and book.gated(row.instance.id, prompt, hit_tokens, now_s):
        free = 0
    return Candidate(
        instance_id=row.instance.id,
        free=free,
        busy_share=row.busy_share,
        asleep=row.health.state is State.SLEEPING,
        terms=estimate.terms,
        guard_s=estimate.guard_s,
        hit_tokens=hit_tokens,
        prompt_tokens=estimate.probe.prompt_tokens,
    )


def _ranked(candidates: list[Candidate], session: int) -> tuple[Candidate, ...]:
    """Best first; the awake before those that sleep. Nearly equals count as equal, and a conversation keeps its own.

    What is foreseen is not better than that, and a conversation that moves for it leaves something warm behind.
    """
    if len(candidates) == 1:
        return tuple(candidates)
    candidates.sort(key=lambda one: (one.asleep, one.terms.total_s, -cost.rendezvous(session, one.instance_id)))
    first = candidates[0]
    limit_s = first.terms.total_s + max(NEARLY_S, NEARLY_SHARE * first.terms.total_s)
    near = [one for one in candidates if one.terms.total_s <= limit_s and one.asleep is first.asleep]
    if len(near) > 1:
        near.sort(key=lambda one: (-_warm(one), one.busy_share, -cost.rendezvous(session, one.instance_id)))
        candidates = [*near, *(one for one in candidates if one not in near)]
    return tuple(candidates)


def _warm(candidate: Candidate) -> int:
    """In steps of a kilotoken: less does not tell instances apart."""
    return int(candidate.hit_tokens) >> 10


def least(call: Call, view: FleetView, _now_s: float) -> Decision:
    """Rank the pool by its busy share, ties by rendezvous hash; the first with a free slot gets the call.

    One that sleeps comes last: it would have to load its model first.
    """
    rows = serving(call, view)
    if not rows:
        return Decision(nobody(call, view))
    ranking = [_plain(row) for row in rows]
    if len(ranking) > 1:
        ranking.sort(
            key=lambda one: (one.asleep, one.busy_share, -cost.rendezvous(call.session, one.instance_id)),
        )
    free = next((one for one in ranking if one.free > 0), None)
    return Decision(Place(free.instance_id) if free is not None else Wait(), tuple(ranking))


def sticky(homes: "Homes") -> Choose:
    """A conversation stays where it began, however long it has to wait there; new ones go where the fewest live."""

    def choose(call: Call, view: FleetView, now_s: float) -> Decision:
        rows = serving(call, view)
        if not rows:
            return Decision(nobody(call, view))
        home = homes.of(call.session, [row.instance.id for row in rows], now_s)
        ranking = sorted((_plain(row) for row in rows), key=lambda one: (one.instance_id != home, one.busy_share))
        return Decision(Place(home) if ranking[0].free > 0 else Wait("home"), tuple(ranking))

    return choose


class Homes:
    """Where conversations live, for `sticky`. One not heard of for a while counts no more, but may come back."""

    LIVES_S = 60.0
    MOST = 4096

    def __init__(self) -> None:
        self._homes: OrderedDict[int, tuple[InstanceId, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"Homes[{len(self._homes)}]"

    def of(self, session: int, instance_ids: list[InstanceId], now_s: float) -> InstanceId:
        """The instance of this conversation; a new one when it has none, or its own is not among these."""
        known = self._homes.pop(session, None)
        if known is not None and known[0] in instance_ids:
            home = known[0]
        else:
            counts = dict.fromkeys(instance_ids, 0)
            for other, seen_s in reversed(self._homes.values()):
                if seen_s < now_s - self.LIVES_S:
                    break
                if other in counts:
                    counts[other] += 1
            home = min(instance_ids, key=lambda id_: (counts[id_], -cost.rendezvous(session, id_)))
        self._homes[session] = home, now_s
        if len(self._homes) > self.MOST:
            self._homes.popitem(last=False)
        return home


def serving(call: Call, view: FleetView) -> list[Row]:
    """The instances that may be sent this call, now or when they have a slot free."""
    return [row for row in view.pool_rows(call.pool) if row.serving and row.instance.id not in call.excluded]


def nobody(call: Call, view: FleetView) -> Wait | Refuse:
    """Nobody serves: wait for one that may soon be back, unless it has failed this very call."""
    others = [row for row in view.pool_rows(call.pool) if row.instance.id not in call.excluded]
    if any(row.health.hopeful for row in others):
        return Wait("away")
    return Refuse("all_failed" if call.excluded else "no_instance")


def _plain(row: Row) -> Candidate:
    return Candidate(
        instance_id=row.instance.id,
        free=row.free,
        busy_share=row.busy_share,
        asleep=row.health.state is State.SLEEPING,
    )


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
