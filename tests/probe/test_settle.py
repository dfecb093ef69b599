"""Closing slots come free when the instance says so: not sooner, and soon enough for the next call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from router.clock import monotonic_s
from router.config.schema import PollRules
from router.fleet.closing import ARRIVES_S, MUTE_CLOSING_S
from router.fleet.fleet import Fleet, Lease
from router.fleet.health import Event
from router.fleet.instance import Facts, Instance
from router.fleet.registry import Pool, Registry
from router.probe.look import Looker
from router.probe.settle import CLOSING_EVERY_S, Settler
from tests.rig.fake import FakeInstance
from tests.rig.fake_turn import Turn
from tests.rig.start import StartFake

pytestmark = pytest.mark.anyio
SOON_S = 3.0  # a slot serves another call within this time of a disconnect


class Told:
    """An instance that says what the test wants it to."""

    def __init__(self, fake: FakeInstance, *, slots: int = 2) -> None:
        self.fake = fake
        self.processing = self.decodes = 0
        self.moves = False  # it decodes once between two questions
        fake.on["/metrics"] = self._metrics
        place = {"address": "127.0.0.1", "port": fake.port, "authority": f"127.0.0.1:{fake.port}"}
        self.instance = Instance(id="one", slots=slots, **place)  # type: ignore[arg-type]  # they fit
        self.fleet = Fleet(registry(self.instance))
        self.fleet.learn("one", Facts(slots=slots))
        self.fleet.observe("one", Event.ANSWERED, 0.0)
        self.changes = 0
        looker = Looker(self.instance, PollRules(every_s=1.0, deadline_s=1.0))
        self.settler = Settler(self.fleet, looker=lambda _: looker, changed=self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def _metrics(self, turn: Turn) -> None:
        self.decodes += self.moves
        page = f"llamacpp:requests_processing {self.processing}\nllamacpp:n_decode_total {self.decodes}\n"
        await turn.send(200, "text/plain", page.encode())

    def lease(self, *, begun: bool = True) -> Lease:
        lease = self.fleet.lease("one")
        assert lease is not None
        lease.sent(monotonic_s())
        if begun:
            lease.begin()
        return lease

    def slots(self) -> tuple[int, int]:
        """Busy and closing."""
        row = next(iter(self.fleet.view.rows.values()))
        return row.busy, row.closing

    async def asked(self, times: int) -> None:
        """Let it be asked so many times more, and each answer be weighed."""
        due = len(self.fake.requests) + times + 1
        async with asyncio.timeout(10):
            while len(self.fake.requests) < due:  # noqa: ASYNC110  # it is asked in another thread
                await asyncio.sleep(0.01)


def registry(*instances: Instance) -> Registry:
    ids = tuple(it.id for it in instances)
    pool = Pool(name="m", aliases=(), display_name="m", instance_ids=ids)
    return Registry(instances={it.id: it for it in instances}, pools={"m": pool})


@asynccontextmanager
async def settling(told: Told) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(told.settler.settle(told.instance))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_call_that_had_begun_closes_as_soon_as_the_instance_has_let_it_go(start_fake: StartFake) -> None:
    told = Told(start_fake())
    told.processing = 1
    told.lease().close(monotonic_s())
    async with settling(told) as task:
        await told.asked(3)
        assert ((0, 1), 0) == (told.slots(), told.changes)
        told.processing, free_s = 0, monotonic()
        async with asyncio.timeout(SOON_S):
            await task
        assert ((0, 0), 1) == (told.slots(), told.changes)
        assert monotonic() - free_s < SOON_S


async def test_a_call_that_had_not_begun_closes_soon_where_others_are_being_answered(start_fake: StartFake) -> None:
    told = Told(start_fake())
    told.processing, told.moves = 1, True
    told.lease()
    gone = told.lease(begun=False)
    closed_s = monotonic()
    gone.close(monotonic_s())
    async with settling(told) as task:
        async with asyncio.timeout(SOON_S):
            await task
        assert (1, 0) == told.slots()
        assert monotonic() - closed_s >= ARRIVES_S, "until then it may not have arrived"


async def test_a_call_that_had_not_begun_stays_closing_while_one_batch_runs(start_fake: StartFake) -> None:
    """It may sit in the queue, where the instance does not count it."""
    told = Told(start_fake())
    told.processing = 1
    told.lease()
    gone = told.lease(begun=False)
    gone.close(monotonic_s() - ARRIVES_S)
    async with settling(told):
        await told.asked(5)
        assert (1, 1) == told.slots()


async def test_an_answer_is_weighed_when_what_had_ended_before_it_has_been_read(start_fake: StartFake) -> None:
    """Two run, one of them is cut; the other ends, and the instance still has the one that was cut."""
    told = Told(start_fake())
    told.processing = 1
    other = told.lease()
    told.lease().close(monotonic_s())
    page = told.fake.on["/metrics"]
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def over(turn: Turn) -> None:
        await page(turn)
        loop.call_soon_threadsafe(seen.set)

    told.fake.on["/metrics"] = over
    async with settling(told) as task:
        await seen.wait()
        await asyncio.sleep(CLOSING_EVERY_S / 3)
        other.give_back()  # its end comes a little after the answer that did not count it any more
        told.fake.on["/metrics"] = page
        await told.asked(3)
        assert (0, 1) == told.slots()
        told.processing = 0
        async with asyncio.timeout(SOON_S):
            await task
        assert (0, 0) == told.slots()


async def test_who_sleeps_is_not_asked_and_has_no_call_for_long(start_fake: StartFake) -> None:
    told = Told(start_fake())
    told.lease().close(monotonic_s())
    told.fleet.learn("one", Facts(slots=2, sleeping=True))
    began_s = monotonic()
    async with asyncio.timeout(MUTE_CLOSING_S + 3), settling(told) as task:
        await task
    assert monotonic() - began_s >= MUTE_CLOSING_S - CLOSING_EVERY_S
    assert [] == told.fake.requests


async def test_a_process_that_gets_another_name_meanwhile_is_watched_on(start_fake: StartFake) -> None:
    told = Told(start_fake())
    told.processing = 1
    told.lease().close(monotonic_s())
    async with settling(told) as task:
        await told.asked(1)
        renamed = Instance(
            id="uno", address="127.0.0.1", port=told.fake.port, authority=told.instance.authority, slots=2
        )
        elsewhere = Instance(id="one", address="127.0.0.1", port=1, authority="127.0.0.1:1", slots=2)
        told.fleet.adopt(registry(renamed, elsewhere))
        assert 1 == told.fleet.view.rows["uno"].closing
        told.processing = 0
        async with asyncio.timeout(SOON_S):
            await task
        assert 0 == told.fleet.view.rows["uno"].closing


async def test_a_process_that_is_taken_away_is_not_asked_any_more(start_fake: StartFake) -> None:
    told = Told(start_fake())
    told.processing = 1
    told.lease().close(monotonic_s())
    async with settling(told) as task:
        await told.asked(1)
        told.fleet.adopt(registry())
        async with asyncio.timeout(SOON_S):
            await task
