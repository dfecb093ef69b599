"""What every call passes: who runs where, how much each key has under way, and whether new calls may begin."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RateLimited, RouterError, ShuttingDown, UpstreamTimedOut
from router.relay.attempt import Attempt
from router.relay.corridor import Calls, Running, Weights
from tests.fleet import sample
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.legality import check
from tests.test_app import Stage, answered, ask, eventually, refused, text_of

steady = settings(derandomize=True, max_examples=300, deadline=None)


class Pretend:
    """An attempt that writes down why it was abandoned."""

    def __init__(self, instance_id: str, *, at: str = "", first_event_s: float | None = None) -> None:
        self.instance = sample.instance(instance_id, at=at or instance_id)
        self.first_event_s = self.last_event_s = first_event_s
        self.why: list[RouterError] = []

    def abandon(self, error: RouterError) -> None:
        self.why.append(error)


def running(*attempts: Pretend) -> Running:
    them = Running()
    for attempt in attempts:
        them.add(cast("Attempt", attempt))
    return them


ONE, TWO = sample.instance("one"), sample.instance("two")


def dead() -> RouterError:
    return UpstreamTimedOut("dead", instance_id="one")


def test_calls_that_have_shown_nothing_are_ended_with_their_instance_each_with_an_error_of_its_own() -> None:
    one, other, elsewhere, speaking = Pretend("one"), Pretend("one"), Pretend("two"), Pretend("one", first_event_s=0.0)
    running(one, other, elsewhere, speaking).instance_died(ONE, dead)
    assert [len(it.why) for it in (one, other, elsewhere, speaking)] == [1, 1, 0, 0]
    assert one.why[0] is not other.why[0]


def test_an_attempt_that_is_over_is_not_told() -> None:
    one, two = Pretend("one"), Pretend("one")
    them = running(one, two)
    them.remove(cast("Attempt", one))
    them.instance_died(ONE, dead)
    assert (len(one.why), len(two.why)) == (0, 1)


def test_an_instance_without_calls_may_die() -> None:
    running().instance_died(ONE, dead)


def test_the_calls_of_a_stuck_instance_are_all_ended_begun_or_not() -> None:
    waits, speaks, elsewhere = Pretend("one"), Pretend("one", first_event_s=1.0), Pretend("two")
    running(waits, speaks, elsewhere).instance_died(ONE, dead, begun=True)
    assert [1, 1, 0] == [len(it.why) for it in (waits, speaks, elsewhere)]


def test_who_dies_is_a_process_whatever_id_it_has_now_and_whoever_has_its_old_one() -> None:
    before, renamed, newcomer = Pretend("one"), Pretend("uno", at="one"), Pretend("one", at="elsewhere")
    them = running(before, renamed, newcomer)
    them.instance_died(sample.instance("uno", at="one"), dead)
    assert [1, 1, 0] == [len(it.why) for it in (before, renamed, newcomer)]
    assert (True, True) == (them.at(ONE), them.at(newcomer.instance))


def test_the_last_that_was_heard_from_an_instance_is_of_any_of_its_calls() -> None:
    them = running(Pretend("one"), Pretend("one", first_event_s=3.0), Pretend("one", first_event_s=2.0), Pretend("two"))
    assert [3.0, 0.0, 0.0] == [them.heard_s(it) for it in (ONE, TWO, sample.instance("three"))]


def test_an_instance_where_nothing_runs_any_more_is_not_kept() -> None:
    one = Pretend("one")
    them = running(one)
    assert "Running[one 1]" == repr(them)
    them.remove(cast("Attempt", one))
    assert "Running[]" == repr(them)
    assert {} == them._attempts


def test_it_is_known_whether_calls_run_at_an_instance() -> None:
    one, other = Pretend("one"), Pretend("one")
    them = running(one, other)
    told = [them.at(ONE), them.at(TWO)]
    for attempt in (one, other):
        them.remove(cast("Attempt", attempt))
        told.append(them.at(ONE))
    assert [True, False, True, False] == told


def test_an_attempt_that_leaves_while_others_are_told_does_no_harm() -> None:
    them = Running()

    class Leaving(Pretend):
        def abandon(self, error: RouterError) -> None:
            super().abandon(error)
            them.remove(cast("Attempt", self))

    some = [Leaving("one") for _ in range(3)]
    for attempt in some:
        them.add(cast("Attempt", attempt))
    them.instance_died(ONE, dead)
    assert [len(it.why) for it in some] == [1, 1, 1]


# ---------------------------------------------------------------- how much, and whether at all


def test_a_key_may_have_so_many_bytes_under_way_and_not_one_more() -> None:
    weights = Weights(100)
    weights.add("k", 60)
    weights.add("k", 40)
    with pytest.raises(RateLimited, match="this key has 100 B of requests under way, and 100 B are allowed") as told:
        weights.add("k", 1)
    assert (5, "Weights[k 100]") == (told.value.retry_after_s, repr(weights))
    weights.add("another", 100)
    weights.remove("k", 40)
    weights.add("k", 40)


def test_a_key_that_has_nothing_under_way_is_forgotten() -> None:
    weights = Weights(100)
    for _ in range(2):
        weights.add("k", 60)
        weights.remove("k", 60)
    assert "Weights[]" == repr(weights)


@steady
@given(
    steps=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(-9, 60)), max_size=40), most=st.integers(0, 100)
)
def test_no_key_ever_has_more_under_way_than_it_may(steps: list[tuple[str, int]], most: int) -> None:
    weights = Weights(most)
    under_way: dict[str, list[int]] = {"a": [], "b": []}
    for key, size in steps:
        if size < 0:
            if under_way[key]:
                weights.remove(key, under_way[key].pop(size % len(under_way[key])))
        elif sum(under_way[key]) + size <= most:
            weights.add(key, size)
            under_way[key].append(size)
        else:
            with pytest.raises(RateLimited):
                weights.add(key, size)
        told = {it: total for it, total in weights._bytes.items() if total}
        assert {it: sum(sizes) for it, sizes in under_way.items() if sum(sizes)} == told


def test_new_calls_begin_until_it_is_told_to_stop_and_running_ones_are_ended_only_then() -> None:
    calls = Calls()
    ended: dict[str, RouterError] = {}

    def stop_of(name: str) -> Callable[[RouterError], None]:
        def stop(error: RouterError) -> None:
            ended[name] = error
            calls.end(stop)

        return stop

    first, second = stop_of("first"), stop_of("second")
    calls.begin(first)
    calls.begin(second)
    calls.end(first)
    assert ("Calls[1 under way]", 1) == (repr(calls), len(calls))
    calls.stopping = True
    with pytest.raises(ShuttingDown, match="shutting down"):
        calls.begin(stop_of("third"))
    assert ({}, "Calls[1 under way, stopping]") == (ended, repr(calls))
    calls.stop_all()
    assert ["second"] == list(ended)
    assert isinstance(ended["second"], ShuttingDown)
    assert 0 == len(calls)


# ---------------------------------------------------------------- from outside


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    poll: dict[str, Any] = {"every": "100ms", "deadline": "600ms"}
    with Stage(glass=True, poll=poll) as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    shared.at_rest()


def home_of(stage: Stage, nonce: str) -> FakeInstance:
    eventually(lambda: stage.seen(nonce))
    return next(fake for fake in stage.fakes if fake.url.endswith(str(stage.seen(nonce)[0].header("host"))))


def test_a_plain_call_whose_instance_falls_silent_is_answered_by_another(stage: Stage) -> None:
    nonce = stage.planned(behave.stall_before_head())
    with ThreadPoolExecutor() as threads:
        call = threads.submit(stage.post, ask(nonce))
        home = home_of(stage, nonce)
        home.freeze()
        try:
            response = call.result(timeout=5)
        finally:
            home.thaw()
    answered(response, nonce)
    assert len(stage.seen(nonce)) == 2
    eventually(lambda: home.in_flight == 0)


def test_when_there_is_no_other_the_client_is_told(stage: Stage) -> None:
    nonce = stage.planned(behave.stall_before_head())
    with ThreadPoolExecutor() as threads:
        call = threads.submit(stage.post, ask(nonce))
        eventually(lambda: stage.seen(nonce))
        for fake in stage.fakes:
            fake.freeze()
        try:
            response = call.result(timeout=20)  # it waits for somebody to come back
        finally:
            for fake in stage.fakes:
                fake.thaw()
    if response.status_code == 504:
        assert "stopped answering" in refused(response, 504, "timeout_error")
    else:  # the second was still serving when the first went out
        assert response.status_code in {502, 503}


def test_a_stream_goes_on_while_its_instance_answers_no_looks(stage: Stage) -> None:
    """A long batch may keep /health waiting; a stream that brings tokens is proof of life."""
    nonce = stage.planned(behave.drip(0.002))
    with ThreadPoolExecutor() as threads:
        call = threads.submit(stage.post, ask(nonce, stream=True))
        home = home_of(stage, nonce)
        home.on["/health"] = behave.stall_before_head()
        try:
            said = check(call.result(timeout=20).content, "exact")
        finally:
            del home.on["/health"]
    assert (said.text, said.error) == (text_of(nonce), None)
