"""The Messages API through the whole relay: what an instance of each kind is asked, and what its answer becomes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from router.errors import RequestInvalid, UpstreamAnswered
from router.relay.messages import MessagesCall
from router.wire.signature import unseal
from tests.relay.test_serving import HOSTED, MODEL, NATIVE, OLD, OTHER, TOOL, Client, Relay, relaying
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_chat import chat_frames
from tests.rig.fake_seen import Behaviour, Seen
from tests.rig.fake_turn import Turn
from tests.rig.legality import Level, check
from tests.rig.start import StartFake
from tests.test_app import Stage, ask, text_of

pytestmark = pytest.mark.anyio
Json = dict[str, Any]
LOCAL = pytest.mark.parametrize("entry", [NATIVE, OLD, OTHER], ids=["native", "old", "other"])
CHAT = pytest.mark.parametrize("entry", [OLD, OTHER], ids=["old", "other"])
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
QUESTION = {"role": "user", "content": "say nonce:q"}


async def served(relay: Relay, body: Json) -> tuple[Seen, Json]:
    """Run a call that goes well: what the instance saw, and the message that the client has in the end."""
    client = Client(body)
    assert await relay.call(client, MessagesCall) is None
    assert client.ended
    (fake,) = relay.fakes
    return fake.calls[-1], message(client.said) if body.get("stream") else json.loads(client.said)


def message(stream: bytes, level: Level = "exact") -> Json:
    """A legal stream as the plain answer that says the same."""
    said = check(stream, level)
    assert said.error is None
    blocks: list[Json] = []
    for event in said.events:
        if event.name == "content_block_start":
            blocks.append(dict(event.data["content_block"]))
        elif event.name == "content_block_delta":
            delta = event.data["delta"]
            for name, value in delta.items():
                if name == "partial_json":
                    blocks[-1]["input"] = (blocks[-1]["input"] or "") + value
                elif name != "type":
                    blocks[-1][name] = blocks[-1].get(name, "") + value
    for block in blocks:
        if isinstance(block.get("input"), str):
            block["input"] = json.loads(block["input"])
    return {
        "id": said.id,
        "type": "message",
        "role": "assistant",
        "model": said.model,
        "content": blocks,
        "stop_reason": said.stop_reason,
        "stop_sequence": said.stop_sequence,
        "usage": said.usage,
    }


def text(content: str) -> Json:
    return {"type": "text", "text": content}


# ---------------------------------------------------------------- what is passed over


@LOCAL
async def test_fields_and_betas_that_nobody_here_knows_are_passed_over_and_counted(
    start_fake: StartFake, entry: Json
) -> None:
    async with relaying(start_fake(), entries=[entry]) as relay:
        client = Client(ask("nonce:new", service_tier="auto", context_management={"edits": []}))
        client.headers = [(b"anthropic-beta", b"claude-code-20250219,files-api-2025-04-14,nonce-beta")]
        odd = Client(ask("nonce:odd", nonce_field=1))
        for it in (client, odd, Client(ask("nonce:usual"))):
            assert await relay.call(it, MessagesCall) is None
            assert it.status == 200
        said = [(record.unread_fields, record.unread_betas) for record in relay.records]
        named = (("context_management", "service_tier"), ("files-api-2025-04-14", "other"))
        assert [named, (("other",), ()), ((), ())] == said


# ---------------------------------------------------------------- what may be left out


@BOTH
async def test_a_call_without_max_tokens_is_refused_where_the_registry_has_none(
    start_fake: StartFake, stream: bool
) -> None:
    async with relaying(start_fake()) as relay:
        error = await relay.call(Client(ask(max_tokens=None, stream=stream)))
        assert isinstance(error, RequestInvalid)
        assert error.message.startswith("max_tokens: field required")
        assert (0, "refused", MODEL) == (relay.attempts(), relay.records[0].outcome, relay.records[0].pool)


async def test_a_body_that_is_wrong_inside_is_refused_before_it_is_sent(start_fake: StartFake) -> None:
    async with relaying(start_fake(), start_fake()) as relay:
        error = await relay.call(Client(ask(messages=[{"role": "user", "content": [{"type": "text"}]}])))
        assert isinstance(error, RequestInvalid)
        assert error.message.startswith("messages.0.content.0.text: ")
        assert 0 == relay.attempts()


async def test_tools_of_the_hosted_side_are_refused_in_its_words(start_fake: StartFake) -> None:
    async with relaying(start_fake()) as relay:
        error = await relay.call(Client(ask(tools=[{"type": "web_search_20250305", "name": "web_search"}])))
        assert isinstance(error, RequestInvalid)
        assert "tools.0: Input tag 'web_search_20250305' found using 'type'" in error.message
        assert (0, "") == (relay.attempts(), relay.records[0].way)


# ---------------------------------------------------------------- the model's name, and a default


@pytest.fixture(scope="module")
def renaming() -> Iterator[Stage]:
    """`test-model` under another name, and `short` with a default for max_tokens on an instance of its own."""
    with FakeInstance() as short:
        models = {"short": {"defaults": {"max_tokens": 2}, "instances": [{"url": short.url, "id": "four"}]}}
        with Stage(instances=1, entry={"model": "inner/name.gguf"}, models=models) as stage:
            stage.fakes.append(short)
            yield stage


def test_the_model_goes_out_under_the_instances_name_and_comes_back_under_the_clients(renaming: Stage) -> None:
    for stream in (False, True):
        nonce = renaming.planned()
        response = renaming.post(ask(nonce, stream=stream))
        named = check(response.content).model if stream else response.json()["model"]
        (seen,) = renaming.seen(nonce)
        assert (seen.json, named) == ({**canonical(nonce, stream=stream), "model": "inner/name.gguf"}, MODEL)


def canonical(nonce: str, **more: object) -> dict[str, object]:
    """What becomes of `ask`: the model is named only where the instance has a name for it."""
    return {**ask(nonce, model=None, stream=False), **more}


@pytest.mark.parametrize("missing", [{}, {"max_tokens": None}])
@pytest.mark.parametrize("space", ["", " ", "\r\n"])
def test_a_models_default_is_added_where_the_client_left_max_tokens_out(
    renaming: Stage, missing: dict[str, object], space: str
) -> None:
    nonce = "nonce:short"
    body = {"model": "short", "messages": ask(nonce)["messages"], **missing}
    response = renaming.http.post("/v1/messages", content=json.dumps(body)[:-1] + space + "}" + space)
    assert response.json()["content"][0]["text"] == text_of(nonce, 2)
    assert renaming.fakes[-1].calls[-1].json == canonical(nonce, max_tokens=2) | {"model": "short"}


def test_what_the_client_asks_for_wins_over_the_default(renaming: Stage) -> None:
    response = renaming.post(ask("nonce:one", model="short", max_tokens=1))
    assert response.json()["content"][0]["text"] == "nonce:one"
    renaming.at_rest()


# ---------------------------------------------------------------- bytes


async def test_an_instance_of_the_messages_api_gets_the_body_byte_for_byte(start_fake: StartFake) -> None:
    body = ask(
        "nonce:exact", system=[{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}], odd=[1.50]
    )
    client = Client(body)
    async with relaying(start_fake(), entries=[HOSTED]) as relay:
        assert await relay.call(client) is None
        assert relay.fakes[0].calls[0].body == client._body
        assert "exact" == relay.records[0].way


async def test_an_instance_of_the_messages_api_gets_its_own_name_of_the_model_and_the_rest_byte_for_byte(
    start_fake: StartFake,
) -> None:
    body = ask(
        "nonce:exact", temperature=1.50, metadata={"user_id": "u \u00e4"}, tools=[{"type": "web_search_20250305"}]
    )
    async with relaying(start_fake(), entries=[{**HOSTED, "model": "claude-inner"}]) as relay:
        client = Client(body)
        assert await relay.call(client) is None
        (seen,) = relay.fakes[0].calls
        compact = json.dumps({**body, "model": "claude-inner"}, separators=(",", ":")).encode()
        assert compact.replace(b" ", b"") == seen.body.replace(b" ", b"")
        assert MODEL == json.loads(client.said)["model"]


@LOCAL
async def test_one_of_ours_gets_the_same_bytes_however_a_client_writes_the_same(
    start_fake: StartFake, entry: Json
) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    written: list[Json] = [
        ask("nonce:same", system="be brief"),
        ask("nonce:same", system=[{**text("be brief"), **mark}], metadata={"user_id": "u"}),
        ask(messages=[{"role": "user", "content": [{**text("say nonce:same"), **mark}]}], system=[text("be brief")]),
        ask(messages=[{"content": "say nonce:same", "role": "user"}], system="be brief", stream=False),
    ]
    async with relaying(start_fake(), entries=[entry]) as relay:
        assert 1 == len({(await served(relay, body))[0].body for body in written})


# ---------------------------------------------------------------- both ways, one answer

SAID: dict[str, Behaviour] = {
    "text": behave.answer(),
    "thinking": behave.answer(thinking=("hm", " hm"), text=("so ", "it is")),
    "a tool": behave.answer(text=("look: ",), tool=("look", ('{"at":', ' [1, "b"]}'))),
    "a tool alone": behave.answer(text=(), tool=("look", ("{}",))),
    "cut": behave.answer(text=("half",), stop_reason="max_tokens"),
}


@BOTH
@pytest.mark.parametrize("name", SAID)
async def test_the_client_gets_the_same_message_by_whichever_way_it_came(
    start_fake: StartFake, name: str, stream: bool
) -> None:
    told = []
    for entry in (NATIVE, OLD, OTHER):
        async with relaying(start_fake([SAID[name]]), entries=[entry]) as relay:
            _, said = await served(relay, ask("nonce:both", stream=stream, tools=[TOOL]))
            (record,) = relay.records
            assert said["usage"]["output_tokens"] == record.output_tokens
            assert said["usage"]["input_tokens"] == record.input_tokens
            assert said["stop_reason"] == record.stop_reason
            assert ("msg_1", MODEL) == (said["id"], said["model"])
            for block in said["content"]:
                if block["type"] == "tool_use":
                    assert block.pop("id").startswith("toolu_")
            said.pop("usage")  # tools have other words here and there
            told.append(said)
    assert told[0] == told[1] == told[2]


# ---------------------------------------------------------------- what the native route would lose

SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
LOST: dict[str, tuple[Json, Json]] = {
    "no tools": (
        {"tools": [TOOL], "tool_choice": {"type": "none"}},
        {"tool_choice": "none"},
    ),
    "one tool at a time": (
        {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"tool_choice": "auto", "parallel_tool_calls": False},
    ),
    "structured output": (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "output", "schema": SCHEMA, "strict": True},
            }
        },
    ),
}


@BOTH
@pytest.mark.parametrize("name", LOST)
async def test_what_the_native_route_would_lose_goes_to_chat_completions(
    start_fake: StartFake, name: str, stream: bool
) -> None:
    asked, sent = LOST[name]
    async with relaying(start_fake(), entries=[NATIVE]) as relay:
        client = Client(ask("nonce:lost", stream=stream, **asked))
        assert await relay.call(client) is None
        (seen,) = relay.fakes[0].calls
        assert "/v1/chat/completions" == seen.path
        assert sent == {key: seen.json[key] for key in sent}
        said = message(client.said) if stream else json.loads(client.said)
        assert ([text(text_of("nonce:lost"))], "end_turn") == (said["content"], said["stop_reason"])
        (record,) = relay.records
        assert ("translated", "translated") == (record.way, client.heads["x-router-way"])
        assert ("end_turn", 3) == (record.stop_reason, record.output_tokens)
        assert said["usage"]["input_tokens"] == record.input_tokens
        assert (record.input_tokens or 0) >= 3


@BOTH
async def test_a_named_tool_is_made_to_be_called(start_fake: StartFake, stream: bool) -> None:
    """The instance is held to the tool's schema, and what it writes is the call's input."""
    choice = {"type": "tool", "name": "look"}
    async with relaying(start_fake([behave.answer(text=('{"at":', " 1}"))])) as relay:
        seen, said = await served(relay, ask("nonce:named", stream=stream, tools=[TOOL], tool_choice=choice))
        assert ("none", TOOL["input_schema"]) == (
            seen.json["tool_choice"],
            seen.json["response_format"]["json_schema"]["schema"],  # type: ignore[index]
        )
        (block,) = said["content"]
        assert ("tool_use", "look", {"at": 1}, "tool_use") == (
            block["type"],
            block["name"],
            block["input"],
            said["stop_reason"],
        )
        assert "translated" == relay.records[0].way


# ---------------------------------------------------------------- no tokens, thinking unseen, prefill


@LOCAL
@BOTH
async def test_a_call_for_no_tokens_gets_none_and_says_what_the_prompt_took(
    start_fake: StartFake, entry: Json, stream: bool
) -> None:
    async with relaying(start_fake(), entries=[entry]) as relay:
        seen, said = await served(relay, ask("nonce:silent", stream=stream, max_tokens=0))
        assert 1 == seen.json["max_tokens"]
        assert ([], "max_tokens", None) == (said["content"], said["stop_reason"], said["stop_sequence"])
        assert (3, 0) == (said["usage"]["input_tokens"], said["usage"]["output_tokens"])
        assert ("ok", "max_tokens", 3) == (
            relay.records[0].outcome,
            relay.records[0].stop_reason,
            relay.records[0].input_tokens,
        )


@LOCAL
@BOTH
async def test_thinking_that_is_not_to_be_seen_travels_in_its_signature_and_comes_back_to_the_instance(
    start_fake: StartFake, entry: Json, stream: bool
) -> None:
    thinking: Json = {"thinking": {"type": "adaptive", "display": "omitted"}}
    script = [behave.answer(thinking=("a secret", " thought"), text=("so",)), behave.answer()]
    async with relaying(start_fake(script), entries=[entry]) as relay:
        _, said = await served(relay, ask("nonce:hush", stream=stream, **thinking))
        hidden, shown = said["content"]
        assert ("thinking", "", "a secret thought") == (hidden["type"], hidden["thinking"], unseal(hidden["signature"]))
        assert text("so") == shown
        turns = [QUESTION, {"role": "assistant", "content": said["content"]}, QUESTION]
        seen, _ = await served(relay, ask(messages=turns, stream=stream, **thinking))
        assert b"a secret thought" in seen.body
        assert b"llr1." not in seen.body


@LOCAL
@BOTH
async def test_thinking_that_may_be_seen_is_shown_with_an_empty_signature(
    start_fake: StartFake, entry: Json, stream: bool
) -> None:
    async with relaying(start_fake([behave.answer(thinking=("hm",), text=("so",))]), entries=[entry]) as relay:
        _, said = await served(relay, ask("nonce:seen", stream=stream, thinking={"type": "adaptive"}))
        assert [{"type": "thinking", "thinking": "hm", "signature": ""}, text("so")] == said["content"]


@pytest.mark.parametrize("entry", [NATIVE, OLD], ids=["native", "old"])
async def test_the_beginning_that_the_client_wrote_itself_is_not_told_again(start_fake: StartFake, entry: Json) -> None:
    """A plain answer of llama-server begins with the prefill; that of other servers and every stream does not."""
    turns = [QUESTION, {"role": "assistant", "content": "The answer is"}]
    async with relaying(start_fake([behave.answer(text=("The answer", " is", " 4."))]), entries=[entry]) as relay:
        seen, said = await served(relay, ask(messages=turns))
        assert [text(" 4.")] == said["content"]
        assert {"role": "assistant", "content": "The answer is"} == seen.json["messages"][-1]  # type: ignore[index]


@LOCAL
async def test_a_stream_goes_on_from_the_prefill_and_is_not_cut(start_fake: StartFake, entry: Json) -> None:
    turns = [QUESTION, {"role": "assistant", "content": "The"}]
    async with relaying(start_fake([behave.answer(text=("The", " end"))]), entries=[entry]) as relay:
        _, said = await served(relay, ask(messages=turns, stream=True))
        assert [text("The end")] == said["content"]


async def test_another_server_does_not_repeat_the_prefill_and_what_looks_so_is_its_answer(
    start_fake: StartFake,
) -> None:
    turns = [QUESTION, {"role": "assistant", "content": "The"}]
    async with relaying(start_fake([behave.answer(text=("The", " end"))]), entries=[OTHER]) as relay:
        _, said = await served(relay, ask(messages=turns))
        assert [text("The end")] == said["content"]


# ---------------------------------------------------------------- what is left out, and what is wrong on the way


async def test_blocks_that_nobody_here_knows_are_left_out_and_noted(start_fake: StartFake) -> None:
    turns = [
        QUESTION,
        {"role": "assistant", "content": [text("x"), {"type": "server_tool_use", "id": "s", "name": "n", "input": {}}]},
        QUESTION,
    ]
    async with relaying(start_fake()) as relay:
        seen, _ = await served(relay, ask(messages=turns))
        assert b"server_tool_use" not in seen.body
        assert ("server_tool_use",) == relay.records[0].dropped


def ends(*, after: int, done: bool) -> Behaviour:
    """A translated stream that ends, in whole HTTP, after so many of its events; perhaps with `[DONE]`."""

    async def behaviour(turn: Turn) -> None:
        frames = chat_frames(turn.reply(), include_usage=True)
        await turn.begin_stream()
        for frame in frames[:after] + frames[-1:] * done:
            await turn.chunk(frame)
        await turn.end_stream()

    return behaviour


@CHAT
@pytest.mark.parametrize(("after", "done"), [(4, False), (5, False), (4, True)], ids=["finish", "usage", "no usage"])
async def test_a_translated_stream_is_whole_once_it_has_said_why_it_ends(
    start_fake: StartFake, entry: Json, after: int, done: bool
) -> None:
    async with relaying(start_fake([ends(after=after, done=done)]), entries=[entry]) as relay:
        client = Client(ask("nonce:end", stream=True))
        assert await relay.call(client) is None
        said = message(client.said, "exact")
        assert ([text(text_of("nonce:end"))], "end_turn") == (said["content"], said["stop_reason"])
        assert ("ok", 3) == (relay.records[0].outcome, said["usage"]["output_tokens"])
        assert (0, 0) == relay.slots()


@CHAT
@pytest.mark.parametrize("reset", [False, True])
async def test_a_translated_stream_that_is_torn_off_is_no_clean_end_though_it_had_said_why_it_ends(
    start_fake: StartFake, entry: Json, reset: bool
) -> None:
    async with relaying(start_fake([behave.die_mid_stream(5, reset=reset)]), entries=[entry]) as relay:
        client = Client(ask("nonce:dead", stream=True))
        await relay.call(client)
        error = check(client.said, "exact").error
        assert error is not None
        assert "closed its connection before the answer was whole" in error["message"]
        assert ("failed", "upstream_broke", (0, 1)) == (  # its slot is closing: the instance may go on
            relay.records[0].outcome, relay.records[0].cause, relay.slots(),
        )  # fmt: skip


ODD = {
    "byte by byte": behave.drip(),
    "in one packet": behave.one_packet(),
    "among comments": behave.comments(),
}


@CHAT
@pytest.mark.parametrize("name", ODD)
async def test_a_translated_stream_is_the_same_whatever_pieces_it_comes_in(
    start_fake: StartFake, entry: Json, name: str
) -> None:
    async with relaying(start_fake([behave.answer(), ODD[name]]), entries=[entry], head_s=5.0) as relay:
        whole, odd = Client(ask("nonce:odd", stream=True)), Client(ask("nonce:odd", stream=True))
        for client in (whole, odd):
            assert await relay.call(client) is None
        first, second = message(whole.said), message(odd.said)
        first.pop("usage")  # the second time the prompt is in the cache
        second.pop("usage")
        assert first == second


@CHAT
@pytest.mark.parametrize("done", [False, True])
async def test_a_translated_stream_that_ends_before_that_is_one_error(
    start_fake: StartFake, entry: Json, done: bool
) -> None:
    async with relaying(start_fake([ends(after=2, done=done)]), entries=[entry]) as relay:
        client = Client(ask("nonce:cut", stream=True))
        assert await relay.call(client) is None
        said = check(client.said)
        assert said.error is not None
        assert ("api_error", None, text_of("nonce:cut", 2)) == (said.error["type"], said.stop_reason, said.text)
        assert ("failed", 1, "") == (relay.records[0].outcome, relay.attempts(), relay.records[0].stop_reason)
        assert client.ended


@CHAT
async def test_a_translated_stream_that_ends_before_its_first_event_is_tried_elsewhere(
    start_fake: StartFake, entry: Json
) -> None:
    left = [behave.answer(), ends(after=0, done=False)]
    async with relaying(*[start_fake(lambda _: left.pop()) for _ in range(2)], entries=[entry] * 2) as relay:
        client = Client(ask("nonce:none", stream=True))
        assert await relay.call(client) is None
        assert (text_of("nonce:none"), 2) == (check(client.said).text, relay.records[0].attempts)


@CHAT
async def test_an_error_in_a_translated_stream_is_told_as_the_hosted_api_does(
    start_fake: StartFake, entry: Json
) -> None:
    async with relaying(start_fake([behave.error_event(2)]), entries=[entry]) as relay:
        client = Client(ask("nonce:broken", stream=True))
        assert await relay.call(client) is None
        said = check(client.said)
        assert said.error is not None
        assert "Context size has been exceeded." in said.error["message"]


@CHAT
@BOTH
async def test_another_servers_errors_are_told_as_the_hosted_api_does(
    start_fake: StartFake, entry: Json, stream: bool
) -> None:
    words = "This model's maximum context length is 4096 tokens. However, your prompt has 5000 input tokens."
    async with relaying(start_fake([behave.error(400, words, "BadRequestError")]), entries=[entry]) as relay:
        error = await relay.call(Client(ask(stream=stream)))
        assert isinstance(error, RequestInvalid)
        assert "prompt is too long: 5000 tokens > 4096 maximum" == error.message


@CHAT
async def test_a_page_where_a_completion_should_be_is_the_instances_failure(start_fake: StartFake, entry: Json) -> None:
    async with relaying(start_fake([behave.not_json(b'{"object":"list"}')]), entries=[entry]) as relay:
        error = await relay.call(Client(ask()))
        assert error is not None
        assert not isinstance(error, UpstreamAnswered)
        assert "cannot be read" in error.message
