"""count_tokens: at once, without a slot, from whoever can."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.rig import behave
from tests.rig.fake_seen import Behaviour
from tests.rig.fake_turn import Turn
from tests.test_app import Stage, Wire, answered, as_bytes, ask, eventually, refused

PATH = "/v1/messages/count_tokens"


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    with Stage(glass=True, fake={"slots": 1}, entry={"model": "inner"}) as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    for fake in shared.fakes:
        fake.on.pop(PATH, None)
    shared.at_rest()


def everywhere(stage: Stage, behaviour: Behaviour) -> None:
    for fake in stage.fakes:
        fake.on[PATH] = behaviour


def test_tokens_are_counted_and_nothing_else_is_said(stage: Stage) -> None:
    response = stage.post(ask("nonce:count", max_tokens=None), PATH)
    assert (response.status_code, response.json()) == (200, {"input_tokens": 3})
    assert response.headers["request-id"].startswith("req_")
    assert response.headers["x-router-instance"] in {"one", "two"}


def test_the_count_agrees_with_the_usage_of_the_call(stage: Stage) -> None:
    body = ask("nonce:agree", system="be brief and kind")
    usage = stage.post(body).json()["usage"]
    assert stage.post(body, PATH).json()["input_tokens"] == usage["input_tokens"] + usage["cache_read_input_tokens"]


def test_the_instance_sees_the_request_as_it_was_but_for_its_own_name_of_the_model(stage: Stage) -> None:
    body = ask("nonce:name", max_tokens=None, model="claude-x", tools=[{"name": "a", "input_schema": {}}])
    stage.post(body, PATH)
    seen = next(it for fake in stage.fakes for it in fake.requests if b"nonce:name" in it.body)
    assert seen.json == {**body, "model": "inner"}


def test_tokens_are_counted_at_once_when_every_slot_is_taken(stage: Stage) -> None:
    nonces = [stage.planned(behave.stall_before_head()) for _ in range(3)]
    wires = []
    with ThreadPoolExecutor():
        for nonce in nonces:
            wire = Wire(stage.router.port)
            wires.append(wire)
            wire.send(as_bytes(ask(nonce)))
        eventually(lambda: stage.fleet()["models"][0]["waiting"] == 1)
        started = time.monotonic()
        assert stage.post(ask("nonce:busy"), PATH).json() == {"input_tokens": 3}
        assert time.monotonic() - started < 0.5
        for wire in wires:
            wire.__exit__()


@pytest.mark.parametrize(
    "fault",
    [behave.reset_before_head(), behave.loading(), behave.not_json(), behave.error(404, "no", "not_found_error")],
    ids=["reset", "loading", "web page", "no such route"],
)
def test_another_instance_counts_where_one_cannot(stage: Stage, fault: Behaviour) -> None:
    refusals: list[str] = []

    async def first_time(turn: Turn) -> None:
        if refusals:
            await turn.json(200, {"input_tokens": 42})
        else:
            refusals.append(turn.fake.url)
            await fault(turn)

    everywhere(stage, first_time)
    response = stage.post(ask(), PATH)
    assert (response.status_code, response.json()) == (200, {"input_tokens": 42})


FAULTS: dict[str, tuple[Behaviour, int, str, str]] = {
    "bad request": (behave.error(400, "messages: bad", "invalid_request_error"), 400, "invalid_request_error", "bad"),
    "page": (behave.not_json(), 502, "api_error", "cannot be read"),
    "no count": (behave.not_json(b"{}"), 502, "api_error", "cannot be read"),
    "fault": (behave.server_error(), 502, "api_error", "status 500"),
    "reset": (behave.reset_before_head(), 502, "api_error", "closed its connection"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_goes_wrong_is_told_as_for_a_message(stage: Stage, name: str) -> None:
    behaviour, status, type_, words = FAULTS[name]
    everywhere(stage, behaviour)
    assert words in refused(stage.post(ask(), PATH), status, type_)


def test_an_unknown_model_is_not_counted(stage: Stage) -> None:
    assert "test-model" in refused(stage.post(ask(model="nobody"), PATH), 404, "not_found_error")


def test_a_client_that_leaves_while_it_is_counted_frees_the_connection(stage: Stage) -> None:
    began: list[int] = []

    async def stall(turn: Turn) -> None:
        began.append(1)
        await turn.stall()

    everywhere(stage, stall)
    with Wire(stage.router.port) as wire:
        wire.send(as_bytes(ask(), start=f"POST {PATH} HTTP/1.1"))
        eventually(lambda: began)
    eventually(lambda: sum(len(fake._open) for fake in stage.fakes) <= 2, within_s=2)


def test_when_nobody_serves_that_is_told(stage: Stage) -> None:
    for fake in stage.fakes:
        fake.stop()
    try:
        eventually(lambda: all(it["state"] == "ejected" for it in stage.fleet()["instances"]))
        assert "no instance" in refused(stage.post(ask(), PATH), 503, "api_error")
    finally:
        for fake in stage.fakes:
            fake.start()
    eventually(stage.well)
    answered(stage.post(ask("nonce:back")), "nonce:back")
