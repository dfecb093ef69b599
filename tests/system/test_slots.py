"""No instance ever has more calls than slots, and who cannot be served soon is told so at once."""

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.rig import behave, llama
from tests.rig.router import registry
from tests.rig.start import StartFake, StartRouter
from tests.system.load import Call, Crowd, report, taken, waiting, watching_deferred
from tests.test_app import ask, eventually

CALLS = 200


@pytest.fixture
def tiny_router(tiny_pair: llama.Pair, start_router: StartRouter) -> Iterator[tuple[Crowd, str]]:
    """A router in front of two real servers with four slots each, with nothing set but where they are."""
    first, second = tiny_pair
    router = start_router(registry([{"url": first.url, "id": "one"}, {"url": second.url, "id": "two"}]))
    with Crowd(router.port) as crowd:
        yield crowd, router.url
        assert "Traceback" not in router.log


def test_two_hundred_calls_at_once_on_eight_slots_are_all_served_and_none_waits_inside_an_instance(
    tiny_router: tuple[Crowd, str], tiny_pair: llama.Pair
) -> None:
    crowd, url = tiny_router
    with watching_deferred(crowd, [it.spec.port for it in tiny_pair], every_s=0.02) as deferred:
        calls = [call.ended(60) for call in crowd.calls(CALLS, max_tokens=48)]
    assert [fault for call in calls if (fault := call.fault())] == []
    longest_s = max(call.wait_s for call in calls)
    took_s = max(call.ended_s for call in calls) - calls[0].started_s
    report(
        f"{CALLS} calls in {took_s:.2f} s; the longest wait for a first event was {longest_s:.2f} s",
        f"requests_deferred: at most {deferred.most} in {deferred.samples} samples",
    )
    assert deferred.samples > 20
    assert deferred.most == 0
    by_instance = Counter(call.instance for call in calls)
    assert set(by_instance) == {"one", "two"}
    assert min(by_instance.values()) >= CALLS // 4
    assert (taken(url), waiting(url)) == (0, 0)


def test_calls_are_served_in_the_order_in_which_they_came(start_fake: StartFake, start_router: StartRouter) -> None:
    fake = start_fake(slots=1, tokens=3, token_delay_s=0.01)
    router = start_router(registry([fake]))
    with Crowd(router.port) as crowd:
        calls: list[Call] = []

        def all_arrived() -> bool:
            return taken(router.url) + waiting(router.url) + sum(call.over for call in calls) >= len(calls)

        for _ in range(12):
            calls.extend(crowd.calls(1))
            eventually(all_arrived)
        ends = [call.ended().content_s for call in calls]
    assert sorted(ends) == ends
    assert fake.peak_in_flight == 1


def test_beyond_the_room_to_wait_every_call_is_refused_at_once_and_exactly_those(
    start_fake: StartFake, start_router: StartRouter
) -> None:
    fakes = [start_fake(lambda _: behave.stall_before_head(), slots=4) for _ in range(2)]
    router = start_router(registry(fakes, queue={"max_waiting": 16}))
    with Crowd(router.port) as crowd:
        calls = crowd.calls(CALLS)
        eventually(lambda: sum(call.over for call in calls) == CALLS - 8 - 16)
        assert (taken(router.url), waiting(router.url)) == (8, 16)
        refused = [call for call in calls if call.over]
        for fake in fakes:
            fake.release()
        served = [call.ended() for call in calls if call not in refused]
    assert [fault for call in served if (fault := call.fault())] == []
    assert {(call.status, call.headers["content-type"]) for call in refused} == {(529, "application/json")}
    for call in refused:
        error = json.loads(call.raw)
        assert (error["type"], error["error"]["type"]) == ("error", "overloaded_error")
        assert error["request_id"] == call.headers["request-id"]
        assert call.headers["retry-after"].isdecimal()
        assert 1 <= int(call.headers["retry-after"]) <= 30
    assert sum(len(fake.calls) for fake in fakes) == 24
    assert [fake.peak_in_flight for fake in fakes] == [4, 4]


def test_a_refusal_tells_of_the_wait_that_was_learnt(start_fake: StartFake, start_router: StartRouter) -> None:
    """One slot that is held for half a second, and a queue of one: a second attempt is worth it after a second."""
    fake = start_fake(slots=1, prefill_s=0.5)
    router = start_router(registry([fake], queue={"max_waiting": 1}))
    with Crowd(router.port) as crowd:
        for call in crowd.calls(1):
            assert call.ended().fault() == ""
        calls = crowd.calls(3)
        eventually(lambda: any(call.over for call in calls))
        refused = next(call for call in calls if call.over)
        assert (refused.status, refused.headers["retry-after"]) == (529, "1")
        assert [call.ended().fault() for call in calls if call is not refused] == ["", ""]


def test_a_predicted_wait_longer_than_the_deadline_is_refused_before_it_begins(
    start_fake: StartFake, start_router: StartRouter
) -> None:
    fake = start_fake(slots=1, prefill_s=1.0)
    router = start_router(registry([fake], queue={"deadline": "1500ms"}))
    with Crowd(router.port) as crowd:
        assert crowd.call(ask(stream=True)).ended().fault() == ""
        first, second, third = calls = crowd.calls(3)
        eventually(lambda: any(call.over for call in calls))
        refused = next(call for call in calls if call.over)
        assert refused.status == 529
        assert b"more than 1.5 s" in refused.raw
        assert refused.ended_s - refused.started_s < 0.9
        assert [call.ended().fault() for call in (first, second, third) if call is not refused] == ["", ""]
