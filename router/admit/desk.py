"""The desk: calls that wait for a slot, or for the instance that is worth waiting for.

A state machine without I/O: it is told what happened and answers with what to do. Who acts on a `Start` takes the lease
before asking again, because each answer holds for the view it was made from.

Of those that may go, the one with the highest response ratio goes first (Brinch Hansen 1971): what it has waited and
what it costs, over what it costs. Short calls pass long ones, and whoever waits gets past everybody in the end.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from router.admit.expiry import Expiry
from router.admit.line import Line
from router.admit.ticket import Ticket
from router.balance.policy import Choose, Decision, Place, Refuse, Wait
from router.fleet.view import FleetView

Predict = Callable[[str, int, FleetView], float | None]
Reason = Literal["queue_full", "queue_bytes", "too_long", "deadline", "no_instance", "all_failed"]

# With `max_waiting: auto`; a pool whose slots are not known yet counts as one with one slot.
WAITING_PER_SLOT = 64
# Where it matters who waits for what: so many of a pool are asked about, those that have waited longest.
ASKED = 24


class Start(msgspec.Struct, frozen=True, gc=False):
    """Take the lease that the decision names and send the call."""

    ticket: Ticket
    decision: Decision


class Held(msgspec.Struct, frozen=True, gc=False):
    """The ticket waits. `ahead`: how many of its pool came before it. `wait_s`: the predicted wait; None: not known."""

    ticket: Ticket
    ahead: int
    wait_s: float | None


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """The ticket is not, or no longer, at the desk and will not be served. `wait_s` as in `Held`."""

    ticket: Ticket
    reason: Reason
    wait_s: float | None = None


class Desk:
    """Tickets by pool, in the order of their numbers."""

    def __init__(
        self,
        *,
        choose: Choose,
        predict: Predict = lambda _pool, _ahead, _view: None,
        max_waiting: int | None = None,
        max_bytes: int | None = None,
        asked: int = ASKED,
    ) -> None:
        """`predict`: seconds until a call behind so many others starts; None: not known.

        `asked`: how many of those that have waited longest are asked about; 1 where `choose` makes no difference
        between calls that leave out the same instances.
        `max_waiting`: tickets per pool, None for 64 to each of its slots. `max_bytes`: bodies held, over all pools.
        """
        self.choose = choose
        self._predict = predict
        self._asked = asked
        self.max_waiting = max_waiting
        self.max_bytes = max_bytes
        self._lines: dict[str, Line] = {}
        self._waits: dict[int, Ticket] = {}
        self._expiry = Expiry(self._waits)
        self.held_bytes = 0

    def __repr__(self) -> str:
        lines = ", ".join(f"{pool} {len(line)}" for pool, line in self._lines.items())
        return f"Desk[{lines or 'nobody waits'}]"

    def waiting(self, pool: str) -> int:
        """How many tickets of a pool wait."""
        line = self._lines.get(pool)
        return len(line) if line is not None else 0

    def arrive(self, ticket: Ticket, view: FleetView, now_s: float) -> Start | Held | Rejected:
        """A call wants a slot. It starts at once only if nobody of its pool waits; ask `next` about all of them then.

        What will be refused is refused now, while the client can still be told with a status: no room, or a predicted
        wait that is longer than the ticket's patience.
        """
        pool = ticket.call.pool
        line = self._lines.get(pool)
        ahead = line.ahead_of(ticket.number) if line is not None else 0
        decision = self.choose(ticket.call, view, now_s)
        match decision.verdict:
            case Refuse(reason=reason):
                return Rejected(ticket, "all_failed" if reason == "all_failed" else "no_instance")
            case Place() if ahead == 0:
                return Start(ticket, decision)
            case Place() | Wait():
                wait_s = self._predict(pool, ahead, view) if not _any_free(pool, view) else None
                no_room = self._no_room(ticket, ahead, wait_s, view)
                if no_room is not None:
                    return Rejected(ticket, no_room, wait_s)
                self._insert(ticket)
                return Held(ticket, ahead, wait_s)

    def withdraw(self, ticket: Ticket) -> bool:
        """The client left, or the call ended otherwise. False: the ticket was not waiting."""
        known = self._waits.pop(ticket.number, None)
        if known is None:
            return False
        self.held_bytes -= known.size_bytes
        line = self._lines[known.call.pool]
        line.remove(known)
        if not line:
            del self._lines[known.call.pool]
        return True

    def next(self, view: FleetView, now_s: float) -> Start | Rejected | None:
        """Say what to do with one ticket that can be decided now; None: everybody goes on waiting.

        The ticket leaves the desk. Ask again until None comes, performing each answer first. It costs one choice for
        each of those asked about while anything is free, and next to nothing otherwise.
        """
        late = self._expiry.overdue(now_s)
        if late is not None:
            self.withdraw(late)
            return Rejected(late, "deadline", self._predict(late.call.pool, self.waiting(late.call.pool), view))
        best: Start | None = None
        best_ratio = 0.0
        for ticket in self._askable(view):
            decision = self.choose(ticket.call, view, now_s)
            match decision.verdict:
                case Place():
                    ratio = 1.0 + max(0.0, now_s - ticket.call.arrived_s) / decision.work_s
                    if best is None or (ratio, -ticket.number) > (best_ratio, -best.ticket.number):
                        best, best_ratio = Start(ticket, decision), ratio
                case Refuse(reason=reason):
                    self.withdraw(ticket)
                    return Rejected(ticket, "all_failed" if reason == "all_failed" else "no_instance")
                case Wait():
                    continue
        if best is not None:
            self.withdraw(best.ticket)
        return best

    def _askable(self, view: FleetView) -> Iterator[Ticket]:
        """Those worth asking about, of all pools: instances may be in several."""
        for pool, line in self._lines.items():
            if _any_free(pool, view):
                yield from line.heads(self._asked)
                continue
            serving = {row.instance.id for row in view.pool_rows(pool) if row.serving}
            for ticket in line.heads(1):
                if serving <= ticket.call.excluded:  # nobody is left for it: it may have to be told
                    yield ticket

    def _no_room(self, ticket: Ticket, ahead: int, wait_s: float | None, view: FleetView) -> Reason | None:
        pool = ticket.call.pool
        room = self.max_waiting
        if room is None:
            room = WAITING_PER_SLOT * max(1, sum(row.slots for row in view.pool_rows(pool)))
        # A call that comes back keeps its place, so only those before it count.
        if ahead >= room:
            return "queue_full"
        if self.max_bytes is not None and self.held_bytes + ticket.size_bytes > self.max_bytes:
            return "queue_bytes"
        return "too_long" if wait_s is not None and wait_s > ticket.patience_s else None

    def _insert(self, ticket: Ticket) -> None:
        self._lines.setdefault(ticket.call.pool, Line()).insert(ticket)
        self._waits[ticket.number] = ticket
        self._expiry.add(ticket)
        self.held_bytes += ticket.size_bytes


def _any_free(pool: str, view: FleetView) -> bool:
    return any(row.free for row in view.pool_rows(pool))
