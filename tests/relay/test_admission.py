"""Decisions become leases: in order, never one too many, and back again on every path."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from router.admit.desk import Desk
from router.admit.ticket import Ticket
from router.balance.book import Book
from router.balance.call import Call
from router.balance.policy import Choose, Decision, Place, Wait, least, ptx
from router.clock import monotonic_s
from router.config.schema import InstanceEntry, ModelEntry, RouterFile
from router.errors import ClientGone, NoInstance, Overloaded, ShuttingDown
from router.fleet.fleet import Fleet
from router.fleet.health import ABSENCES_UNTIL_GONE, Event
from router.fleet.load import HoldTimes
from router.fleet.registry import build
from router.fleet.view import FleetView
from router.relay.admission import Admission, Grant, predict, prompt_of
from router.translate.answer import Usage
from tests.balance.sample import spell
from tests.rig import behave
from tests.rig.legality import check
from tests.test_app import Stage, Wire, answered, as_bytes, ask, eventually, text_of

pytestmark = pytest.mark.anyio


class Desked:
    """An admission over instances that serve, and tickets for it."""

    def __init__(
        self,
        *,
        slots: int = 1,
        instances: int = 1,
        max_waiting: int | None = None,
        call_s: float | None = None,
        choose: Choose | None = least,
    ) -> None:
        """`call_s`: what a call has held its slot for so far. `choose` None: as the router does by itself."""
        entries = [InstanceEntry(url=f"http://h{at}:1", id=f"i{at}", slots=slots) for at in range(instances)]
        self.fleet = Fleet(build(RouterFile(models={"m": ModelEntry(instances=tuple(entries))})))
        self.times = HoldTimes()
        if call_s is not None:
            self.times.observe("m", call_s)
        self.book = Book()
        desk = Desk(
            choose=choose or ptx(self.book),
            predict=lambda pool, ahead, view: predict(self.times, pool, ahead, view),
            max_waiting=max_waiting,
        )
        self.admission = Admission(self.fleet, desk, self.book, self.times)
        self._number = 0
        for entry in entries:
            self.fleet.observe(entry.instance_id, Event.ANSWERED, 0.0)

    def ticket(
        self,
        patience_s: float = 60.0,
        excluded: frozenset[str] = frozenset(),
        size_bytes: int = 0,
        word: str | None = None,
    ) -> Ticket:
        """`word`: its prompt, a thousand tokens a letter."""
        self._number += 1
        now_s = monotonic_s()
        chain = spell(word) if word is not None else None
        call = Call(pool="m", session=self._number, chain=chain, excluded=excluded, arrived_s=now_s)
        return Ticket(
            number=self._number, call=call, arrived_s=now_s, deadline_s=now_s + patience_s, size_bytes=size_bytes
        )

    def serve(self, grant: Grant, usage: Usage) -> None:
        """The whole answer at once."""
        self.admission.begun(grant)
        self.admission.first_token(grant, usage)
        self.admission.served(grant, usage)
        self.admission.give_back(grant)

    def warm_tokens(self, word: str, instance_id: str = "i0") -> float:
        call = Call(pool="m", session=0, chain=spell(word))
        now_s = monotonic_s()
        prompt = self.book.prompt(call, now_s)
        return self.book.estimate(self.fleet.view.rows[instance_id], call, prompt, now_s).probe.hit_tokens

    @property
    def busy(self) -> int:
        return sum(row.busy for row in self.fleet.view.rows.values())


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_free_slot_is_given_at_once_and_comes_back() -> None:
    desked = Desked()
    grant = await desked.admission.admit(desked.ticket())
    assert (grant.lease.instance.id, grant.waited, desked.busy) == ("i0", False, 1)
    desked.admission.give_back(grant)
    desked.admission.give_back(grant)
    assert desked.busy == 0


async def test_those_who_wait_are_served_in_the_order_in_which_they_came() -> None:
    desked = Desked()
    first = await desked.admission.admit(desked.ticket())
    served: list[int] = []

    async def wait(number: int, ticket: Ticket) -> None:
        grant = await desked.admission.admit(ticket)
        assert grant.waited
        assert desked.busy == 1
        served.append(number)
        await turns(1)
        desked.admission.give_back(grant)

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(wait(number, desked.ticket()))
        await turns()
        assert desked.admission.waiting("m") == 10
        desked.admission.give_back(first)
    assert served == list(range(10))
    assert (desked.busy, desked.admission.waiting("m")) == (0, 0)


async def test_many_calls_never_hold_more_leases_than_there_are_slots() -> None:
    desked = Desked(slots=3, instances=2)
    most = 0

    async def call() -> None:
        nonlocal most
        grant = await desked.admission.admit(desked.ticket())
        most = max(most, *(row.busy for row in desked.fleet.view.rows.values()))
        await turns(3)
        desked.admission.give_back(grant)

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(call())
    assert (most, desked.busy) == (3, 0)


async def test_who_has_waited_too_long_is_told_so() -> None:
    desked = Desked()
    await desked.admission.admit(desked.ticket())
    with pytest.raises(Overloaded, match=r"no slot of m came free within 0\.05 s"):
        await desked.admission.admit(desked.ticket(patience_s=0.05))
    assert desked.admission.waiting("m") == 0


async def test_a_moved_call_waits_as_long_as_it_has_left_whatever_its_attempt_took() -> None:
    desked = Desked()
    await desked.admission.admit(desked.ticket())
    first = desked.ticket(patience_s=0.3)
    long_ago_s = first.arrived_s - 600.0
    old = msgspec.structs.replace(first, arrived_s=long_ago_s, deadline_s=long_ago_s + 0.3)
    moved = old.moved("elsewhere", granted_s=long_ago_s + 0.1, now_s=monotonic_s())
    started_s = monotonic_s()
    with pytest.raises(
        Overloaded, match=r"an instance failed this call, and no slot of m came free within 0\.(2|19) s, .* was left"
    ):
        await desked.admission.admit(moved)
    assert monotonic_s() - started_s > 0.18


async def test_a_moved_call_is_told_what_it_has_left_when_the_wait_would_be_longer() -> None:
    desked = Desked(call_s=60.0)
    await desked.admission.admit(desked.ticket())
    first = desked.ticket(patience_s=60.5)
    moved = first.moved("elsewhere", granted_s=first.arrived_s + 2.0, now_s=monotonic_s() + 600.0)
    with pytest.raises(Overloaded, match=r"about 60 s, more than the 58 s that this call has left"):
        await desked.admission.admit(moved)


async def test_one_whose_deadline_is_the_nearest_goes_first_whoever_came_before() -> None:
    desked = Desked()
    await desked.admission.admit(desked.ticket())
    patient = asyncio.ensure_future(desked.admission.admit(desked.ticket()))
    await turns()
    with pytest.raises(Overloaded, match=r"within 0\.05 s"):
        await asyncio.wait_for(desked.admission.admit(desked.ticket(patience_s=0.05)), 5.0)
    assert not patient.done()
    patient.cancel()
    await asyncio.gather(patient, return_exceptions=True)


async def test_who_stands_behind_one_that_leaves_the_free_instance_out_does_not_wait_for_the_clock() -> None:
    desked = Desked(instances=2)
    grants = [await desked.admission.admit(desked.ticket()) for _ in range(2)]
    picky = asyncio.ensure_future(desked.admission.admit(desked.ticket(excluded=frozenset({"i0"}))))
    await turns()
    desked.admission.give_back(next(grant for grant in grants if grant.lease.instance.id == "i0"))
    newcomer = asyncio.ensure_future(desked.admission.admit(desked.ticket()))
    await turns()
    assert (newcomer.done(), picky.done()) == (True, False)
    assert newcomer.result().lease.instance.id == "i0"
    picky.cancel()
    await asyncio.gather(picky, return_exceptions=True)


async def test_when_too_many_wait_the_next_is_refused_at_once() -> None:
    desked = Desked(max_waiting=0)
    await desked.admission.admit(desked.ticket())
    with pytest.raises(Overloaded, match="every slot of m is taken"):
        await desked.admission.admit(desked.ticket())


async def test_when_the_last_instance_goes_those_who_wait_are_told() -> None:
    desked = Desked()
    await desked.admission.admit(desked.ticket())
    waiting = asyncio.ensure_future(desked.admission.admit(desked.ticket()))
    await turns()
    desked.fleet.observe("i0", Event.DRAIN, 1.0)
    desked.admission.ask()
    with pytest.raises(NoInstance, match="no instance of m is serving"):
        await waiting
    with pytest.raises(NoInstance):
        await desked.admission.admit(desked.ticket())


async def test_an_instance_that_may_come_back_is_waited_for_and_then_not_any_more() -> None:
    desked = Desked()
    desked.fleet.observe("i0", Event.REFUSED, 0.0)
    early, patient = (asyncio.ensure_future(desked.admission.admit(desked.ticket())) for _ in range(2))
    await turns()
    assert desked.admission.waiting("m") == 2
    desked.fleet.observe("i0", Event.ANSWERED, 5.0)
    desked.admission.ask()
    assert (await early).waited
    for now_s in range(1 + ABSENCES_UNTIL_GONE):
        desked.fleet.observe("i0", Event.REFUSED, 6.0 + now_s)
        desked.admission.ask()
    with pytest.raises(NoInstance):
        await patient


async def test_a_wait_that_would_be_too_long_is_refused_at_once_with_how_long_it_would_be() -> None:
    desked = Desked(slots=2, call_s=8.0)
    for _ in range(2):
        await desked.admission.admit(desked.ticket())
    waits = asyncio.ensure_future(desked.admission.admit(desked.ticket(patience_s=4.0)))  # 8 s / 2 slots
    await turns()
    with pytest.raises(Overloaded, match=r"the wait would be about 8 s, more than 7\.9 s") as told:
        await desked.admission.admit(desked.ticket(patience_s=7.9))
    assert told.value.retry_after_s == 8
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)


@pytest.mark.parametrize(("call_s", "told_s"), [(None, 5), (0.01, 1), (7.2, 8), (600.0, 30)])
async def test_who_finds_no_room_is_told_when_one_call_is_likely_to_be_over(call_s: float | None, told_s: int) -> None:
    desked = Desked(max_waiting=0, call_s=call_s)
    await desked.admission.admit(desked.ticket())
    with pytest.raises(Overloaded, match="0 calls wait already") as told:
        await desked.admission.admit(desked.ticket())
    assert told.value.retry_after_s == told_s


async def test_bounds_that_a_reload_sets_hold_for_the_calls_to_come() -> None:
    desked = Desked()
    first = await desked.admission.admit(desked.ticket())
    waits = asyncio.ensure_future(desked.admission.admit(desked.ticket(size_bytes=80)))
    await turns()
    desked.admission.set_bounds(max_waiting=None, max_bytes=100)
    assert desked.admission._desk.held_bytes == 80
    with pytest.raises(Overloaded, match="memory"):
        await desked.admission.admit(desked.ticket(size_bytes=21))
    desked.admission.give_back(first)
    assert (await waits).waited
    assert desked.admission._desk.held_bytes == 0


async def test_a_slot_that_is_closing_goes_to_the_next_when_it_has_settled() -> None:
    desked = Desked()
    first = await desked.admission.admit(desked.ticket())
    first.lease.begin()
    waits = asyncio.ensure_future(desked.admission.admit(desked.ticket()))
    await turns()
    desked.admission.close(first)
    desked.admission.give_back(first)
    desked.admission.ask()
    assert (not waits.done(), desked.busy, desked.fleet.view.rows["i0"].closing) == (True, 0, 1)
    asked = desked.fleet.asking("i0", monotonic_s())
    assert desked.fleet.settle_closing("i0", monotonic_s(), asked=asked, processing=0)
    desked.admission.ask()
    assert (await waits).waited


async def test_a_call_that_was_closed_teaches_nothing_of_how_long_calls_hold_their_slot() -> None:
    desked = Desked()
    first = await desked.admission.admit(desked.ticket())
    desked.admission.close(first)
    desked.admission.give_back(first)
    assert repr(desked.times) == "HoldTimes[]"


async def test_a_ticket_may_be_withdrawn_with_an_error_of_another_kind() -> None:
    desked = Desked()
    await desked.admission.admit(desked.ticket())
    ticket = desked.ticket()
    waits = asyncio.ensure_future(desked.admission.admit(ticket))
    await turns()
    desked.admission.withdraw(ticket, ShuttingDown("no", retry_after_s=5))
    with pytest.raises(ShuttingDown):
        await waits


async def test_who_was_failed_by_all_is_told_that() -> None:
    desked = Desked()
    with pytest.raises(NoInstance, match="has failed it"):
        await desked.admission.admit(desked.ticket(excluded=frozenset({"i0"})))


async def test_a_ticket_that_is_withdrawn_ends_its_wait_and_costs_nobody_a_slot() -> None:
    desked = Desked()
    first = await desked.admission.admit(desked.ticket())
    left, stays = desked.ticket(), desked.ticket()
    leaving = asyncio.ensure_future(desked.admission.admit(left))
    staying = asyncio.ensure_future(desked.admission.admit(stays))
    await turns()
    desked.admission.withdraw(left)
    desked.admission.withdraw(left)
    with pytest.raises(ClientGone):
        await leaving
    desked.admission.give_back(first)
    desked.admission.give_back(await staying)
    assert desked.busy == 0


async def test_a_wait_that_is_cancelled_in_the_moment_of_its_grant_gives_the_slot_back() -> None:
    for turns_before in range(4):
        desked = Desked()
        first = await desked.admission.admit(desked.ticket())
        waiting = asyncio.ensure_future(desked.admission.admit(desked.ticket()))
        await turns()
        desked.admission.give_back(first)
        await turns(turns_before)
        if waiting.done():
            desked.admission.give_back(waiting.result())
        else:
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert (desked.busy, desked.admission.waiting("m")) == (0, 0)


# ---------------------------------------------------------------- what is written into the book


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        (Usage(), (None, None)),
        (Usage(input_tokens=70), (None, 70)),
        (Usage(input_tokens=70, cache_read_input_tokens=0), (0, 70)),
        (Usage(input_tokens=70, cache_read_input_tokens=30), (30, 100)),
        (Usage(cache_read_input_tokens=30), (None, None)),
    ],
)
def test_warm_tokens_are_a_part_of_the_prompt(usage: Usage, told: tuple[int | None, int | None]) -> None:
    assert told == prompt_of(usage)


async def test_what_an_answer_left_in_a_slot_is_found_by_the_next_turn() -> None:
    desked = Desked(slots=2, instances=2, choose=None)
    grant = await desked.admission.admit(desked.ticket(word="abcd"))
    home = grant.instance_id
    desked.serve(grant, Usage(input_tokens=3900, cache_read_input_tokens=0, output_tokens=20))
    assert 3900.0 == desked.warm_tokens("abcde", home)
    assert 3900.0 == desked.book.pool("m").prompt_tokens
    for _ in range(5):
        grant = await desked.admission.admit(desked.ticket(word="abcde"))
        assert (home, 3900.0) == (grant.instance_id, grant.decision.ranking[0].hit_tokens)
        desked.admission.give_back(grant)


@pytest.mark.parametrize("how", ["closed", "given back"])
async def test_a_call_that_was_broken_off_leaves_no_more_than_was_warm_before(how: str) -> None:
    desked = Desked(choose=None)
    desked.serve(await desked.admission.admit(desked.ticket(word="ab")), Usage(input_tokens=2000, output_tokens=5))
    grant = await desked.admission.admit(desked.ticket(word="abcd"))
    if how == "closed":
        desked.admission.close(grant)
    desked.admission.give_back(grant)
    assert 2000.0 == desked.warm_tokens("abcde")
    assert "0 run" in repr(desked.book._shadows["i0"])


async def test_every_attempt_has_a_number_of_its_own() -> None:
    desked = Desked(slots=2)
    ticket = desked.ticket()
    grants = [await desked.admission.admit(ticket) for _ in range(2)]
    assert [ticket, ticket] == [grant.ticket for grant in grants]
    assert 2 == len({grant.number for grant in grants})


async def test_who_waits_until_another_has_begun_goes_when_it_has() -> None:
    desked = Desked(slots=2, choose=None)
    desked.serve(await desked.admission.admit(desked.ticket(word="abcd")), Usage(input_tokens=4000, output_tokens=5))
    first = await desked.admission.admit(desked.ticket(word="abcde"))
    second = asyncio.ensure_future(desked.admission.admit(desked.ticket(word="xyz")))
    await turns()
    assert (not second.done(), 1) == (True, desked.admission.waiting("m"))
    desked.admission.begun(first)
    await turns()
    assert second.result().waited


async def test_who_waits_for_something_better_goes_in_time_though_nothing_happens() -> None:
    def patient(call: Call, view: FleetView, now_s: float) -> Decision:
        waits = now_s - call.arrived_s < 0.15
        return Decision(Wait("warm", 0.15) if waits else Place("i0"))

    desked = Desked(choose=patient)
    ticket = desked.ticket()
    grant = await asyncio.wait_for(desked.admission.admit(ticket), 10.0)
    assert grant.waited
    assert grant.granted_s >= ticket.arrived_s + 0.15
    assert "Admission[0 wait]" == repr(desked.admission)


# ---------------------------------------------------------------- from outside


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    with Stage(instances=1, glass=True, fake={"slots": 1}) as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    shared.at_rest()


def waiting(stage: Stage) -> int:
    return int(stage.fleet()["models"][0]["waiting"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_the_line_never_reaches_an_instance(stage: Stage, stream: bool) -> None:
    holding = stage.planned(behave.stall_before_head())
    left, stays = stage.planned(), stage.planned()
    with ThreadPoolExecutor() as threads, Wire(stage.router.port) as holder:
        holder.send(as_bytes(ask(holding)))
        eventually(lambda: stage.seen(holding))
        with Wire(stage.router.port) as wire:
            wire.send(as_bytes(ask(left, stream=stream)))
            eventually(lambda: waiting(stage) == 1)
            call = threads.submit(stage.post, ask(stays, stream=stream))
            eventually(lambda: waiting(stage) == 2)
        eventually(lambda: waiting(stage) == 1, within_s=1)
        holder.sock.shutdown(2)
        response = call.result()
    text = check(response.content, "exact").text if stream else response.json()["content"][0]["text"]
    assert text == text_of(stays)
    assert stage.seen(left) == []
    assert response.headers["x-router-decision"].startswith("place after wait")


def test_calls_that_wait_are_answered_in_their_order(stage: Stage) -> None:
    nonces = [stage.planned() for _ in range(6)]
    holding = stage.planned(behave.stall_before_head())
    with ThreadPoolExecutor() as threads, Wire(stage.router.port) as holder:
        holder.send(as_bytes(ask(holding)))
        eventually(lambda: stage.seen(holding))
        calls = []
        for count, nonce in enumerate(nonces, 1):
            calls.append(threads.submit(stage.post, ask(nonce)))
            eventually(lambda count=count: waiting(stage) == count)  # type: ignore[misc]  # bound to this turn
        stage.fakes[0].release()
        answered(holder.answer(), holding)
        for call, nonce in zip(calls, nonces, strict=True):
            answered(call.result(), nonce)
    order = [seen for seen in stage.plan.calls if any(seen in stage.seen(nonce) for nonce in nonces)]
    assert order == [stage.seen(nonce)[0] for nonce in nonces]
