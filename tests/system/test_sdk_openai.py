"""The openai SDK on a real llama-server: on its chat completions, and on its Messages API, in translation."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from router.demo.llama import LlamaProcess
from tests.rig import llama
from tests.rig.openai_sdk import sdk_said
from tests.rig.router import RouterProcess, registry
from tests.system.both_ways import CITY_SCHEMA, WEATHER, talking_spec

MODEL = "smollm2"
CONTEXT = 8192
EITHER = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
# llama-server's two faces; the second stands for a backend that has nothing but the Messages API.
BACKENDS: dict[str, dict[str, object]] = {
    "chat": {},
    "messages": {"dialect": "anthropic", "slots": 2},
}
BOTH = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, openai.OpenAI]]:
    llama.need_llama()
    with ExitStack() as stack:
        server = stack.enter_context(LlamaProcess(talking_spec()))
        server.wait_ready(llama.READY_S)
        found = {}
        for name, more in BACKENDS.items():
            listed = {"url": server.url, "id": "it", **more}
            router = stack.enter_context(RouterProcess(registry([listed], model=MODEL)))
            router.wait_ready()
            sdk = openai.OpenAI(base_url=f"{router.watched_url}/v1", api_key="any", max_retries=0, timeout=60)
            found[name] = stack.enter_context(sdk)
        yield found


Clients = dict[str, openai.OpenAI]
Said = tuple[str, list[tuple[str, str]], str | None]


def ask(client: openai.OpenAI, messages: list[dict[str, Any]], *, stream: bool, **more: Any) -> Said:
    """Text, calls and finish reason, however they came; the usage must be there and add up."""
    fields: dict[str, Any] = {"model": MODEL, "max_tokens": 60, "temperature": 0, "messages": messages, **more}
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
        chunks: list[ChatCompletionChunk] = list(client.chat.completions.create(**fields))
        assert {it.model for it in chunks} == {MODEL}
        assert len({it.id for it in chunks}) == 1
        add_up(chunks[-1].usage)
        return sdk_said(chunks)
    whole: ChatCompletion = client.chat.completions.create(**fields)
    assert whole.model == MODEL
    add_up(whole.usage)
    (choice,) = whole.choices
    calls: list[Any] = list(choice.message.tool_calls or ())
    found = [(it.function.name, it.function.arguments) for it in calls]
    return choice.message.content or "", found, choice.finish_reason


def add_up(usage: openai.types.CompletionUsage | None) -> None:
    assert usage is not None
    assert usage.prompt_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    assert 0 <= (cached or 0) <= usage.prompt_tokens


def user(words: Any) -> dict[str, Any]:
    return {"role": "user", "content": words}


FUNCTION = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Tells it.", "parameters": WEATHER["input_schema"]},
}


def shown() -> list[dict[str, Any]]:
    """Three turns in which the tool was called: what makes so small a model call it again."""
    said: list[dict[str, Any]] = []
    for city, sky in (("Rome", "sunny"), ("Oslo", "snowy"), ("Cairo", "hot")):
        function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
        said += [
            user(f"What is the weather in {city}?"),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"call_{city}", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": f"call_{city}", "content": sky},
            {"role": "assistant", "content": f"It is {sky} in {city}."},
        ]
    return [*said, user("What is the weather in Paris?")]


# ------------------------------------------------------------------ answers


@EITHER
@BOTH
def test_a_plain_question_is_answered(clients: Clients, backend: str, *, stream: bool) -> None:
    said, calls, finish = ask(clients[backend], [user("Say hi.")], stream=stream, max_tokens=8)
    assert said
    assert (calls, finish) == ([], "length")


@EITHER
@BOTH
def test_a_tool_is_called(clients: Clients, backend: str, *, stream: bool) -> None:
    said, calls, finish = ask(clients[backend], shown(), stream=stream, tools=[FUNCTION])
    assert (said, finish) == ("", "tool_calls")
    ((name, arguments),) = calls
    assert (name, json.loads(arguments)) == ("get_weather", {"city": "Paris"})


@EITHER
@BOTH
def test_a_stop_word_ends_the_answer(clients: Clients, backend: str, *, stream: bool) -> None:
    """Where the answer goes by itself is asked first; then it is stopped there."""
    messages = [user("Count: one, two, three, four, five. Once more: one, two,")]
    whole, _, _ = ask(clients[backend], messages, stream=stream, max_tokens=8)
    word = whole.split()[2]
    said, _, finish = ask(clients[backend], messages, stream=stream, max_tokens=8, stop=[word])
    assert finish == "stop"
    assert whole.startswith(said)
    assert word not in said


@EITHER
def test_structured_output_keeps_to_its_schema(clients: Clients, *, stream: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY_SCHEMA, "strict": True}}
    said, _, finish = ask(clients["chat"], [user("Talk of a city.")], stream=stream, response_format=form)
    assert (set(json.loads(said)), finish) == ({"city", "big"}, "stop")


@EITHER
def test_a_schema_that_cannot_be_followed_is_refused_with_the_place_in_it(clients: Clients, *, stream: bool) -> None:
    odd = {"type": "object", "properties": {"city": {"type": "town"}}}
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": odd}}
    with pytest.raises(openai.BadRequestError, match="#/properties/city: ") as caught:
        ask(clients["chat"], [user("Talk of a city.")], stream=stream, response_format=form)
    assert caught.value.type == "invalid_request_error"


@BOTH
def test_the_models_are_listed(clients: Clients, backend: str) -> None:
    assert [it.id for it in clients[backend].models.list()] == [MODEL]
    assert clients[backend].models.retrieve(MODEL).id == MODEL


@pytest.mark.anyio
async def test_the_async_sdk_streams_too(clients: Clients) -> None:
    async with openai.AsyncOpenAI(base_url=clients["chat"].base_url, api_key="any", max_retries=0) as client:
        messages: Any = [user("Say hi.")]
        stream = await client.chat.completions.create(model=MODEL, max_tokens=8, messages=messages, stream=True)
        said, _, finish = sdk_said([chunk async for chunk in stream])
    assert said
    assert finish == "length"


# ------------------------------------------------------------------ refusals


@EITHER
@BOTH
def test_an_unknown_model_is_not_found(clients: Clients, backend: str, *, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-oss") as caught:
        ask(clients[backend], [user("hi")], stream=stream, model="gpt-oss")
    assert (caught.value.type, caught.value.code) == ("invalid_request_error", "model_not_found")
    assert str(caught.value.response.headers["request-id"]).startswith("req_")


@EITHER
@BOTH
def test_a_prompt_that_is_too_long_has_openais_code(clients: Clients, backend: str, *, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError, match=f"tokens > {CONTEXT} maximum") as caught:
        ask(clients[backend], [user("word " * 9000)], stream=stream)
    assert (caught.value.type, caught.value.code) == ("invalid_request_error", "context_length_exceeded")


@EITHER
def test_a_request_that_cannot_be_read_is_a_bad_one(clients: Clients, *, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(clients["chat"], [{"role": "user", "content": 7}], stream=stream)
    assert caught.value.type == "invalid_request_error"


def test_what_the_messages_api_cannot_do_is_refused_there_and_done_elsewhere(clients: Clients) -> None:
    with pytest.raises(openai.BadRequestError, match="Unsupported parameter: 'logprobs'"):
        ask(clients["messages"], [user("hi")], stream=False, logprobs=True)
    fields: dict[str, Any] = {"model": MODEL, "max_tokens": 2, "messages": [user("hi")], "logprobs": True}
    assert clients["chat"].chat.completions.create(**fields).choices[0].logprobs is not None


def test_a_route_that_the_instances_do_not_offer_says_501(clients: Clients) -> None:
    with pytest.raises(openai.InternalServerError, match="not offered by the instances") as caught:
        clients["chat"].embeddings.create(model=MODEL, input="hi")
    assert caught.value.status_code == 501


def test_a_route_that_they_do_offer_is_passed_on(clients: Clients) -> None:
    said = clients["chat"].completions.create(model=MODEL, prompt="One, two,", max_tokens=4, temperature=0)
    assert (said.model, said.choices[0].finish_reason) == (MODEL, "length")
    assert "three" in said.choices[0].text
