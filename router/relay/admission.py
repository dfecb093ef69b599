"""Where the desk's decisions become leases: the one place that performs what `admit.desk` says.

Each `Start` is turned into a lease before the desk is asked again, in the same turn of the event loop, so that a free
slot is never promised twice.
"""

import asyncio
import itertools
import math

import msgspec

from router.admit.desk import Desk, Held, Rejected, Start
from router.admit.ticket import Ticket
from router.balance.book import Book
from router.balance.policy import Decision, Place
from router.clock import monotonic_s
from router.errors import ClientGone, NoInstance, Overloaded, RouterError
from router.fleet.fleet import Fleet, Lease
from router.fleet.instance import InstanceId
from router.fleet.load import HoldTimes, retry_after_s
from router.fleet.view import FleetView
from router.translate.answer import Usage

# How often deadlines are looked at while somebody waits; releases and new views ask at once.
TICK_S = 0.1


class Grant(msgspec.Struct, frozen=True, gc=False):
    """A lease, and the decision behind it. `number`: of this attempt, for the book. `waited`: it was held first."""

    number: int
    ticket: Ticket
    lease: Lease
    instance_id: InstanceId
    decision: Decision
    pool: str
    granted_s: float
    waited: bool = False


class Admission:
    """Gives calls their leases, in order, and writes into the book what becomes of them."""

    def __init__(self, fleet: Fleet, desk: Desk, book: Book, hold_times: HoldTimes) -> None:
        self._fleet = fleet
        self._desk = desk
        self._book = book
        self._numbers = itertools.count(1)
        self._hold_times = hold_times
        self._waiting: dict[int, asyncio.Future[Grant]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Admission[{len(self._waiting)} wait]"

    def waiting(self, pool: str) -> int:
        """How many calls of a pool wait at the desk."""
        return self._desk.waiting(pool)

    def set_bounds(self, *, max_waiting: int | None, max_bytes: int) -> None:
        """Take new bounds from a reload; who waits already goes on waiting."""
        self._desk.max_waiting = max_waiting
        self._desk.max_bytes = max_bytes

    async def admit(self, ticket: Ticket) -> Grant:
        """Return a lease, at once or after waiting for it. Whoever gets it ends it with `give_back` or `close`.

        Raises:
            Overloaded: no room to wait, or not served in time.
            NoInstance: nobody serves this pool.
            ClientGone: `withdraw` was called.

        """
        effect = self._desk.arrive(ticket, self._fleet.view, monotonic_s())
        match effect:
            case Start(decision=decision):
                return self._grant(ticket, decision, waited=False)
            case Rejected():
                raise self._refusal(effect)
            case Held():
                return await self._wait(ticket)

    def withdraw(self, ticket: Ticket, error: RouterError | None = None) -> None:
        """Take a waiting ticket off the desk, if it still waits there: its client has gone, or `error` says why."""
        self._desk.withdraw(ticket)
        future = self._waiting.pop(ticket.number, None)
        if future is not None and not future.done():
            gone = ClientGone("the client closed its connection while it waited for a slot")
            future.set_exception(error or gone)

    def give_back(self, grant: Grant) -> None:
        """The call is over at the instance too: free the slot, and let the next call have it.

        After `close` it does nothing: that slot is the instance's to give back.
        """
        if not grant.lease.held:
            return
        grant.lease.give_back()
        self._book.aborted(grant.instance_id, grant.number, grant.ticket.call, monotonic_s())
        self.ask()

    def begun(self, grant: Grant) -> None:
        """The instance has begun with it: another call may be sent there."""
        grant.lease.begin()
        self._book.begun(grant.instance_id, grant.number)
        self.ask()

    def first_token(self, grant: Grant, usage: Usage) -> None:
        """Its answer begins. `usage` says what was warm, where it says so."""
        cached, prompt = prompt_of(usage)
        call = grant.ticket.call
        self._book.first_token(grant.instance_id, grant.number, call, monotonic_s(), cached=cached, prompt=prompt)
        self.ask()

    def served(self, grant: Grant, usage: Usage) -> None:
        """The call has had its answer: this is how long one holds a slot, and what it left there."""
        now_s = monotonic_s()
        self._hold_times.observe(grant.pool, now_s - grant.granted_s)
        cached, prompt = prompt_of(usage)
        self._book.finished(
            grant.instance_id,
            grant.number,
            grant.ticket.call,
            now_s,
            cached=cached,
            prompt=prompt,
            output=usage.output_tokens,
        )

    def close(self, grant: Grant) -> None:
        """The call is over for us; the slot is free once the instance says so, or after a while."""
        now_s = monotonic_s()
        grant.lease.close(now_s)
        self._book.aborted(grant.instance_id, grant.number, grant.ticket.call, now_s)

    def ask(self) -> None:
        """Something has changed: let the desk decide until it has nothing more to say."""
        if not self._waiting:
            return
        while effect := self._desk.next(self._fleet.view, monotonic_s()):
            future = self._waiting.pop(effect.ticket.number, None)
            if future is None or future.done():
                continue
            match effect:
                case Start(ticket=ticket, decision=decision):
                    future.set_result(self._grant(ticket, decision, waited=True))
                case Rejected():
                    future.set_exception(self._refusal(effect))

    async def _wait(self, ticket: Ticket) -> Grant:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Grant] = loop.create_future()
        self._waiting[ticket.number] = future
        # It may be held behind calls that leave out the very instance which has a slot free; it need not wait for that.
        self.ask()
        if self._timer is None and not future.done():
            self._timer = loop.call_later(TICK_S, self._tick)
        try:
            return await future
        except asyncio.CancelledError:
            self._waiting.pop(ticket.number, None)
            self._desk.withdraw(ticket)
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(future.result())
            raise

    def _tick(self) -> None:
        self._timer = None
        now_s = monotonic_s()
        for instance_id in self._fleet.closing():
            self._fleet.settle_closing(instance_id, now_s)
        self.ask()
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _grant(self, ticket: Ticket, decision: Decision, *, waited: bool) -> Grant:
        if isinstance(decision.verdict, Place):
            instance_id, now_s, number = decision.verdict.instance_id, monotonic_s(), next(self._numbers)
            lease = self._fleet.lease(instance_id)
            if lease is not None:
                self._book.dispatched(instance_id, number, ticket.call, now_s)
                return Grant(number, ticket, lease, instance_id, decision, ticket.call.pool, now_s, waited)
        # Unreachable while view and leases live in one event loop: the decision was made from this very view.
        raise self._refusal(Rejected(ticket, "no_instance"))

    def _refusal(self, rejected: Rejected) -> RouterError:
        ticket, after_s = rejected.ticket, retry_after_s(rejected.wait_s)
        pool = ticket.call.pool
        patience = _seconds(ticket.patience_s)
        match rejected.reason:
            case "queue_full":
                # Room to wait comes with the next call that is over, which is one slot's turn away.
                one_s = retry_after_s(predict(self._hold_times, pool, 0, self._fleet.view))
                waiting = self.waiting(pool)
                return Overloaded(
                    f"every slot of {pool} is taken and {waiting} calls wait already; try again later",
                    retry_after_s=one_s,
                )
            case "queue_bytes":
                return Overloaded(
                    "the requests that wait for a slot fill the router's memory for them; try again later",
                    retry_after_s=after_s,
                )
            case "too_long":
                wait = f"{rejected.wait_s or 0.0:.0f} s"
                left = f"the {patience} that this call has left" if ticket.call.excluded else patience
                return Overloaded(
                    f"every slot of {pool} is taken; the wait would be about {wait}, more than {left}",
                    retry_after_s=after_s,
                )
            case "deadline":
                words = f"no slot of {pool} came free within {patience}"
                if ticket.call.excluded:
                    words = f"an instance failed this call, and {words}, which is what was left of its wait"
                return Overloaded(words, retry_after_s=after_s)
            case "all_failed":
                return NoInstance(f"every instance of {pool} that could serve this call has failed it", retry_after_s=5)
            case "no_instance":
                return NoInstance(f"no instance of {pool} is serving at present", retry_after_s=5)


def _seconds(time_s: float) -> str:
    """For a sentence that says `within`, so never more than the truth."""
    return f"{math.floor(time_s * 100 + 1e-4) / 100:g} s" if time_s < 10.0 else f"{math.floor(time_s + 1e-6)} s"


def predict(hold_times: HoldTimes, pool: str, ahead: int, view: FleetView) -> float | None:
    """Seconds until a call behind `ahead` others starts, when every slot of the pool is taken; None: not known."""
    slots = sum(row.slots for row in view.pool_rows(pool) if row.serving)
    return hold_times.wait_s(pool, ahead=ahead, slots=slots)


def prompt_of(usage: Usage) -> tuple[int | None, int | None]:
    """The tokens of the prompt that were found warm, and all of them; None: it does not tell."""
    if usage.input_tokens is None:
        return None, None
    cached = usage.cache_read_input_tokens
    return cached, usage.input_tokens + (cached or 0)
