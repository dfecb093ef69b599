"""A tool that must be called, on real llama-servers, for clients of either API; and where a template always thinks."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import openai
import pytest

from router.demo.llama import LlamaProcess
from tests.rig import llama
from tests.rig.legality import check
from tests.rig.legality_chat import check_chat
from tests.rig.openai_sdk import sdk_said
from tests.rig.router import RouterProcess, registry
from tests.system.both_ways import CLOCK, PARIS, WEATHER, talking_spec
from tests.system.templates import HERMES

MODEL = "smollm2"
EITHER = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
ASSISTANT = "{{- '<|im_start|>assistant\n' }}{%- endif %}\n"
THINKS_FIRST = HERMES.removesuffix(ASSISTANT) + ASSISTANT.replace("assistant\n", "assistant\n<think>\n")
"""Opens the thought itself, and has no switch for it."""


def function(tool: dict[str, Any]) -> dict[str, Any]:
    told = {"name": tool["name"], "description": "Tells it.", "parameters": tool["input_schema"]}
    return {"type": "function", "function": told}


BOTH = [function(CLOCK), function(WEATHER)]
NAMED = {"type": "function", "function": {"name": "get_weather"}}
PLACE = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]}
POINTING: dict[str, Any] = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"place": {"$ref": "#/$defs/Place"}},
        "required": ["place"],
        "$defs": {"Place": PLACE},
    },
}


@contextlib.contextmanager
def routed(template: str | None) -> Iterator[RouterProcess]:
    llama.need_llama()
    spec = msgspec.structs.replace(talking_spec(), chat_template=template)
    with LlamaProcess(spec) as server:
        server.wait_ready(llama.READY_S)
        listed = [{"url": server.url, "id": "it"}]
        models = {"passing": {"tools": "pass", "instances": listed}}
        with RouterProcess(registry(listed, model=MODEL, models=models)) as router:
            router.wait_ready()
            yield router


@pytest.fixture(scope="module")
def talking() -> Iterator[RouterProcess]:
    with routed(HERMES) as router:
        yield router


@pytest.fixture(scope="module")
def thinking() -> Iterator[RouterProcess]:
    with routed(THINKS_FIRST) as router:
        yield router


@pytest.fixture(scope="module")
def deaf() -> Iterator[RouterProcess]:
    """SmolLM2's own template, which leaves tools out."""
    with routed(None) as router:
        yield router


def sdk(router: RouterProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{router.url}/v1", api_key="any", max_retries=0, timeout=60)


Calls = list[tuple[str, Any]]


def ask(router: RouterProcess, *, stream: bool, **more: Any) -> tuple[str, Calls, str | None]:
    """Text, calls with their arguments read, and finish reason, as the SDK has them."""
    fields: dict[str, Any] = {"model": MODEL, "max_tokens": 80, "temperature": 0, "messages": [PARIS], **more}
    with sdk(router) as client:
        if stream:
            text, calls, finish = sdk_said(list(client.chat.completions.create(stream=True, **fields)))
            return text, [(name, json.loads(given)) for name, given in calls], finish
        (choice,) = client.chat.completions.create(**fields).choices
        found: list[Any] = list(choice.message.tool_calls or ())
        assert all(it.id and it.type == "function" for it in found)
        told = [(it.function.name, json.loads(it.function.arguments)) for it in found]
        return choice.message.content or "", told, choice.finish_reason


def post(router: RouterProcess, path: str, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "max_tokens": 80, "temperature": 0, "messages": [PARIS], **fields}
    # Left to itself it would read all certificates of the system first, which takes longer than most answers.
    return httpx.post(router.url + path, json=body, timeout=60, verify=False, trust_env=False)


@EITHER
@pytest.mark.parametrize("tools", [BOTH, BOTH[1:]], ids=["of two", "the only one"])
def test_a_tool_that_is_named_is_called_without_any_example(
    talking: RouterProcess, tools: list[Any], *, stream: bool
) -> None:
    text, ((name, arguments),), finish = ask(talking, stream=stream, tools=tools, tool_choice=NAMED)
    assert (text, name, finish) == ("", "get_weather", "tool_calls")
    assert (list(arguments), type(arguments["city"])) == (["city"], str)


@EITHER
def test_some_tool_that_is_required_is_called(talking: RouterProcess, *, stream: bool) -> None:
    text, ((name, _),), finish = ask(talking, stream=stream, tools=BOTH, tool_choice="required")
    assert (text, finish) == ("", "tool_calls")
    assert name in {"get_time", "get_weather"}


def test_a_stream_of_a_call_that_must_be_made_is_legal_and_comes_piece_by_piece(talking: RouterProcess) -> None:
    answer = post(talking, "/v1/chat/completions", stream=True, tools=BOTH, tool_choice=NAMED)
    said = check_chat(answer.content)
    assert ("tool_calls", ["get_weather"]) == (said.finish_reason, [tool.name for tool in said.tools])
    assert len([it for it in said.chunks if it.data["choices"][0]["delta"].get("tool_calls")]) > 2


@EITHER
def test_a_call_that_its_length_cuts_says_so(talking: RouterProcess, *, stream: bool) -> None:
    fields = {"tools": BOTH, "tool_choice": NAMED, "max_tokens": 3, "stream": stream}
    answer = post(talking, "/v1/chat/completions", **fields)
    if stream:
        assert check_chat(answer.content).finish_reason == "length"
    else:
        assert answer.json()["choices"][0]["finish_reason"] == "length"


@EITHER
def test_a_schema_that_points_into_itself_may_be_one_of_several(talking: RouterProcess, *, stream: bool) -> None:
    """Pydantic writes such schemas; left where it stood, the reference would be an error of llama-server's."""
    tools = [function(CLOCK), function(POINTING)]
    _, ((name, _),), finish = ask(talking, stream=stream, tools=tools, tool_choice="required")
    assert (name in {"get_time", "get_weather"}, finish) == (True, "tool_calls")
    answer = post(talking, "/v1/messages", tools=[CLOCK, POINTING], tool_choice={"type": "any"})
    assert (answer.status_code, answer.json()["stop_reason"]) == (200, "tool_use")


@EITHER
def test_a_template_that_always_thinks_first_does_not_spend_the_tokens_of_a_call_on_it(
    thinking: RouterProcess, *, stream: bool
) -> None:
    free = post(thinking, "/v1/chat/completions").json()["choices"][0]
    assert (free["finish_reason"], bool(free["message"]["reasoning_content"])) == ("length", True)  # it would
    _, ((name, arguments),), finish = ask(thinking, stream=stream, tools=BOTH, tool_choice=NAMED)
    assert (name, list(arguments), finish) == ("get_weather", ["city"], "tool_calls")
    choice = {"type": "tool", "name": "get_weather"}
    answer = post(thinking, "/v1/messages", stream=stream, tools=[CLOCK, WEATHER], tool_choice=choice)
    if stream:
        said = check(answer.content)
        assert (said.stop_reason, [list(tool.input) for tool in said.tools]) == ("tool_use", [["city"]])
    else:
        assert answer.json()["stop_reason"] == "tool_use"


@EITHER
def test_tools_that_the_template_would_hide_are_refused_in_openais_words(deaf: RouterProcess, *, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError, match=f"tools: the chat template of {MODEL} does not show") as caught:
        ask(deaf, stream=stream, tools=BOTH)
    assert caught.value.type == "invalid_request_error"
    text, calls, _ = ask(deaf, stream=stream, tools=BOTH, model="passing", max_tokens=8)
    assert (bool(text), calls) == (True, [])
