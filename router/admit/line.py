"""Line: the tickets of one pool that wait, in the order of their numbers."""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from router.admit.ticket import Ticket
from router.fleet.instance import InstanceId

OrderKey = Callable[[Ticket, float], float]


def first_come(ticket: Ticket, _now_s: float) -> float:
    """The order of arrival."""
    return ticket.number


class Line:
    """One row of tickets for each set of instances that they leave out; there are few such sets.

    What makes the first of a row wait makes the whole row wait, so only the first ones need to be asked about: when an
    instance dies, all its calls stand here at once and leave out the same one.
    """

    def __init__(self) -> None:
        # A plain dict finds its first entry only past all those that were taken out before it.
        self._rows: dict[frozenset[InstanceId], OrderedDict[int, Ticket]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Line[{self._length} in {len(self._rows)} rows]"

    def insert(self, ticket: Ticket) -> None:
        """Put it where its number belongs. Only a call that comes back from a failed attempt is not the newest."""
        row = self._rows.setdefault(ticket.call.excluded, OrderedDict())
        newest = not row or next(reversed(row)) < ticket.number
        row[ticket.number] = ticket
        if not newest:
            for number in sorted(row):
                row.move_to_end(number)
        self._length += 1

    def remove(self, ticket: Ticket) -> None:
        """Take out a ticket that is in it."""
        row = self._rows[ticket.call.excluded]
        del row[ticket.number]
        if not row:
            del self._rows[ticket.call.excluded]
        self._length -= 1

    def ahead_of(self, number: int) -> int:
        """How many came before this number. Counted one by one only for a call that comes back into the middle."""
        ahead = 0
        for row in self._rows.values():
            if next(reversed(row)) < number:
                ahead += len(row)
            elif next(iter(row)) < number:
                ahead += sum(1 for other in row if other < number)
        return ahead

    def heads(self, order_key: OrderKey, now_s: float) -> Iterable[Ticket]:
        """The first of each row. O(n) under another key than `first_come`, since such a key may change with time."""
        for row in self._rows.values():
            if order_key is first_come:
                yield next(iter(row.values()))
            else:
                yield min(row.values(), key=lambda ticket: (order_key(ticket, now_s), ticket.number))
