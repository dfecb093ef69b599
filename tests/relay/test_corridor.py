"""What runs where: plain calls are told of their instance's death, since they would not notice it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from router.errors import RouterError, UpstreamTimedOut
from router.fleet.instance import Instance
from router.relay.attempt import Attempt
from router.relay.corridor import Running
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.legality import check
from tests.test_app import Stage, answered, ask, eventually, refused, text_of


class Pretend:
    """An attempt that writes down why it was abandoned."""

    def __init__(self, instance_id: str, *, plain: bool = True) -> None:
        self.instance = Instance(id=instance_id, address="", port=1, authority="")
        self.plain = plain
        self.why: list[RouterError] = []

    def abandon(self, error: RouterError) -> None:
        self.why.append(error)


def running(*attempts: Pretend) -> Running:
    them = Running()
    for attempt in attempts:
        them.add(cast("Attempt", attempt))
    return them


def dead() -> RouterError:
    return UpstreamTimedOut("dead", instance_id="one")


def test_plain_calls_of_an_instance_that_died_are_ended_each_with_an_error_of_its_own() -> None:
    one, other, elsewhere, stream = Pretend("one"), Pretend("one"), Pretend("two"), Pretend("one", plain=False)
    running(one, other, elsewhere, stream).instance_died("one", dead)
    assert [len(it.why) for it in (one, other, elsewhere, stream)] == [1, 1, 0, 0]
    assert one.why[0] is not other.why[0]


def test_an_attempt_that_is_over_is_not_told() -> None:
    one, two = Pretend("one"), Pretend("one")
    them = running(one, two)
    them.remove(cast("Attempt", one))
    them.instance_died("one", dead)
    assert (len(one.why), len(two.why)) == (0, 1)


def test_an_instance_without_calls_may_die() -> None:
    running().instance_died("one", dead)


def test_an_attempt_that_leaves_while_others_are_told_does_no_harm() -> None:
    them = Running()

    class Leaving(Pretend):
        def abandon(self, error: RouterError) -> None:
            super().abandon(error)
            them.remove(cast("Attempt", self))

    some = [Leaving("one") for _ in range(3)]
    for attempt in some:
        them.add(cast("Attempt", attempt))
    them.instance_died("one", dead)
    assert [len(it.why) for it in some] == [1, 1, 1]


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
            response = call.result(timeout=5)
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
            said = check(call.result(timeout=20).content, "native")
        finally:
            del home.on["/health"]
    assert (said.text, said.error) == (text_of(nonce), None)
