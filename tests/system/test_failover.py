"""Instances that die, fall silent, change their model or come back: the calls notice as little of it as can be.

How instances are watched is at its defaults, unless a test says otherwise.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

from router.demo.llama import LlamaProcess
from tests.rig import behave, llama
from tests.rig.fake_seen import Behaviour, Seen
from tests.rig.fake_slots import nonce_of
from tests.rig.legality import check
from tests.rig.router import RouterProcess, registry
from tests.rig.start import StartFake, StartRouter
from tests.system.load import Call, Crowd, fleet, instances, new_nonce, report, states, taken
from tests.test_app import ask, eventually

OUT_WITHIN_S = 5.0
IDLE_S = 12.0
LONG = "so much to read before the first word of the answer comes " * 500  # 6,000 tokens: a second and more
Servers = dict[str, LlamaProcess]


class Scene:
    """A router in front of the instances `one` and `two`, and its clients."""

    def __init__(self, router: RouterProcess, crowd: Crowd) -> None:
        self.router, self.crowd = router, crowd

    def state(self, name: str) -> str:
        return states(self.router.url)[name]

    def settle(self) -> None:
        eventually(lambda: set(states(self.router.url).values()) == {"serving"}, 20)

    def taken(self, count: int) -> None:
        eventually(lambda: taken(self.router.url) == count)

    def on_each(self, **more: object) -> list[Call]:
        """Two calls, one on each instance: the second finds the first one's instance busier."""
        calls = []
        for _ in range(2):
            before = taken(self.router.url)
            calls += self.crowd.calls(1, **more)
            self.taken(before + 1)
        return calls

    def answering(self) -> dict[str, Call]:
        """A call on each instance that is in the middle of its answer, by instance."""
        while True:
            calls = [call.wait_for(lambda it: it.content or it.over) for call in self.on_each(max_tokens=20_000)]
            if not any(call.over for call in calls) and len({call.instance for call in calls}) == 2:
                return {call.instance: call for call in calls}
            for call in calls:  # one of them has had little to say
                call.leave()
            self.taken(0)

    def reading(self) -> list[Call]:
        """Four calls, a streamed and a plain one on each instance, whose prompts are being read."""
        said = [{"role": "user", "content": f"{new_nonce()} {LONG}"}]
        return [
            *self.on_each(max_tokens=8, messages=said),
            *self.on_each(max_tokens=8, messages=said, stream=None),
        ]

    def served_by(self, count: int = 8) -> set[str]:
        """Who answers so many calls, none of which may fail."""
        calls = [call.ended() for call in self.crowd.calls(count, max_tokens=4)]
        assert [fault for call in calls if (fault := call.fault())] == []
        return {call.instance for call in calls}


@pytest.fixture(scope="module")
def processes() -> Iterator[Servers]:
    llama.need_llama()
    with ExitStack() as stack:
        both = {name: stack.enter_context(LlamaProcess(llama.tiny_spec())) for name in ("one", "two")}
        for server in both.values():
            server.wait_ready(llama.READY_S)
        yield both


@pytest.fixture
def servers(processes: Servers) -> Iterator[Servers]:
    """Two real servers to kill and to suspend; they are well again for the next test."""
    yield processes
    for server in processes.values():
        server.resume()
        if not server.running:
            server.start()
            server.wait_ready(llama.READY_S)


@pytest.fixture
def scene(servers: Servers, start_router: StartRouter) -> Iterator[Scene]:
    entries = [{"url": it.url, "id": name} for name, it in servers.items()]
    router = start_router(registry(entries, deadlines={"idle": f"{IDLE_S:g}s"}))
    with Crowd(router.port) as crowd:
        scene = Scene(router, crowd)
        scene.settle()
        yield scene
        assert "Traceback" not in router.log


# ------------------------------------------------------------------ killed


def test_calls_without_an_answer_yet_outlive_their_instance_and_those_in_the_middle_are_told(
    scene: Scene, servers: Servers
) -> None:
    answering, reading = scene.answering(), scene.reading()
    assert not any(call.content for call in reading)
    servers["one"].kill()
    cut = answering["one"].ended()
    assert cut.whole
    said = check(cut.raw, comments=True)
    assert said.error is not None
    assert said.error["type"] == "api_error"
    assert "instance one" in said.error["message"]
    assert said.events[-1].name == "error"
    assert [call.ended().fault() for call in reading] == [""] * 4
    assert {call.instance for call in reading} == {"two"}
    assert not answering["two"].over or answering["two"].fault() == ""
    answering["two"].leave()
    assert scene.state("one") == "ejected"


def test_the_next_calls_after_a_death_go_elsewhere_and_the_instance_comes_back_by_itself(
    scene: Scene, servers: Servers
) -> None:
    assert scene.served_by() == {"one", "two"}
    servers["one"].kill()
    assert [scene.served_by(1) for _ in range(8)] == [{"two"}] * 8
    servers["one"].restart()
    eventually(lambda: "one" in scene.served_by(2), 15)
    assert scene.state("one") == "serving"
    assert scene.served_by() == {"one", "two"}


def test_the_death_of_all_is_told_at_once_and_waited_for_briefly(scene: Scene, servers: Servers) -> None:
    """A call that comes in the first moments waits for a restart; it is answered if there is one."""
    for server in servers.values():
        server.kill()
    eventually(lambda: set(states(scene.router.url).values()) == {"ejected"})
    (call,) = scene.crowd.calls(1, max_tokens=4)
    servers["two"].restart()
    assert call.ended().fault() == ""
    assert call.instance == "two"


# ------------------------------------------------------------------ silent


def test_a_suspended_instance_is_out_within_five_seconds_and_its_calls_are_served_elsewhere(
    scene: Scene, servers: Servers
) -> None:
    answering, reading = scene.answering(), scene.reading()
    assert not any(call.content for call in reading)
    servers["one"].suspend()
    since_s = time.monotonic()
    meanwhile = scene.crowd.calls(4, max_tokens=4)
    eventually(lambda: scene.state("one") == "ejected")
    out_s = time.monotonic() - since_s
    report(f"silent for {out_s:.2f} s before it was out")
    assert out_s < OUT_WITHIN_S
    assert scene.served_by() == {"two"}
    assert [call.ended().fault() for call in (*reading, *meanwhile)] == [""] * 8
    assert {call.instance for call in (*reading, *meanwhile)} == {"two"}
    answering["two"].leave()
    cut = answering["one"].ended()
    assert cut.whole
    assert cut.ended_s - since_s < IDLE_S + 4
    error = check(cut.raw, comments=True).error
    assert error is not None
    assert error["type"] == "timeout_error"

    servers["one"].resume()
    eventually(lambda: scene.state("one") == "probation", 15)
    eventually(lambda: "one" in scene.served_by(2))
    assert scene.served_by() == {"one", "two"}


# ------------------------------------------------------------------ 500 to every call


def test_an_instance_that_answers_all_with_500_costs_no_call_and_is_put_out(
    start_fake: StartFake, start_router: StartRouter
) -> None:
    """A GPU that has failed: every look finds the instance well, and being idle it would draw all calls."""
    broken, well = start_fake(lambda _: behave.server_error(), slots=4), start_fake(slots=4)
    entries = [{"url": broken.url, "id": "broken"}, {"url": well.url, "id": "well"}]
    router = start_router(registry(entries, poll={"every": "200ms", "deadline": "1s"}))
    with Crowd(router.port) as crowd:
        scene = Scene(router, crowd)
        scene.settle()
        eventually(lambda: scene.served_by(2) == {"well"} and scene.state("broken") == "ejected")
        assert len(broken.calls) >= 3


def test_a_request_that_all_answer_with_500_is_told_so_after_two_and_puts_nobody_out(
    start_fake: StartFake, start_router: StartRouter
) -> None:
    def plan(seen: Seen) -> Behaviour:
        return behave.server_error() if nonce_of(seen.json) == "nonce:odd" else behave.answer()

    fakes = {name: start_fake(plan, slots=4) for name in ("one", "two", "three")}
    entries = [{"url": fake.url, "id": name} for name, fake in fakes.items()]
    router = start_router(registry(entries, poll={"every": "200ms", "deadline": "1s"}))
    with Crowd(router.port) as crowd:
        scene = Scene(router, crowd)
        scene.settle()
        odd = [crowd.call(ask("nonce:odd", stream=True)).ended() for _ in range(8)]
        assert {call.status for call in odd} == {502}
        assert all(b"Compute error." in call.raw for call in odd)
        assert sum(len(fake.calls) for fake in fakes.values()) == 16
        assert set(states(router.url).values()) == {"serving"}
        assert scene.served_by() <= {"one", "two", "three"}


# ------------------------------------------------------------------ another model


def test_an_instance_that_comes_back_with_another_model_is_left_alone_until_its_own_returns(
    scene: Scene, servers: Servers
) -> None:
    assert scene.served_by() == {"one", "two"}
    one = servers["one"]
    one.kill()
    with LlamaProcess(msgspec.structs.replace(one.spec, alias="another-model")) as other:
        other.wait_ready(llama.READY_S)
        eventually(lambda: scene.state("one") == "misplaced")
        assert [scene.served_by(2) for _ in range(3)] == [{"two"}] * 3
    one.start()
    one.wait_ready(llama.READY_S)
    eventually(lambda: "one" in scene.served_by(2), 15)


def test_an_instance_that_serves_another_pools_model_moves_there_and_back(
    start_fake: StartFake, start_router: StartRouter
) -> None:
    first, second, third = start_fake(model="alpha"), start_fake(model="alpha"), start_fake(model="beta")
    listed = [{"url": first.url, "id": "one"}, {"url": second.url, "id": "two"}]
    models = {"beta": {"instances": [{"url": third.url, "id": "three"}]}}
    router = start_router(registry(listed, model="alpha", aliases=(), models=models, poll={"every": "200ms"}))

    def members(model: str) -> set[str]:
        return {row["id"] for row in fleet(router.url)["instances"] if model in row["models"]}

    with Crowd(router.port) as crowd:
        eventually(lambda: set(states(router.url).values()) == {"serving"})
        second.model = "beta"
        eventually(lambda: members("beta") == {"two", "three"})
        assert members("alpha") == {"one"}
        calls = [call.ended() for call in (*crowd.calls(8, model="alpha"), *crowd.calls(8, model="beta"))]
        assert [fault for call in calls if (fault := call.fault())] == []
        assert {call.instance for call in calls[:8]} == {"one"}
        assert {call.instance for call in calls[8:]} == {"two", "three"}
        second.model = "alpha"
        eventually(lambda: members("alpha") == {"one", "two"})
        assert members("beta") == {"three"}


# ------------------------------------------------------------------ probation, in slow motion


def test_an_instance_that_is_back_gets_one_call_at_a_time_until_one_has_begun_to_be_answered(
    start_fake: StartFake, start_router: StartRouter
) -> None:
    slow: dict[str, Behaviour] = {}

    def plan(seen: Seen) -> Behaviour:
        return slow.get(nonce_of(seen.json), behave.answer())

    fakes = {name: start_fake(plan, slots=4, tokens=3) for name in ("one", "two")}
    entries = [{"url": fake.url, "id": name} for name, fake in fakes.items()]
    router = start_router(registry(entries, poll={"every": "200ms", "deadline": "500ms"}))
    with Crowd(router.port) as crowd:
        scene = Scene(router, crowd)
        scene.settle()
        fakes["one"].freeze()
        eventually(lambda: scene.state("one") == "ejected")
        fakes["one"].thaw()
        eventually(lambda: scene.state("one") == "probation")
        asked = len(fakes["one"].calls)

        def five() -> list[Call]:
            nonces = [new_nonce() for _ in range(5)]
            slow.update(dict.fromkeys(nonces, behave.stall_after_head()))
            return [crowd.call(ask(nonce, stream=True)) for nonce in nonces]

        calls = five()
        eventually(lambda: taken(router.url) == 5)
        assert {name: row["busy"] for name, row in instances(router.url).items()} == {"one": 1, "two": 4}
        calls += five()[:1]
        assert scene.state("one") == "probation"
        fakes["one"].release()
        eventually(lambda: scene.state("one") == "serving")
        assert len(fakes["one"].calls) > asked
        slow.clear()
        eventually(lambda: sum(call.instance == "one" for call in crowd.calls(4) if call.ended()) > 0)
        fakes["two"].release()
        assert [call.ended().fault() for call in calls] == [""] * len(calls)


def test_a_call_that_fails_on_probation_puts_the_instance_out_for_longer(
    start_fake: StartFake, start_router: StartRouter
) -> None:
    script: dict[str, Any] = {"behaviour": behave.answer()}
    weak, strong = start_fake(lambda _: script["behaviour"]), start_fake()
    entries = [{"url": weak.url, "id": "weak"}, {"url": strong.url, "id": "strong"}]
    router = start_router(registry(entries, poll={"every": "200ms", "deadline": "500ms"}))
    with Crowd(router.port) as crowd:
        scene = Scene(router, crowd)
        scene.settle()
        script["behaviour"] = behave.die_mid_chunk(after=0)
        eventually(lambda: scene.served_by(2) and scene.state("weak") == "ejected")
        began_s = time.monotonic()
        eventually(lambda: scene.state("weak") == "probation")
        first_s = time.monotonic() - began_s
        eventually(lambda: scene.served_by(2) and scene.state("weak") == "ejected")
        began_s = time.monotonic()
        eventually(lambda: scene.state("weak") == "probation")
        assert time.monotonic() - began_s > 1.5 * first_s
        script["behaviour"] = behave.answer()
        eventually(lambda: scene.served_by(2) and scene.state("weak") == "serving")
