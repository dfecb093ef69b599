"""The desk: calls that wait for a slot, first come first served.

A state machine without I/O: it is told what happened and answers with what to do. Who acts on a `Start` takes the lease
before asking again, because each answer holds for the view it was made from.
"""

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from router.balance.policy import Call, Decision, Place, Refuse, Wait
from router.fleet.view import FleetView

Choose = Callable[[Call, FleetView], Decision]

# With `max_waiting: auto`, and the least that a pool whose slots are not known yet may hold.
WAITING_PER_SLOT = 64


class Ticket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call at the desk. `number` is unique and grows with arrival; times are monotonic seconds.

    A call that comes back after a failed attempt keeps its number and both times, and so its place in the line.
    """

    number: int
    call: Call
    arrived_s: float
    deadline_s: float


class Start(msgspec.Struct, frozen=True, gc=False):
    """Take the lease that the decision names and send the call."""

    ticket: Ticket
    decision: Decision


class Held(msgspec.Struct, frozen=True, gc=False):
    """The ticket waits. `ahead`: how many of its pool came before it."""

    ticket: Ticket
    ahead: int


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """The ticket is not, or no longer, at the desk and will not be served."""

    ticket: Ticket
    reason: Literal["queue_full", "deadline", "no_instance", "all_failed"]


class Desk:
    """Tickets by pool, in the order of their numbers."""

    def __init__(self, *, choose: Choose, max_waiting: int | None) -> None:
        """`max_waiting`: tickets per pool; None: 64 for each of its slots."""
        self._choose = choose
        self._max_waiting = max_waiting
        self._lines: dict[str, dict[int, Ticket]] = {}

    def __repr__(self) -> str:
        lines = ", ".join(f"{pool} {len(line)}" for pool, line in self._lines.items() if line)
        return f"Desk[{lines or 'nobody waits'}]"

    def waiting(self, pool: str) -> int:
        """How many tickets of a pool wait."""
        return len(self._lines.get(pool, ()))

    @property
    def empty(self) -> bool:
        """Nobody waits."""
        return not any(self._lines.values())

    def arrive(self, ticket: Ticket, view: FleetView) -> Start | Held | Rejected:
        """A call wants a slot. It starts at once only if nobody of its pool has waited longer."""
        line = self._lines.setdefault(ticket.call.pool, {})
        ahead = sum(1 for number in line if number < ticket.number) if line else 0
        decision = self._choose(ticket.call, view)
        match decision.verdict:
            case Refuse(reason=reason):
                return Rejected(ticket, "all_failed" if reason == "all_failed" else "no_instance")
            case Place() if ahead == 0:
                return Start(ticket, decision)
            case Place() | Wait():
                if ahead >= self._room(ticket.call.pool, view):
                    return Rejected(ticket, "queue_full")
                self._insert(line, ticket)
                return Held(ticket, ahead)

    def withdraw(self, ticket: Ticket) -> bool:
        """The client left, or the call ended otherwise. False: the ticket was not waiting."""
        return self._lines.get(ticket.call.pool, {}).pop(ticket.number, None) is not None

    def next(self, view: FleetView, now_s: float) -> Start | Rejected | None:
        """Say what to do with the oldest ticket that can be decided now; None: everybody goes on waiting.

        The ticket leaves the desk. Ask again until None comes, performing each answer first.
        """
        for ticket in self._askable():
            if ticket.deadline_s <= now_s:
                self.withdraw(ticket)
                return Rejected(ticket, "deadline")
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

    def _askable(self) -> Iterable[Ticket]:
        """Those worth asking about, oldest first: the head of each line, and who stands behind heads that are picky.

        When a head that could go anywhere must wait, nobody behind it in its pool can go either; one that has
        instances excluded may wait while another could go. Deadlines run in arrival order, since every ticket has
        the same patience, so the heads are also the first to expire.
        """
        askable: list[Ticket] = []
        for line in self._lines.values():
            for ticket in line.values():
                askable.append(ticket)
                if not ticket.call.excluded:
                    break
        return sorted(askable, key=lambda ticket: ticket.number)

    def _room(self, pool: str, view: FleetView) -> int:
        if self._max_waiting is not None:
            return self._max_waiting
        slots = sum(row.slots for row in view.pool_rows(pool))
        return WAITING_PER_SLOT * max(1, slots)

    @staticmethod
    def _insert(line: dict[int, Ticket], ticket: Ticket) -> None:
        """Keep the line ordered by number. Only a call that comes back from a failed attempt is not the newest."""
        newest = not line or next(reversed(line)) < ticket.number
        line[ticket.number] = ticket
        if not newest:
            ordered = sorted(line.items())
            line.clear()
            line.update(ordered)
