"""The desk: calls that wait for a slot.

A state machine without I/O: it is told what happened and answers with what to do. Who acts on a `Start` takes the lease
before asking again, because each answer holds for the view it was made from.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from router.admit.expiry import Expiry
from router.admit.line import Line, OrderKey, first_come
from router.admit.ticket import Ticket
from router.balance.policy import Call, Decision, Place, Refuse, Wait
from router.fleet.view import FleetView

Choose = Callable[[Call, FleetView], Decision]
Predict = Callable[[str, int, FleetView], float | None]
Reason = Literal["queue_full", "queue_bytes", "too_long", "deadline", "no_instance", "all_failed"]

# With `max_waiting: auto`; a pool whose slots are not known yet counts as one with one slot.
WAITING_PER_SLOT = 64


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
    """Tickets by pool, in the order of their numbers; who goes next is `order_key`'s to say, the lowest first."""

    def __init__(
        self,
        *,
        choose: Choose,
        predict: Predict = lambda _pool, _ahead, _view: None,
        max_waiting: int | None = None,
        max_bytes: int | None = None,
        order_key: OrderKey = first_come,
    ) -> None:
        """`predict`: seconds until a call behind so many others starts; None: not known.

        `max_waiting`: tickets per pool, None for 64 to each of its slots. `max_bytes`: bodies held, over all pools.
        """
        self._choose = choose
        self._predict = predict
        self._order_key = order_key
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

    def arrive(self, ticket: Ticket, view: FleetView) -> Start | Held | Rejected:
        """A call wants a slot. It starts at once only if nobody of its pool has waited longer.

        What will be refused is refused now, while the client can still be told with a status: no room, or a predicted
        wait that is longer than the ticket's patience.
        """
        pool = ticket.call.pool
        line = self._lines.get(pool)
        ahead = line.ahead_of(ticket.number) if line is not None else 0
        decision = self._choose(ticket.call, view)
        match decision.verdict:
            case Refuse(reason=reason):
                return Rejected(ticket, "all_failed" if reason == "all_failed" else "no_instance")
            case Place() if ahead == 0:
                return Start(ticket, decision)
            case Place() | Wait():
                wait_s = self._predict(pool, ahead, view)
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
        """Say what to do with the first ticket that can be decided now; None: everybody goes on waiting.

        The ticket leaves the desk. Ask again until None comes, performing each answer first. O(log n) in those who
        wait, as long as they go in the order of arrival.
        """
        late = self._expiry.overdue(now_s)
        if late is not None:
            self.withdraw(late)
            return Rejected(late, "deadline", self._predict(late.call.pool, self.waiting(late.call.pool), view))
        for ticket in self._askable(now_s):
            decision = self._choose(ticket.call, view)
            match decision.verdict:
                case Place():
                    self.withdraw(ticket)
                    return Start(ticket, decision)
                case Refuse(reason=reason):
                    self.withdraw(ticket)
                    return Rejected(ticket, "all_failed" if reason == "all_failed" else "no_instance")
                case Wait():
                    continue
        return None

    def _askable(self, now_s: float) -> list[Ticket]:
        """Those worth asking about, in the order of `order_key`, of all pools: instances may be in several."""
        heads = [ticket for line in self._lines.values() for ticket in line.heads(self._order_key, now_s)]
        if len(heads) > 1:
            heads.sort(key=lambda ticket: (self._order_key(ticket, now_s), ticket.number))
        return heads

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
