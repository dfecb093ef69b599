"""Where the desk's decisions become leases: the one place that performs what `admit.desk` says.

Each `Start` is turned into a lease before the desk is asked again, in the same turn of the event loop, so that a free
slot is never promised twice.
"""

import asyncio

import msgspec

from router.admit.desk import Desk, Held, Rejected, Start, Ticket
from router.balance.policy import Decision
from router.clock import monotonic_s
from router.errors import ClientGone, NoInstance, Overloaded, RouterError
from router.fleet.fleet import Fleet, Lease

# How often deadlines are looked at while somebody waits; releases and new views ask at once.
TICK_S = 0.1


class Grant(msgspec.Struct, frozen=True, gc=False):
    """A lease, and the decision behind it. `waited`: it was held at the desk first."""

    lease: Lease
    decision: Decision
    waited: bool = False


class Admission:
    """Gives calls their leases, in order."""

    def __init__(self, fleet: Fleet, desk: Desk) -> None:
        self._fleet = fleet
        self._desk = desk
        self._waiting: dict[int, asyncio.Future[Grant]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Admission[{len(self._waiting)} wait]"

    def waiting(self, pool: str) -> int:
        """How many calls of a pool wait at the desk."""
        return self._desk.waiting(pool)

    async def admit(self, ticket: Ticket) -> Grant:
        """Return a lease, at once or after waiting for it. Whoever gets it gives it back through `give_back`.

        Raises:
            Overloaded: no room to wait, or not served in time.
            NoInstance: nobody serves this pool.
            ClientGone: `withdraw` was called.

        """
        match self._desk.arrive(ticket, self._fleet.view):
            case Start(decision=decision):
                return self._grant(ticket, decision, waited=False)
            case Rejected(reason=reason):
                raise self._refusal(ticket, reason)
            case Held():
                return await self._wait(ticket)

    def withdraw(self, ticket: Ticket) -> None:
        """Take a waiting ticket off the desk, if it still waits there: its client has gone."""
        self._desk.withdraw(ticket)
        future = self._waiting.pop(ticket.number, None)
        if future is not None and not future.done():
            future.set_exception(ClientGone("the client closed its connection while it waited for a slot"))

    def give_back(self, lease: Lease) -> None:
        """Free the slot, and let the next call have it."""
        lease.give_back()
        if self._waiting:
            self.ask()

    def ask(self) -> None:
        """Something has changed: let the desk decide until it has nothing more to say."""
        while effect := self._desk.next(self._fleet.view, monotonic_s()):
            future = self._waiting.pop(effect.ticket.number, None)
            if future is None or future.done():
                continue
            match effect:
                case Start(ticket=ticket, decision=decision):
                    future.set_result(self._grant(ticket, decision, waited=True))
                case Rejected(ticket=ticket, reason=reason):
                    future.set_exception(self._refusal(ticket, reason))

    async def _wait(self, ticket: Ticket) -> Grant:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Grant] = loop.create_future()
        self._waiting[ticket.number] = future
        if self._timer is None:
            self._timer = loop.call_later(TICK_S, self._tick)
        try:
            return await future
        except asyncio.CancelledError:
            self._waiting.pop(ticket.number, None)
            self._desk.withdraw(ticket)
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(future.result().lease)
            raise

    def _tick(self) -> None:
        self._timer = None
        self.ask()
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _grant(self, ticket: Ticket, decision: Decision, *, waited: bool) -> Grant:
        for candidate in decision.ranking:
            lease = self._fleet.lease(candidate.instance_id)
            if lease is not None:
                return Grant(lease, decision, waited)
        # Unreachable while view and leases live in one event loop: the decision was made from this very view.
        raise self._refusal(ticket, "no_instance")

    def _refusal(self, ticket: Ticket, reason: str) -> RouterError:
        pool = ticket.call.pool
        match reason:
            case "queue_full":
                return Overloaded(
                    f"every slot of {pool} is taken and {self.waiting(pool)} calls wait already; try again later",
                    retry_after_s=5,
                )
            case "deadline":
                waited_s = ticket.deadline_s - ticket.arrived_s
                return Overloaded(f"no slot of {pool} came free within {waited_s:g} s", retry_after_s=10)
            case "all_failed":
                return NoInstance(f"every instance of {pool} that could serve this call has failed it", retry_after_s=5)
            case _:
                return NoInstance(f"no instance of {pool} is serving at present", retry_after_s=5)
