"""Chat completions through the whole relay, and the routes that are only passed on."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from router.errors import RequestInvalid, UpstreamBroke
from router.relay.chat import ChatCall, passed_call
from tests.relay.test_serving import HOSTED, MODEL, NATIVE, OTHER, Client, Relay, relaying, until
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_chat import chat_frames
from tests.rig.fake_seen import Behaviour, Seen
from tests.rig.fake_slots import nonce_of
from tests.rig.fake_turn import Turn
from tests.rig.fake_wire import compact
from tests.rig.legality_chat import Completion, check_chat
from tests.rig.start import StartFake
from tests.test_app import NAMES, Stage, ask, text_of

Json = dict[str, Any]
CHAT = "/v1/chat/completions"
EMBEDDINGS, COMPLETIONS, RESPONSES, INFILL = "/v1/embeddings", "/v1/completions", "/v1/responses", "/infill"
OURS = pytest.mark.parametrize("entry", [NATIVE, OTHER], ids=["llama", "other"])
ANY = pytest.mark.parametrize("entry", [NATIVE, OTHER, HOSTED], ids=["llama", "other", "hosted"])
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


async def asked(relay: Relay, body: Json) -> Client:
    """Run a call that goes well."""
    client = Client(body)
    assert await relay.call(client, ChatCall) is None
    assert client.ended
    return client


def said_by(client: Client) -> Completion:
    return check_chat(client.said)


# ---------------------------------------------------------------- answers


@ANY
@BOTH
@pytest.mark.anyio
async def test_a_completion_comes_from_whatever_an_instance_speaks(
    start_fake: StartFake, entry: Json, stream: bool
) -> None:
    async with relaying(start_fake(), entries=[entry]) as relay:
        client = await asked(relay, ask("nonce:chat", stream=stream))
        (record,), (seen,) = relay.records, relay.fakes[0].calls
        way = "translated" if entry is HOSTED else "native"
        assert (way, way, "chat_completions") == (record.way, client.heads["x-router-way"], record.endpoint)
        assert ("/v1/messages" if entry is HOSTED else CHAT) == seen.path
        if stream:
            said = said_by(client)
            told = said.text, said.model, said.finish_reason
        else:
            completion = json.loads(client.said)
            (choice,) = completion["choices"]
            told = choice["message"]["content"], completion["model"], choice["finish_reason"]
        assert (text_of("nonce:chat"), MODEL, "stop") == told
        assert (3, 0, 3) == (record.input_tokens, record.cached_tokens, record.output_tokens)
        assert record.stop_reason


@ANY
@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.anyio
async def test_the_usage_of_a_stream_is_measured_and_told_only_to_those_who_asked(
    start_fake: StartFake, entry: Json, wanted: bool
) -> None:
    options = {"stream_options": {"include_usage": True}} if wanted else {}
    async with relaying(start_fake(), entries=[entry]) as relay:
        client = await asked(relay, ask("nonce:usage", stream=True, **options))
        said = check_chat(client.said, usage_asked=wanted)
        assert wanted is (said.usage is not None)
        assert (3, 3) == (relay.records[0].input_tokens, relay.records[0].output_tokens)


@OURS
@pytest.mark.anyio
async def test_the_body_is_the_clients_but_for_what_has_to_change(start_fake: StartFake, entry: Json) -> None:
    async with relaying(start_fake(), start_fake(), entries=[{**entry, "model": "inner"}, entry]) as relay:
        for number in range(8):
            await asked(relay, ask(f"nonce:b{number}", logit_bias={"7": 1}))
        for fake, model in zip(relay.fakes, ("inner", MODEL), strict=True):
            assert fake.calls
            for seen in fake.calls:
                assert ask(nonce_of(seen.json), logit_bias={"7": 1}, model=model) == seen.json


@pytest.mark.parametrize(("sampling", "version"), [({}, "2026-10-21"), ({"temperature": 0.5}, "2023-06-01")])
@pytest.mark.anyio
async def test_an_instance_of_the_messages_api_gets_a_limit_and_a_version_that_takes_what_is_asked(
    start_fake: StartFake, sampling: Json, version: str
) -> None:
    async with relaying(start_fake(), entries=[HOSTED]) as relay:
        await asked(relay, ask(max_tokens=None, **sampling))
        (seen,) = relay.fakes[0].calls
        assert (4096, version) == (seen.json["max_tokens"], seen.header("anthropic-version"))


@pytest.mark.anyio
async def test_a_call_fails_here_and_is_answered_in_another_dialect_there(start_fake: StartFake) -> None:
    left = [behave.answer(), behave.loading()]
    fakes = [start_fake(lambda _: left.pop()) for _ in range(2)]
    async with relaying(*fakes, entries=[NATIVE, HOSTED]) as relay:
        said = said_by(await asked(relay, ask("nonce:moved", stream=True)))
        assert (text_of("nonce:moved"), 2) == (said.text, relay.records[0].attempts)
        assert {CHAT, "/v1/messages"} == {fake.calls[0].path for fake in fakes}


@pytest.mark.anyio
async def test_a_default_for_max_tokens_holds_where_the_client_names_none() -> None:
    with FakeInstance() as short:
        models = {"short": {"defaults": {"max_tokens": 2}, "instances": [{"url": short.url, "id": "four"}]}}
        with Stage(instances=1, models=models) as stage:
            for limits, tokens in (({}, 2), ({"max_completion_tokens": 1}, 1), ({"max_tokens": 1}, 1)):
                body = {"model": "short", "messages": ask("nonce:short")["messages"], **limits}
                said = stage.post(body, CHAT).json()["choices"][0]["message"]["content"]
                assert text_of("nonce:short", tokens) == said


# ---------------------------------------------------------------- tools

LOOK: Json = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
READ: Json = {"type": "function", "function": {"name": "read"}}
HIDDEN: Json = {"tools": False}


def called(client: Client, *, stream: bool) -> tuple[str, list[tuple[str, Any]], str | None]:
    """Text, calls with their arguments read, and finish reason."""
    if stream:
        said = said_by(client)
        return said.text, [(it.name, json.loads(it.arguments)) for it in said.tools], said.finish_reason
    (choice,) = json.loads(client.said)["choices"]
    calls: list[Json] = [it["function"] for it in choice["message"].get("tool_calls", ())]
    found = [(it["name"], json.loads(it["arguments"])) for it in calls]
    return choice["message"]["content"] or "", found, choice["finish_reason"]


@BOTH
@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"type": "function", "function": {"name": "look"}}, ('{"at"', ': "Paris"', "}")),
        ("required", ('{"name":"look",', '"arguments":{"at": ', '"Paris"}}')),
    ],
    ids=["named", "required"],
)
@pytest.mark.anyio
async def test_a_call_that_must_be_made_is_asked_for_by_its_schema_and_told_as_a_call(
    start_fake: StartFake, choice: object, text: tuple[str, ...], stream: bool
) -> None:
    async with relaying(start_fake([behave.answer(thinking=("hm",), text=text)])) as relay:
        client = await asked(relay, ask(stream=stream, tools=[LOOK, READ], tool_choice=choice))
        assert ("", [("look", {"at": "Paris"})], "tool_calls") == called(client, stream=stream)
        (seen,), (record,) = relay.fakes[0].calls, relay.records
        assert ("none", [LOOK, READ]) == (seen.json["tool_choice"], seen.json["tools"])
        assert ["type", "json_schema"] == list(dict(seen.json["response_format"]))  # type: ignore[call-overload]
        assert ("ok", "tool_use", "native") == (record.outcome, record.stop_reason, record.way)


@BOTH
@pytest.mark.anyio
async def test_a_call_that_must_be_made_and_is_none_is_a_failure(start_fake: StartFake, stream: bool) -> None:
    async with relaying(start_fake([behave.answer(text=("We", "ll"))])) as relay:
        client = Client(ask(stream=stream, tools=[LOOK], tool_choice="required"))
        error = await relay.call(client, ChatCall)
        if stream:
            assert said_by(client).error is not None
        else:
            assert isinstance(error, UpstreamBroke)
        assert "failed" == relay.records[0].outcome


@BOTH
@pytest.mark.anyio
async def test_another_kind_of_server_is_asked_to_keep_to_the_choice_itself(
    start_fake: StartFake, stream: bool
) -> None:
    answers = behave.answer(text=(), tool=("look", ('{"at": 1}',)))
    async with relaying(start_fake([answers]), entries=[OTHER]) as relay:
        client = await asked(relay, ask(stream=stream, tools=[LOOK], tool_choice="required"))
        assert ("", [("look", {"at": 1})], "tool_calls") == called(client, stream=stream)
        (seen,) = relay.fakes[0].calls
        assert ("required", False) == (seen.json["tool_choice"], "response_format" in seen.json)


@BOTH
@pytest.mark.anyio
async def test_tools_that_no_template_shows_are_refused_before_anybody_is_asked(
    start_fake: StartFake, stream: bool
) -> None:
    async with relaying(start_fake(), facts=[HIDDEN]) as relay:
        error = await relay.call(Client(ask(stream=stream, tools=[LOOK])), ChatCall)
        assert isinstance(error, RequestInvalid)
        assert error.message.startswith(f"tools: the chat template of {MODEL} does not show tools")
        assert (0, "refused") == (relay.attempts(), relay.records[0].outcome)


@pytest.mark.anyio
async def test_tools_go_where_they_are_shown(start_fake: StartFake) -> None:
    async with relaying(start_fake(), start_fake(), facts=[HIDDEN, {"tools": True}]) as relay:
        for number in range(4):
            await asked(relay, ask(f"nonce:t{number}", tools=[LOOK]))
        assert [0, 4] == [len(fake.calls) for fake in relay.fakes]


@pytest.mark.anyio
async def test_tools_pass_where_the_operator_wants_it(start_fake: StartFake) -> None:
    async with relaying(start_fake(), facts=[HIDDEN], model={"tools": "pass"}) as relay:
        await asked(relay, ask(tools=[LOOK]))
        assert [LOOK] == relay.fakes[0].calls[0].json["tools"]


# ---------------------------------------------------------------- streams that end badly, and silence


def ends(*, after: int, done: bool = False) -> Behaviour:
    """Ends, in whole HTTP, after so many of its events; perhaps with `[DONE]`."""

    async def behaviour(turn: Turn) -> None:
        frames = chat_frames(turn.reply(), include_usage=True)
        await turn.begin_stream()
        for frame in frames[:after] + frames[-1:] * done:
            await turn.chunk(frame)
        await turn.end_stream()

    return behaviour


@OURS
@pytest.mark.parametrize("after", [4, 5])
@pytest.mark.anyio
async def test_a_stream_without_done_is_whole_once_it_has_said_why_it_ends(
    start_fake: StartFake, entry: Json, after: int
) -> None:
    async with relaying(start_fake([ends(after=after)]), entries=[entry]) as relay:
        client = await asked(relay, ask("nonce:end", stream=True))
        said = said_by(client)
        assert (text_of("nonce:end"), "stop", None) == (said.text, said.finish_reason, said.error)
        assert client.said.endswith(b"data: [DONE]\n\n")
        assert ("ok", (0, 0)) == (relay.records[0].outcome, relay.slots())


CUTS: dict[str, Behaviour] = {
    "in the middle": ends(after=2),
    "with [DONE] in the middle": ends(after=2, done=True),
    "died": behave.die_mid_stream(2),
    "reset in a chunk": behave.die_mid_chunk(2, reset=True),
    "an error": behave.error_event(2),
    "silent": behave.stall_mid_stream(2),
}


@OURS
@pytest.mark.parametrize("name", CUTS)
@pytest.mark.anyio
async def test_a_cut_stream_is_one_error_in_openais_shape_and_no_done(
    start_fake: StartFake, entry: Json, name: str
) -> None:
    async with relaying(start_fake([CUTS[name]] * 4), start_fake([CUTS[name]] * 4), entries=[entry] * 2) as relay:
        client = await asked(relay, ask("nonce:cut", stream=True))
        said = said_by(client)
        assert said.error is not None
        assert {"message", "type", "param", "code"} == set(said.error)
        assert ("server_error", text_of("nonce:cut", 2)) == (said.error["type"], said.text)
        assert b"[DONE]" not in client.said
        assert 1 == client.said.count(b'"error"')
        assert ("failed", 1) == (relay.records[0].outcome, relay.attempts())


@pytest.mark.anyio
async def test_a_hosted_answer_that_is_cut_is_an_error_in_openais_shape_too(start_fake: StartFake) -> None:
    async with relaying(start_fake([behave.end_without_stop(2)]), entries=[HOSTED]) as relay:
        client = await asked(relay, ask("nonce:cut", stream=True))
        said = said_by(client)
        assert said.error is not None
        assert ("server_error", text_of("nonce:cut", 2)) == (said.error["type"], said.text)
        assert b"[DONE]" not in client.said


@ANY
@pytest.mark.anyio
async def test_a_chat_client_that_is_held_gets_comments(start_fake: StartFake, entry: Json) -> None:
    async with relaying(start_fake([behave.stall_before_head()]), entries=[entry], head_s=10.0, hold_s=0.02) as relay:
        client = Client(ask("nonce:held", stream=True))
        call = relay.call(client, ChatCall)
        await until(lambda: client.said.count(b"\n\n") >= 2)
        held = client.said
        relay.fakes[0].release()
        assert await call is None
        assert set() == set(held.split(b"\n\n")) - {b": ping", b""}
        said = said_by(client)
        assert (text_of("nonce:held"), None) == (said.text, said.error)
        assert "x-router-instance: one" in next(it for it in said.comments if "ping" not in it)


@pytest.mark.anyio
async def test_silence_in_the_middle_is_filled_with_comments_and_a_failure_after_that_is_openais(
    start_fake: StartFake,
) -> None:
    async def slow(turn: Turn) -> None:
        await turn.begin_stream()
        await turn.chunk(chat_frames(turn.reply(), include_usage=True)[0])
        await asyncio.sleep(0.1)
        turn.wire.reset()

    async with relaying(start_fake([slow]), hold_s=0.02) as relay:
        said = said_by(await asked(relay, ask(stream=True)))
        assert "ping" in "".join(said.comments)
        assert said.error is not None


@pytest.mark.anyio
async def test_a_body_that_is_wrong_is_refused_in_openais_words(start_fake: StartFake) -> None:
    async with relaying(start_fake()) as relay:
        error = await relay.call(Client({"model": MODEL}), ChatCall)
        assert isinstance(error, RequestInvalid)
        assert "Missing required parameter: 'messages'." in error.message
        assert (0, "chat_completions") == (relay.attempts(), relay.records[0].endpoint)


# ---------------------------------------------------------------- through the front door


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    with Stage(glass=True, fake={"slots": 1}, entry={"model": "inner"}) as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    for fake in shared.fakes:
        fake.requests.clear()
    yield shared
    for fake in shared.fakes:
        fake.on.clear()
    shared.post({}, "/admin/reload")  # forgets who lacks which route: the next test has others
    shared.at_rest()


def refused(response: httpx.Response, status: int, type_: str, code: str | None = None) -> str:
    """Check that it is an error in OpenAI's shape and return its sentence."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json"), response.text
    error = response.json()["error"]
    assert response.json() == {"error": {"message": error["message"], "type": type_, "param": None, "code": code}}
    assert response.headers["x-request-id"] == response.headers["request-id"]
    return str(error["message"])


def everywhere(stage: Stage, path: str, behaviour: Behaviour) -> None:
    for fake in stage.fakes:
        fake.on[path] = behaviour


def passed_on(stage: Stage, path: str) -> list[Seen]:
    return [seen for fake in stage.fakes for seen in fake.requests if seen.path == path]


def record_of(stage: Stage, response: httpx.Response) -> Json:
    request_id = response.headers["request-id"]
    stage.router.wait_logged(request_id)
    (line,) = [line for line in stage.router.log.splitlines() if request_id in line]
    record: Json = json.loads(line)
    return record


@BOTH
def test_what_goes_wrong_before_a_chat_answer_has_a_status_and_openais_shape(stage: Stage, stream: bool) -> None:
    for behaviours, status, type_, code in (
        ([behave.too_long(9, 8)], 400, "invalid_request_error", "context_length_exceeded"),
        ([behave.error(400, "tools: bad", "invalid_request_error")], 400, "invalid_request_error", None),
        ([behave.loading()] * 3, 529, "server_error", "overloaded"),
        ([behave.server_error()] * 2, 502, "server_error", None),
    ):
        refused(stage.post(ask(stage.planned(*behaviours), stream=stream), CHAT), status, type_, code)
    nobody = stage.post(ask(model="nobody", stream=stream), CHAT)
    assert "test-model" in refused(nobody, 404, "invalid_request_error", "model_not_found")


@BOTH
def test_a_choice_that_cannot_be_enforced_is_refused_in_openais_shape(stage: Stage, stream: bool) -> None:
    choice = {"type": "function", "function": {"name": "no"}}
    answer = stage.post(ask(stream=stream, tools=[LOOK], tool_choice=choice), CHAT)
    assert "no tool is named 'no'" in refused(answer, 400, "invalid_request_error")


# ---------------------------------------------------------------- routes that are only passed on

EMBEDDED: Json = {
    "object": "list",
    "model": "inner",
    "data": [{"embedding": [0.5]}],
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
}


def says(body: object, status: int = 200) -> Behaviour:
    async def behaviour(turn: Turn) -> None:
        await turn.json(status, body)

    return behaviour


def streams(*frames: bytes, cut: bool = False) -> Behaviour:
    async def behaviour(turn: Turn) -> None:
        await turn.begin_stream()
        for frame in frames:
            await turn.chunk(frame)
        if cut:
            turn.wire.close()
        await turn.end_stream()

    return behaviour


def data(value: object, name: str = "") -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + compact(value) + b"\n\n"


def test_a_passed_call_goes_out_under_the_instances_name_and_comes_back_under_the_clients(stage: Stage) -> None:
    everywhere(stage, EMBEDDINGS, says(EMBEDDED))
    response = stage.post({"model": "claude-x", "input": "hi", "odd": [1.5]}, EMBEDDINGS)
    assert (response.status_code, response.json()) == (200, {**EMBEDDED, "model": "claude-x"})
    (seen,) = passed_on(stage, EMBEDDINGS)
    assert seen.json == {"model": "inner", "input": "hi", "odd": [1.5]}
    assert response.headers["x-router-instance"] in NAMES
    record = record_of(stage, response)
    told = {name: record.get(name) for name in ("endpoint", "outcome", "pool", "model", "input_tokens", "way")}
    assert told == {
        "endpoint": "embeddings",
        "outcome": "ok",
        "pool": MODEL,
        "model": "claude-x",
        "input_tokens": 7,
        "way": "native",
    }
    lines = [it for it in stage.http.get("/metrics").text.splitlines() if 'endpoint="embeddings"' in it]
    tokens = [it for it in lines if it.startswith("llama_router_tokens_total") and 'kind="input"' in it]
    assert [it.rpartition(" ")[2] for it in tokens] == ["7.0"]


def test_a_passed_call_takes_a_slot_like_any_other(stage: Stage) -> None:
    most: list[int] = []

    async def counts(turn: Turn) -> None:
        now.append(1)
        most.append(len(now))
        await asyncio.sleep(0.05)
        now.pop()
        await turn.json(200, EMBEDDED)

    now: list[int] = []
    stage.fakes[0].on[EMBEDDINGS] = stage.fakes[1].on[EMBEDDINGS] = counts

    async def all_of_them() -> list[int]:
        async with httpx.AsyncClient(base_url=stage.router.url, timeout=30, trust_env=False) as client:
            calls = [client.post(EMBEDDINGS, json={"model": MODEL, "input": str(at)}) for at in range(10)]
            return [response.status_code for response in await asyncio.gather(*calls)]

    assert asyncio.run(all_of_them()) == [200] * 10
    assert max(most) <= 2


LAST: dict[str, tuple[str, list[bytes]]] = {
    "completions": (
        COMPLETIONS,
        [
            data({"model": "inner", "choices": [{"text": "a"}]}),
            data({"model": "inner", "choices": []}),
            b"data: [DONE]\n\n",
        ],
    ),
    "responses": (
        RESPONSES,
        [
            data({"type": "response.created", "response": {"model": "inner"}}, "response.created"),
            data(
                {"type": "response.completed", "response": {"model": "inner", "usage": {"input_tokens": 7}}},
                "response.completed",
            ),
        ],
    ),
    "infill": (INFILL, [data({"content": "a", "stop": False}), data({"content": "", "stop": True, "model": "inner"})]),
}


@pytest.mark.parametrize("name", LAST)
def test_a_passed_stream_goes_through_with_the_clients_name_of_the_model(stage: Stage, name: str) -> None:
    path, frames = LAST[name]
    everywhere(stage, path, streams(*frames))
    response = stage.post({"model": MODEL, "stream": True, "prompt": "x"}, path)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.content == b"".join(frames).replace(b'"inner"', b'"test-model"')
    assert (record_of(stage, response)["outcome"], len(passed_on(stage, path))) == ("ok", 1)


@pytest.mark.parametrize("name", LAST)
@pytest.mark.parametrize("cut", [False, True])
def test_a_passed_stream_that_is_cut_gets_one_error(stage: Stage, name: str, cut: bool) -> None:
    path, frames = LAST[name]
    everywhere(stage, path, streams(*frames[:-1], cut=cut))
    response = stage.post({"model": MODEL, "stream": True, "prompt": "x"}, path)
    begun = b"".join(frames[:-1]).replace(b'"inner"', b'"test-model"')
    assert response.content.startswith(begun)
    (error,) = response.content.removeprefix(begun).rstrip(b"\n").split(b"\n\n")
    told = json.loads(error.removeprefix(b"data: "))["error"]
    assert {"message", "type", "param", "code"} == set(told)
    assert b"[DONE]" not in response.content
    assert record_of(stage, response)["outcome"] == "failed"


@pytest.mark.parametrize("status", [404, 501])
@BOTH
def test_a_route_that_no_instance_has_is_not_offered_and_nobody_is_blamed(
    stage: Stage, status: int, stream: bool
) -> None:
    everywhere(stage, EMBEDDINGS, behave.error(status, "no such route", "not_supported_error"))
    for _ in range(6):
        response = stage.post({"model": MODEL, "input": "x", "stream": stream}, EMBEDDINGS)
        assert f"{EMBEDDINGS} is not offered" in refused(response, 501, "server_error")
    assert [it["state"] for it in stage.fleet()["instances"]] == ["serving"] * 2
    nonce = stage.planned()
    assert stage.post(ask(nonce)).status_code == 200


def test_a_route_that_one_instance_has_is_found_there(stage: Stage) -> None:
    stage.fakes[0].on[EMBEDDINGS] = behave.error(501, "no", "not_supported_error")
    stage.fakes[1].on[EMBEDDINGS] = says(EMBEDDED)
    for at in range(6):
        response = stage.post({"model": MODEL, "input": str(at)}, EMBEDDINGS)
        assert (response.status_code, response.headers["x-router-instance"]) == (200, "two")
    assert [it["state"] for it in stage.fleet()["instances"]] == ["serving"] * 2


def test_what_an_instance_says_against_a_passed_call_is_told_in_openais_shape(stage: Stage) -> None:
    everywhere(stage, EMBEDDINGS, behave.error(400, "input: too odd", "invalid_request_error"))
    message = refused(stage.post({"model": MODEL, "input": 1}, EMBEDDINGS), 400, "invalid_request_error")
    assert message == "input: too odd"
    everywhere(stage, EMBEDDINGS, behave.not_json())
    message = refused(stage.post({"model": MODEL, "input": 1}, EMBEDDINGS), 502, "server_error")
    assert "cannot be read" in message


def test_a_passed_call_that_names_no_model_means_the_only_one(stage: Stage) -> None:
    everywhere(stage, INFILL, says({"content": "x", "stop": True}))
    response = stage.post({"input_prefix": "a", "input_suffix": "b"}, INFILL)
    assert (response.status_code, response.json()) == (200, {"content": "x", "stop": True})
    (seen,) = passed_on(stage, INFILL)
    assert seen.json == {"input_prefix": "a", "input_suffix": "b"}
    assert record_of(stage, response)["pool"] == MODEL


def test_an_answer_to_a_call_that_named_no_model_has_our_name_of_it(stage: Stage) -> None:
    everywhere(stage, EMBEDDINGS, says(EMBEDDED))
    assert stage.post({"input": "x"}, EMBEDDINGS).json() == EMBEDDED | {"model": MODEL}


def test_an_instance_that_lacks_a_route_is_not_asked_for_it_again_and_costs_no_retries(stage: Stage) -> None:
    everywhere(stage, EMBEDDINGS, behave.error(501, "no", "not_supported_error"))
    for at in range(8):
        refused(stage.post({"model": MODEL, "input": str(at)}, EMBEDDINGS), 501, "server_error")
    assert len(passed_on(stage, EMBEDDINGS)) == len(stage.fakes)


def test_a_passed_call_has_to_name_its_model_where_there_are_several(start_fake: StartFake) -> None:
    models = {"second": {"instances": [{"url": start_fake().url, "id": "four"}]}}
    with Stage(instances=1, models=models) as stage:
        everywhere(stage, INFILL, says({"content": "x", "stop": True}))
        words = refused(stage.post({"prompt": "a"}, INFILL), 400, "invalid_request_error")
        assert "Missing required parameter: 'model'" in words
        assert stage.post({"prompt": "a", "model": MODEL}, INFILL).status_code == 200
        assert len(passed_on(stage, INFILL)) == 1


@pytest.mark.anyio
async def test_an_instance_of_the_messages_api_is_passed_nothing(start_fake: StartFake) -> None:
    embeddings = passed_call(EMBEDDINGS)
    async with relaying(start_fake(), start_fake(), entries=[HOSTED, NATIVE]) as relay:
        relay.fakes[1].on[EMBEDDINGS] = says(EMBEDDED)
        for at in range(6):
            assert await relay.call(Client({"model": MODEL, "input": str(at)}), embeddings) is None
        assert [] == relay.fakes[0].requests
    async with relaying(start_fake(), entries=[HOSTED]) as relay:
        error = await relay.call(Client({"model": MODEL, "input": "x"}), embeddings)
        assert isinstance(error, RequestInvalid)
        assert error.message.startswith(f"{EMBEDDINGS}: not offered")


def test_the_calls_of_passed_routes_are_named_after_them() -> None:
    names = {path: passed_call(path).endpoint for path in (COMPLETIONS, EMBEDDINGS, INFILL, "/v1/audio/speech")}
    assert names == {
        COMPLETIONS: "completions",
        EMBEDDINGS: "embeddings",
        INFILL: "infill",
        "/v1/audio/speech": "audio_speech",
    }
