"""Expiry: whose time at the desk is up, whatever the order in which they came.

Deadlines do not run in the order of arrival: a call that comes back brings what is left of its patience, and a reload
may shorten everybody's after it.
"""

import heapq
from collections.abc import Mapping

from router.admit.ticket import Ticket

# Entries of tickets that have left are dropped when they come up; the heap is made anew once they are most of it.
_SPARE = 64


class Expiry:
    """The deadlines of those who wait, the earliest first; the desk's own mapping says who still does."""

    def __init__(self, waits: Mapping[int, Ticket]) -> None:
        """`waits`: the tickets at the desk by number. It is looked at, never changed."""
        self._waits = waits
        self._heap: list[tuple[float, int]] = []

    def __repr__(self) -> str:
        return f"Expiry[{len(self._heap)} deadlines of {len(self._waits)} tickets]"

    def add(self, ticket: Ticket) -> None:
        """A ticket waits, and stands in the mapping already. O(log n)."""
        heapq.heappush(self._heap, (ticket.deadline_s, ticket.number))
        if len(self._heap) > 2 * len(self._waits) + _SPARE:
            self._heap = [(one.deadline_s, one.number) for one in self._waits.values()]
            heapq.heapify(self._heap)

    def overdue(self, now_s: float) -> Ticket | None:
        """The ticket with the earliest deadline, if that has passed. O(log n) for each ticket that has left."""
        while self._heap:
            deadline_s, number = self._heap[0]
            ticket = self._waits.get(number)
            if ticket is not None and ticket.deadline_s == deadline_s:
                return ticket if deadline_s <= now_s else None
            heapq.heappop(self._heap)
        return None
