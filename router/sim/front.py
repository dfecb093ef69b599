"""Fronts: who stands before the servers. Ours is the real desk, over the real fleet, with the real placement."""

from array import array
from collections.abc import Sequence
from typing import Protocol

import msgspec

from router.admit.desk import Desk, Held, Rejected, Start
from router.admit.ticket import Ticket
from router.balance.book import Book
from router.balance.call import Call
from router.balance.chain import HEAD_BYTES, Chain
from router.balance.policy import Decision, Policy
from router.balance.policy import policy as choice
from router.fleet.fleet import Fleet, Lease
from router.fleet.health import Event as HealthEvent
from router.fleet.instance import Instance
from router.fleet.registry import Pool, Registry
from router.sim.dice import mix
from router.sim.server import Event, What
from router.sim.talk import Ask

POOL = "model"
# Of a prompt, as the router sees it.
BYTES_PER_TOKEN = 4
# Nobody gives up in here: rules that turn calls away would look quick.
_PATIENCE_S = 1e9
_ROOM = 1_000_000
_TAIL = 8

Dispatch = tuple[Ask, int]
"""A call, and the place of the server that it is sent to."""


class Front(Protocol):
    """Says which call goes to which server, and when."""

    @property
    def waiting(self) -> int:
        """Calls that it holds back."""
        ...

    def arrive(self, ask: Ask, now_s: float) -> list[Dispatch]:
        """A call has come; returns what is sent now, which may be others."""
        ...

    def told(self, server: int, ask: Ask, event: Event, now_s: float) -> list[Dispatch]:
        """A server has told of a call; returns what is sent now."""
        ...

    def tick(self, now_s: float) -> list[Dispatch]:
        """Some time has passed while calls waited."""
        ...


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """How one server was started, as the router knows it."""

    slots: int
    ram_tokens: int
    unified: bool = False


class DeskFront:
    """Desk, fleet and placement as they serve real calls, without the network between."""

    def __init__(self, policy: Policy, setups: Sequence[Setup]) -> None:
        self._ids = [f"s{place}" for place in range(len(setups))]
        self._places = {id_: place for place, id_ in enumerate(self._ids)}
        self.fleet = Fleet(_registry(self._ids, setups))
        for id_ in self._ids:
            self.fleet.observe(id_, HealthEvent.ANSWERED, 0.0)
        self.book = Book()
        self.desk = Desk(choose=choice(policy, self.book), max_waiting=_ROOM)
        self._asks: dict[int, Ask] = {}
        self._calls: dict[int, tuple[Call, Lease]] = {}
        self._count = 0

    def __repr__(self) -> str:
        return f"DeskFront[{self.desk!r}, {self.fleet!r}]"

    @property
    def waiting(self) -> int:
        """Tickets at the desk."""
        return self.desk.waiting(POOL)

    def arrive(self, ask: Ask, now_s: float) -> list[Dispatch]:
        """Start it or hold it, and ask again: it may be let past those that it leaves behind."""
        call = Call(pool=POOL, session=ask.session, chain=chain(ask), arrived_s=now_s)
        number, self._count = self._count, self._count + 1
        ticket = Ticket(number=number, call=call, arrived_s=now_s, deadline_s=now_s + _PATIENCE_S)
        self._asks[number] = ask
        self.book.arrived(call, now_s)
        effect = self.desk.arrive(ticket, self.fleet.view, now_s)
        match effect:
            case Start(decision=decision):
                return [self._start(ticket, decision, now_s), *self.tick(now_s)]
            case Held():
                return self.tick(now_s)
            case Rejected(reason=reason):
                raise RuntimeError(f"a call was turned away: {reason}")

    def tick(self, now_s: float) -> list[Dispatch]:
        """Let the desk decide until it has nothing more to say."""
        sent: list[Dispatch] = []
        while self.waiting and (effect := self.desk.next(self.fleet.view, now_s)) is not None:
            if isinstance(effect, Rejected):
                raise RuntimeError(f"a call that waited was turned away: {effect.reason}")  # noqa: TRY004
            sent.append(self._start(effect.ticket, effect.decision, now_s))
        return sent

    def told(self, server: int, ask: Ask, event: Event, now_s: float) -> list[Dispatch]:
        """Write it into the book, give a finished call's slot back, and ask the desk."""
        id_, number = self._ids[server], ask.number
        call, lease = self._calls[number]
        cached, prompt = event.cached_tokens, ask.prompt.tokens
        match event.what:
            case What.BEGUN:
                lease.begin()
                self.book.begun(id_, number)
            case What.FIRST_TOKEN:
                self.book.first_token(id_, number, call, now_s, cached=cached, prompt=prompt)
            case What.FINISHED:
                lease.give_back()
                del self._calls[number]
                output = ask.output_tokens
                self.book.finished(id_, number, call, now_s, cached=cached, prompt=prompt, output=output)
                self.book.left(call, now_s, answered=True)
        return self.tick(now_s)

    def _start(self, ticket: Ticket, decision: Decision, now_s: float) -> Dispatch:
        placed = decision.placed
        lease = self.fleet.lease(placed.instance_id) if placed is not None else None
        if placed is None or lease is None:
            raise RuntimeError("a call was placed where no slot is free")
        ask = self._asks.pop(ticket.number)
        self._calls[ask.number] = ticket.call, lease
        self.book.dispatched(placed.instance_id, ask.number, ticket.call, now_s)
        return ask, self._places[placed.instance_id]


def chain(ask: Ask) -> Chain:
    """The prompt as the router would see it: a unit for each full block, four bytes a token.

    What is left after the last one belongs to it: a block that is not full has another id once the conversation has
    gone on, while the units that the router makes of a conversation stay.
    """
    prompt = ask.prompt
    ids = prompt.ids[: prompt.tokens // prompt.unit_tokens] or array("Q", [mix(_TAIL, ask.number)])
    unit, size = prompt.unit_tokens * BYTES_PER_TOKEN, prompt.tokens * BYTES_PER_TOKEN
    ends = array("Q", range(unit, unit * len(ids) + 1, unit))
    ends[-1] = size
    return Chain(ids=ids, ends=ends, heads=bytes(HEAD_BYTES * len(ids)))


def _registry(ids: Sequence[str], setups: Sequence[Setup]) -> Registry:
    instances = {
        id_: Instance(
            id=id_,
            address=f"{id_}.sim",
            port=8080,
            authority=f"{id_}.sim:8080",
            slots=setup.slots,
            cache_ram_tokens=setup.ram_tokens,
            kv_unified=setup.unified,
            pools=(POOL,),
        )
        for id_, setup in zip(ids, setups, strict=True)
    }
    pool = Pool(name=POOL, aliases=(), display_name=POOL, instance_ids=tuple(ids))
    return Registry(instances=instances, pools={POOL: pool})
