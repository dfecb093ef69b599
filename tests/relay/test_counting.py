"""count_tokens: at once, without a slot, from whoever can."""

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from router.errors import NotSupported, UpstreamBroke
from router.relay.counting import CountTokens
from router.translate.plan import CHAT_COUNT_PATH, TOKENIZE_PATH
from tests.relay.test_serving import HOSTED, MODEL, NATIVE, OLD, OTHER, TOOL, Client, Relay, relaying, words
from tests.rig import behave
from tests.rig.fake_seen import Behaviour
from tests.rig.fake_turn import Turn
from tests.rig.router import registry
from tests.rig.start import StartFake
from tests.test_app import Stage, Wire, answered, as_bytes, ask, eventually, refused

PATH = "/v1/messages/count_tokens"
_prompts = itertools.count(1)


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


def another() -> dict[str, object]:
    """A prompt that nobody has counted before."""
    return ask(f"nonce:c{next(_prompts)}")


def test_tokens_are_counted_and_nothing_else_is_said(stage: Stage) -> None:
    response = stage.post(ask("nonce:count", max_tokens=None), PATH)
    assert (response.status_code, response.json()) == (200, {"input_tokens": 3})
    assert response.headers["request-id"].startswith("req_")
    assert response.headers["x-router-instance"] in {"one", "two"}


def test_the_count_agrees_with_the_usage_of_the_call(stage: Stage) -> None:
    body = ask("nonce:agree", system="be brief and kind")
    usage = stage.post(body).json()["usage"]
    assert stage.post(body, PATH).json()["input_tokens"] == usage["input_tokens"] + usage["cache_read_input_tokens"]


def test_what_is_counted_is_the_very_body_that_a_call_would_send(stage: Stage) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "say nonce:name"}]}]
    tool = {"name": "a", "input_schema": {}, "cache_control": {"type": "ephemeral"}}
    body = ask(messages=messages, model="claude-x", tools=[tool], metadata={"user_id": "u"})
    stage.post(body, PATH)
    stage.post(body)
    counted, called = [it for fake in stage.fakes for it in fake.requests if b"nonce:name" in it.body]
    assert (PATH, "/v1/messages") == (counted.path, called.path)
    assert counted.body == called.body
    assert counted.json == {
        **ask("nonce:name", model="inner", stream=False),
        "tools": [{"name": "a", "description": "", "input_schema": {}}],
    }


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
    response = stage.post(another(), PATH)
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
    assert words in refused(stage.post(another(), PATH), status, type_)


def test_an_unknown_model_is_not_counted(stage: Stage) -> None:
    assert "test-model" in refused(stage.post(ask(model="nobody"), PATH), 404, "not_found_error")


def test_a_client_that_leaves_while_it_is_counted_frees_the_connection(stage: Stage) -> None:
    began: list[int] = []

    async def stall(turn: Turn) -> None:
        began.append(1)
        await turn.stall()

    everywhere(stage, stall)
    with Wire(stage.router.port) as wire:
        wire.send(as_bytes(another(), start=f"POST {PATH} HTTP/1.1"))
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


# ---------------------------------------------------------------- counted once


def counted(stage: Stage) -> int:
    return sum(seen.path == PATH for fake in stage.fakes for seen in fake.requests)


def test_a_prompt_is_counted_once_however_it_is_written_and_again_after_a_reload(stage: Stage) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    nonce = "nonce:once"
    written = [
        ask(nonce, metadata={"user_id": "u"}),
        ask(messages=[{"role": "user", "content": [{"type": "text", "text": f"say {nonce}", **mark}]}]),
        ask(nonce, x="y"),
    ]
    before = counted(stage)
    for body in [*written, *written]:
        assert stage.post(body, PATH).json() == {"input_tokens": 3}
    assert counted(stage) == before + 1
    assert stage.post(ask(f"{nonce} more"), PATH).json() == {"input_tokens": 4}
    assert counted(stage) == before + 2
    assert stage.post({}, "/admin/reload").status_code == 200
    for body in written:
        assert stage.post(body, PATH).json() == {"input_tokens": 3}
    assert counted(stage) == before + 3


def test_a_failed_count_is_not_remembered(stage: Stage) -> None:
    body = another()
    everywhere(stage, behave.server_error())
    refused(stage.post(body, PATH), 502, "api_error")
    for fake in stage.fakes:
        del fake.on[PATH]
    assert stage.post(body, PATH).json() == {"input_tokens": 3}


def test_a_count_is_logged_as_what_it_is(stage: Stage) -> None:
    response = stage.post(another(), PATH)
    stage.router.wait_logged(response.headers["request-id"])
    (line,) = [line for line in stage.router.log.splitlines() if response.headers["request-id"] in line]
    record = json.loads(line)
    assert ("count_tokens", "ok", 3, MODEL) == tuple(
        record[name] for name in ("endpoint", "outcome", "input_tokens", "pool")
    )


def test_another_model_at_the_same_address_counts_anew() -> None:
    with Stage(instances=1) as stage:
        body = another()
        assert stage.post(body, PATH).json() == {"input_tokens": 3}
        entry = {"url": stage.fakes[0].url, "id": "one", "model": "else"}
        stage.router.write_config(registry([entry], **stage._top))
        assert stage.post({}, "/admin/reload").status_code == 200
        everywhere(stage, _says({"input_tokens": 9}))
        assert stage.post(body, PATH).json() == {"input_tokens": 9}


# ---------------------------------------------------------------- as each kind counts


def _says(body: object) -> Behaviour:
    async def behaviour(turn: Turn) -> None:
        await turn.json(200, body)

    return behaviour


async def count(relay: Relay, body: dict[str, object]) -> int:
    client = Client(body)
    assert await relay.call(client, CountTokens) is None
    assert client.status == 200
    tokens: int = json.loads(client.said)["input_tokens"]
    return tokens


WAYS = {
    "native": (NATIVE, PATH, {"input_tokens": 5}),
    "old": (OLD, CHAT_COUNT_PATH.decode(), {"input_tokens": 5, "object": "response.input_tokens"}),
    "other": (OTHER, TOKENIZE_PATH.decode(), {"count": 5, "max_model_len": 4096, "tokens": [1, 2, 3, 4, 5]}),
    "hosted": (HOSTED, PATH, {"input_tokens": 5}),
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.anyio
async def test_each_kind_counts_the_very_prompt_of_a_call_in_its_own_way(start_fake: StartFake, name: str) -> None:
    entry, path, said = WAYS[name]
    body = ask("nonce:kind", system="be brief", tools=[TOOL])
    async with relaying(start_fake(), entries=[entry]) as relay:
        (fake,) = relay.fakes
        fake.on[path] = _says(said)
        assert [5, 5] == [await count(relay, body), await count(relay, body)]
        (asked,) = fake.requests
        assert path == asked.path
        assert await relay.call(Client(body)) is None
        assert fake.calls[0].body == asked.body


@pytest.mark.anyio
async def test_an_instance_of_the_messages_api_counts_the_body_as_it_came(start_fake: StartFake) -> None:
    client = Client(ask("nonce:exact", max_tokens=None, tools=[{"type": "web_search_20250305", "name": "w"}]))
    async with relaying(start_fake(), entries=[HOSTED]) as relay:
        assert await relay.call(client, CountTokens) is None
        assert relay.fakes[0].requests[0].body == client._body


@pytest.mark.anyio
async def test_what_a_client_has_had_counted_is_not_counted_again_before_its_call_waits(start_fake: StartFake) -> None:
    async with relaying(start_fake(), ctx_tokens=[100]) as relay:
        body = words(100)
        assert 100 == await count(relay, body)
        relay.fill()
        error = await relay.call(Client(body))
        assert error is not None
        assert error.message == "prompt is too long: 100 tokens > 100 maximum"
        assert [1] == relay.counted()


@pytest.mark.parametrize("status", [404, 501])
@pytest.mark.anyio
async def test_where_nobody_counts_that_is_said_and_nobody_is_blamed(start_fake: StartFake, status: int) -> None:
    async with relaying(start_fake(), start_fake(), entries=[NATIVE, OTHER]) as relay:
        for fake in relay.fakes:
            fake.on[PATH] = fake.on["/tokenize"] = behave.error(status, "no", "not_found_error")
        error = await relay.call(Client(ask()), CountTokens)
        assert isinstance(error, NotSupported)
        assert f"the instances of {MODEL} cannot count tokens" == error.message
        assert ([1, 1], [], []) == ([len(fake.requests) for fake in relay.fakes], relay.seen, relay.suspects)
        assert (501, 2) == (relay.records[0].status, relay.records[0].attempts)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.anyio
async def test_a_failure_is_told_rather_than_that_others_cannot_count(start_fake: StartFake, last: int) -> None:
    """It may be over soon; a client that hears that nobody counts would not ask again."""
    faults = [behave.error(404, "no", "not_found_error"), behave.reset_before_head()]
    left = faults if last else faults[::-1]

    async def next_one(turn: Turn) -> None:
        await left.pop()(turn)

    async with relaying(start_fake(), start_fake()) as relay:
        for fake in relay.fakes:
            fake.on[PATH] = next_one
        assert isinstance(await relay.call(Client(ask()), CountTokens), UpstreamBroke)
        assert [1, 1] == relay.counted()
