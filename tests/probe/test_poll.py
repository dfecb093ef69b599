"""Looks at instances: what each sight makes of an instance, how soon, and what the fleet learns."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from router.clock import monotonic_s
from router.config.schema import InstanceEntry, ModelEntry, PollRules, RouterFile
from router.errors import RouterError
from router.fleet.fleet import Fleet
from router.fleet.health import Event, State
from router.fleet.instance import Instance, Process
from router.fleet.registry import build
from router.observe.supervise import Supervisor
from router.observe.tally import Counter
from router.probe import stuck
from router.probe.poll import Poll
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour
from tests.rig.fake_turn import Turn
from tests.test_app import eventually

pytestmark = pytest.mark.anyio
EVERY_S, DEADLINE_S = 0.05, 0.15


@pytest.fixture
def fake() -> Iterator[FakeInstance]:
    with FakeInstance(slots=3, n_ctx=2048) as fake:
        yield fake


class Watched:
    """A poll over one fleet, and what it told."""

    def __init__(self, *entries: InstanceEntry, every_s: float = EVERY_S) -> None:
        self.fleet = Fleet(build(RouterFile(models={"m": ModelEntry(instances=entries)})))
        self.changes = 0
        self.deaths: list[str] = []
        self.stuck: list[str] = []
        self.words: list[str] = []
        self.runs: set[Process] = set()
        self.heard = 0.0
        self.supervisor: Supervisor
        self.rules = PollRules(every_s=every_s, deadline_s=DEADLINE_S)
        self.poll = Poll(self.fleet, self.rules, changed=self._changed, runs=self)
        self.failures = Counter("loop_failures", "Failures of loops.", ("loop",))

    def _changed(self) -> None:
        self.changes += 1

    def at(self, instance: Instance) -> bool:
        return instance.process in self.runs

    def heard_s(self, instance: Instance) -> float:
        return self.heard

    def instance_died(self, instance: Instance, error: Callable[[], RouterError], *, begun: bool = False) -> None:
        (self.stuck if begun else self.deaths).append(instance.id)
        self.words.append(error().message)

    def instance(self, id_: str = "one") -> Instance:
        return self.fleet.view.rows[id_].instance

    def reload(self, *entries: InstanceEntry) -> None:
        self.fleet.adopt(build(RouterFile(models={"m": ModelEntry(instances=entries)})))
        self.poll.adopt(self.rules)

    def state(self, id_: str = "one") -> State:
        return self.fleet.view.rows[id_].health.state

    async def until(self, met: Callable[[], object], within_s: float = 5.0) -> None:
        await asyncio.to_thread(eventually, met, within_s)

    async def until_state(self, state: State) -> None:
        await self.until(lambda: self.state() is state)


def entry(fake: FakeInstance, id_: str = "one", **options: object) -> InstanceEntry:
    return InstanceEntry(url=fake.url, id=id_, **options)  # type: ignore[arg-type]  # the options fit


@asynccontextmanager
async def watching(*entries: InstanceEntry, every_s: float = EVERY_S) -> AsyncIterator[Watched]:
    watched = Watched(*entries, every_s=every_s)
    async with Supervisor(watched.failures) as supervisor:
        watched.supervisor = supervisor
        watched.poll.start(supervisor)
        yield watched


def looks(fake: FakeInstance, path: str) -> int:
    return sum(seen.path == path for seen in fake.requests)


async def test_an_instance_that_answers_serves_with_the_slots_that_it_says_it_has(fake: FakeInstance) -> None:
    async with watching(entry(fake)) as watched:
        assert watched.state() is State.UNKNOWN
        await watched.until_state(State.SERVING)
        row = watched.fleet.view.rows["one"]
        assert row.facts is not None
        assert (row.slots, row.facts.ctx_tokens, watched.changes) == (3, 2048, 1)


async def test_the_registrys_slots_win_over_the_instances(fake: FakeInstance) -> None:
    async with watching(entry(fake, slots=1)) as watched:
        await watched.until_state(State.SERVING)
        assert watched.fleet.view.rows["one"].slots == 1


async def test_facts_are_asked_for_at_every_look(fake: FakeInstance) -> None:
    async with watching(entry(fake)) as watched:
        await watched.until_state(State.SERVING)
        fake.props = {"total_slots": 7}
        await watched.until(lambda: watched.fleet.view.rows["one"].slots == 7)
        fake.props = {"is_sleeping": True}
        await watched.until_state(State.SLEEPING)
        fake.props = {}
        await watched.until_state(State.SERVING)


async def test_an_instance_that_refuses_is_out_at_once_and_comes_back_on_probation(fake: FakeInstance) -> None:
    async with watching(entry(fake)) as watched:
        await watched.until_state(State.SERVING)
        fake.stop()
        await watched.until_state(State.EJECTED)
        assert watched.deaths == ["one"]
        assert watched.words == ["instance one stopped answering"]
        fake.start()
        await watched.until_state(State.PROBATION)
        watched.poll.observe(watched.instance(), Event.CALL_BEGAN)
        assert (watched.state(), watched.changes) == (State.SERVING, 4)


async def test_an_instance_that_serves_another_model_is_misplaced_until_it_serves_its_own(fake: FakeInstance) -> None:
    async with watching(entry(fake)) as watched:
        await watched.until_state(State.SERVING)
        fake.props = {"model_alias": "another"}
        await watched.until_state(State.MISPLACED)
        fake.props = {}
        await watched.until_state(State.SERVING)


async def test_one_late_answer_is_forgiven_and_two_are_not(fake: FakeInstance) -> None:
    """Where there is another one; the last of a pool is kept through more."""
    with FakeInstance() as other:
        async with watching(entry(fake), entry(other, "two")) as watched:
            await watched.until(lambda: State.SERVING is watched.state() is watched.state("two"))
            fake.on["/health"] = behave.stall_before_head()
            await watched.until(lambda: watched.fleet.view.rows["one"].health.timeouts == 1)
            assert watched.state() is State.SERVING
            await watched.until_state(State.EJECTED)
            assert watched.deaths == ["one"]
            other.on["/health"] = behave.stall_before_head()
            await watched.until(lambda: watched.fleet.view.rows["two"].health.timeouts == 3)
            assert watched.state("two") is State.SERVING
            del fake.on["/health"], other.on["/health"]
            await watched.until_state(State.PROBATION)
            await watched.until(lambda: watched.fleet.view.rows["two"].health.timeouts == 0)
            assert watched.deaths == ["one"]


async def test_an_answer_that_never_ends_counts_as_late(fake: FakeInstance) -> None:
    endless = behave.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", close=False)

    async def stalls(turn: Turn) -> None:
        await endless(turn)
        await turn.stall()

    async with watching(entry(fake)) as watched:
        await watched.until_state(State.SERVING)
        fake.on["/health"] = stalls
        await watched.until_state(State.EJECTED)


async def test_an_instance_that_loads_is_neither_in_nor_dead(fake: FakeInstance) -> None:
    fake.loading = True
    async with watching(entry(fake)) as watched:
        await watched.until_state(State.LOADING)
        assert (looks(fake, "/props"), watched.deaths) == (0, [])
        fake.loading = False
        await watched.until_state(State.SERVING)


@pytest.mark.parametrize(
    "sight",
    [
        behave.error(500, "no", "server_error"),
        behave.not_json(status=404),
        behave.broken_head(),
        behave.reset_before_head(),
    ],
    ids=["500", "404", "not HTTP", "reset"],
)
async def test_a_look_at_something_else_puts_it_out_where_there_is_another(
    fake: FakeInstance, sight: Behaviour
) -> None:
    with FakeInstance() as other:
        async with watching(entry(fake), entry(other, "two")) as watched:
            await watched.until(lambda: State.SERVING is watched.state() is watched.state("two"))
            fake.on["/health"] = other.on["/health"] = sight
            await watched.until(lambda: State.EJECTED in {watched.state(), watched.state("two")})
            await watched.until(lambda: looks(fake, "/health") + looks(other, "/health") >= 8)
            assert {State.SERVING, State.EJECTED} == {watched.state(), watched.state("two")}
            out = "one" if watched.state() is State.EJECTED else "two"
            del fake.on["/health"], other.on["/health"]
            await watched.until(lambda: watched.state(out) is State.PROBATION)


@pytest.mark.parametrize(
    "props",
    [behave.error(404, "no", "not_found_error"), behave.not_json(), behave.not_json(b"{}")],
    ids=["404", "web page", "no slots"],
)
async def test_without_facts_an_instance_serves_only_with_slots_from_the_registry(
    fake: FakeInstance, props: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    fake.on["/props"] = props
    async with watching(entry(fake)) as watched:
        await watched.until_state(State.EJECTED)
        assert watched.fleet.view.rows["one"].free == 0
    async with watching(entry(fake, slots=2)) as watched:
        await watched.until_state(State.SERVING)
        assert watched.fleet.view.rows["one"].free == 2
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("slots", [None, 2])
async def test_an_instance_that_breaks_off_when_it_is_asked_for_facts_is_not_well(
    fake: FakeInstance, slots: int | None
) -> None:
    fake.on["/props"] = behave.reset_before_head()
    async with watching(entry(fake, slots=slots)) as watched:
        await watched.until_state(State.EJECTED)


async def test_what_an_instance_lacks_is_said_with_its_fix_and_not_at_every_look(
    fake: FakeInstance, caplog: pytest.LogCaptureFixture
) -> None:
    fake.on["/props"] = behave.not_json(b"{}")
    with caplog.at_level("WARNING", "llama_router"):
        async with watching(entry(fake)) as watched:
            await watched.until(lambda: looks(fake, "/props") >= 4)
    said = [record.getMessage() for record in caplog.records]
    assert "set slots in the registry" in said[0]
    assert len(said) == 1


async def test_a_look_brings_the_instances_own_key(fake: FakeInstance) -> None:
    fake.api_key = "inner"
    async with watching(entry(fake, api_key="inner")) as watched:
        await watched.until_state(State.SERVING)
        assert {seen.header("authorization") for seen in fake.requests} == {"Bearer inner"}


async def test_a_wrong_key_is_said_with_its_fix(fake: FakeInstance, caplog: pytest.LogCaptureFixture) -> None:
    fake.api_key = "inner"
    with caplog.at_level("WARNING", "llama_router"):
        async with watching(entry(fake, api_key="wrong")) as watched:
            await watched.until_state(State.EJECTED)
    assert "instance one wants a key" in caplog.text
    assert "wrong" not in caplog.text.replace("wrong_", "")
    assert "inner" not in caplog.text


async def test_a_doubtful_instance_is_looked_at_now(fake: FakeInstance) -> None:
    async with watching(entry(fake), every_s=60.0) as watched:
        await watched.until_state(State.SERVING)
        fake.stop()
        watched.poll.suspect(watched.instance())
        await watched.until(lambda: watched.state() is State.EJECTED, within_s=1)
        watched.poll.suspect(replace(watched.instance(), port=1))


async def test_a_doubt_that_comes_during_a_look_is_not_forgotten(fake: FakeInstance) -> None:
    async with watching(entry(fake), every_s=60.0) as watched:
        await watched.until_state(State.SERVING)
        fake.on["/health"] = _slow_health
        watched.poll.suspect(watched.instance())
        await watched.until(lambda: looks(fake, "/health") == 2)
        watched.poll.suspect(watched.instance())  # the look under way began before whatever is suspected now
        await watched.until(lambda: looks(fake, "/health") == 3, within_s=2)


async def _slow_health(turn: Turn) -> None:
    await asyncio.sleep(0.1)
    await turn.json(200, {"status": "ok"})


async def test_a_slow_instance_does_not_keep_the_others_waiting(fake: FakeInstance) -> None:
    with FakeInstance() as slow:
        slow.on["/health"] = behave.stall_before_head()
        async with watching(entry(slow), entry(fake, "two")) as watched:
            await watched.until(lambda: watched.state("two") is State.SERVING, within_s=1)
            await watched.until(lambda: looks(fake, "/health") >= 5)
            await watched.until_state(State.EJECTED)


async def test_when_the_poll_ends_nothing_goes_on(fake: FakeInstance) -> None:
    tasks = len(asyncio.all_tasks())
    async with watching(entry(fake)) as watched:
        await watched.until_state(State.SERVING)
        assert len(asyncio.all_tasks()) > tasks
    assert len(asyncio.all_tasks()) == tasks
    await asyncio.to_thread(fake.wait_idle)
    assert not watched.failures._series


# ---------------------------------------------------------------- stuck


def busy(decodes: int = 7) -> Behaviour:
    return behave.not_json(b"llamacpp:requests_processing 1\nllamacpp:n_decode_total %d\n" % decodes)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("pulse", [busy(), behave.stall_before_head()], ids=["stands still", "no answer"])
async def test_every_call_at_a_stuck_instance_is_ended_begun_or_not_and_though_it_is_the_last(
    fake: FakeInstance, monkeypatch: pytest.MonkeyPatch, pulse: Behaviour, *, alone: bool
) -> None:
    monkeypatch.setattr(stuck, "STUCK_S", 1.0)
    fake.on["/metrics"] = pulse
    with FakeInstance() as other:
        async with watching(entry(fake), *([] if alone else [entry(other, "two")])) as watched:
            states = watched.fleet.view.rows
            await watched.until(lambda: {State.SERVING} == {row.health.state for row in states.values()})
            watched.runs.add(watched.instance().process)
            await watched.until(lambda: watched.stuck)
            assert "instance one is stuck: it is busy and decodes nothing" == watched.words[0]
            if alone:
                assert (State.SERVING, []) == (watched.state(), watched.deaths)
                said = len(watched.stuck)
                await watched.until(lambda: len(watched.stuck) > said)  # later calls have their own time
            else:
                await watched.until(lambda: watched.deaths == ["one"])
                assert watched.fleet.view.rows["one"].health.sick
            assert set(watched.stuck) == {"one"}


async def test_an_instance_that_answers_no_questions_and_brings_tokens_is_not_stuck(
    fake: FakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stuck, "STUCK_S", 0.5)
    fake.on["/metrics"] = behave.stall_before_head()
    async with watching(entry(fake)) as watched:
        await watched.until_state(State.SERVING)
        watched.heard = math.inf
        watched.runs.add(watched.instance().process)
        await watched.until(lambda: looks(fake, "/metrics") >= 6)
        assert watched.stuck == []


async def test_an_instance_that_cannot_tell_is_not_stuck(fake: FakeInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck, "STUCK_S", 0.2)
    fake.on["/metrics"] = fake.on["/slots"] = behave.error(501, "not supported", "not_supported_error")
    async with watching(entry(fake)) as watched:
        await watched.until_state(State.SERVING)
        watched.runs.add(watched.instance().process)
        await watched.until(lambda: looks(fake, "/slots") >= 8)
        assert watched.stuck == []


async def test_without_calls_of_ours_nobody_asks_whether_it_is_stuck(fake: FakeInstance) -> None:
    async with watching(entry(fake)) as watched:
        await watched.until(lambda: looks(fake, "/health") >= 4)
        assert looks(fake, "/metrics") == 0


# ---------------------------------------------------------------- reloads


async def test_what_is_seen_of_a_process_that_lost_its_id_says_nothing_of_the_new_one(fake: FakeInstance) -> None:
    with FakeInstance() as new:
        async with watching(entry(fake)) as watched:
            await watched.until_state(State.SERVING)
            old = watched.instance()
            watched.reload(entry(new))
            await watched.until_state(State.SERVING)
            for event in (Event.REFUSED, Event.LOADING, Event.CALL_FAILED, Event.STUCK, Event.DRAIN):
                watched.poll.observe(old, event)
            assert (watched.state(), watched.deaths) == (State.SERVING, [])


async def test_what_is_seen_of_a_process_that_got_another_id_is_seen_of_it(fake: FakeInstance) -> None:
    with FakeInstance() as other:
        async with watching(entry(fake), entry(other, "two")) as watched:
            await watched.until(lambda: State.SERVING is watched.state() is watched.state("two"))
            was_one = watched.instance()
            watched.reload(entry(other), entry(fake, "two"))
            watched.poll.observe(was_one, Event.LOADING)
            assert (State.SERVING, State.LOADING) == (watched.state(), watched.state("two"))


async def test_the_old_process_is_watched_while_calls_run_there_and_its_death_is_its_own(fake: FakeInstance) -> None:
    with FakeInstance() as new:
        async with watching(entry(fake)) as watched:
            await watched.until_state(State.SERVING)
            old = watched.instance()
            watched.runs.add(old.process)
            watched.reload(entry(new))
            await watched.until_state(State.SERVING)
            before = looks(fake, "/health")
            await watched.until(lambda: looks(fake, "/health") >= before + 2)
            assert watched.deaths == []
            fake.stop()
            await watched.until(lambda: watched.deaths)
            assert watched.state() is State.SERVING
            watched.runs.clear()
            await watched.until(lambda: old.process not in watched.poll._watches)
            assert "Poll[1 instances, every 0.05 s]" == repr(watched.poll)


async def test_an_old_process_that_is_stuck_has_its_calls_ended(
    fake: FakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stuck, "STUCK_S", 0.3)
    fake.on["/metrics"] = busy()
    with FakeInstance() as new:
        async with watching(entry(fake)) as watched:
            await watched.until_state(State.SERVING)
            watched.runs.add(watched.instance().process)
            watched.reload(entry(new))
            await watched.until(lambda: watched.stuck)
            await watched.until_state(State.SERVING)


async def test_a_process_that_comes_back_while_its_calls_run_is_watched_by_one_loop(fake: FakeInstance) -> None:
    with FakeInstance() as new:
        async with watching(entry(fake), every_s=0.2) as watched:
            await watched.until_state(State.SERVING)
            watched.runs.add(watched.instance().process)
            watched.reload(entry(new))
            watched.reload(entry(new), entry(fake, "two"))
            await watched.until_state(State.SERVING)
            loops = [name for name in watched.supervisor._tasks if name.startswith("poll ")]
            await watched.until(lambda: len([it for it in watched.supervisor._tasks if it.startswith("poll ")]) == 2)
            assert len(loops) <= 3
            assert watched.state("two") is State.SERVING


async def test_slots_that_close_at_a_process_go_on_closing_under_its_new_name(fake: FakeInstance) -> None:
    fake.on["/metrics"] = busy()
    async with watching(entry(fake)) as watched:
        await watched.until_state(State.SERVING)
        lease = watched.fleet.lease("one")
        assert lease is not None
        lease.begin()
        lease.close(monotonic_s())
        watched.poll.closing(watched.instance())
        watched.reload(entry(fake, "uno"))
        fake.on["/metrics"] = behave.not_json(b"llamacpp:requests_processing 0\n")
        await watched.until(lambda: watched.fleet.view.rows["uno"].closing == 0, within_s=3)
        await watched.until(lambda: not watched.poll._settling)


async def test_a_process_that_comes_back_with_slots_that_close_is_asked_about_them(fake: FakeInstance) -> None:
    with FakeInstance() as other:
        async with watching(entry(fake), entry(other, "two")) as watched:
            await watched.until_state(State.SERVING)
            lease = watched.fleet.lease("one")
            assert lease is not None
            lease.begin()
            watched.reload(entry(other, "two"))
            lease.close(monotonic_s())
            watched.poll.closing(lease.instance)
            await watched.until(lambda: not watched.poll._settling)
            watched.reload(entry(fake, "back"), entry(other, "two"))
            assert 1 == watched.fleet.view.rows["back"].closing
            await watched.until(lambda: watched.fleet.view.rows["back"].closing == 0, within_s=3)


async def test_a_moved_instance_whose_new_pool_is_gone_is_looked_at_now(fake: FakeInstance) -> None:
    with FakeInstance(model="other") as other:
        async with watching(entry(fake), every_s=60.0) as watched:
            await watched.until_state(State.SERVING)
            one = InstanceEntry(url=fake.url, id="one")
            two = ModelEntry(instances=(InstanceEntry(url=other.url, id="two"),))
            both = RouterFile(models={"m": ModelEntry(instances=(one,)), "other": two})
            watched.fleet.adopt(build(both))
            watched.poll.adopt(watched.rules)
            fake.props = {"model_alias": "other"}
            watched.poll.suspect(watched.instance())
            await watched.until(lambda: "one" in watched.fleet.view.members["other"])
            watched.reload(entry(fake))
            assert watched.state() is State.UNKNOWN
            await watched.until_state(State.MISPLACED)
