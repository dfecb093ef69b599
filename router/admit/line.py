"""Line: the tickets of one pool that wait, in the order of their numbers."""

import heapq
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

from router.admit.ticket import Ticket
from router.fleet.instance import InstanceId


class Line:
    """One row of tickets for each set of instances that they leave out; there are few such sets.

    Where instances differ in nothing but their slots, what makes the first of a row wait makes the whole row wait: when
    an instance dies, all its calls stand here at once and leave out the same one.
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

    def heads(self, count: int) -> Iterable[Ticket]:
        """The `count` of each row that have waited longest, and no more than that of all rows, or one of each."""
        if len(self._rows) == 1 or count == 1:
            for row in self._rows.values():
                yield from islice(row.values(), count)
            return
        firsts = [islice(row.values(), count) for row in self._rows.values()]
        yield from islice(heapq.merge(*firsts, key=lambda ticket: ticket.number), max(count, len(firsts)))
