"""A chat completion on each way: what is refused, which body goes out, what the answer becomes."""

import json
from typing import Any

import msgspec
import pytest

from router.errors import RequestInvalid
from router.translate.chat_plan import DEFAULT_MAX_TOKENS
from router.translate.fidelity import Abilities
from tests.rig import fake_chat
from tests.rig.fake_wire import compact, message_body, message_frames
from tests.rig.legality_chat import check_chat
from tests.translate.asking import (
    ABOUT,
    HOSTED,
    LLAMA,
    OLD_LLAMA,
    REPLY,
    VLLM,
    chat,
    chat_raw,
    plan,
    played,
    sent,
)

FUNCTION = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "other"}}
NAMED = {"type": "function", "function": {"name": "look"}}
DEAF = Abilities(tools=False)


@pytest.mark.parametrize("can", [LLAMA, VLLM, HOSTED, Abilities(tools=False, images=False)])
def test_a_client_that_brings_no_tools_is_not_refused_beforehand(can: Abilities) -> None:
    assert chat(tools=[]).refusal(can, pass_tools=False) is None
    assert chat(tool_choice="required").refusal(can, pass_tools=False) is None


def test_tools_that_the_template_would_hide_are_refused_unless_the_operator_passes_them() -> None:
    request = chat(tools=[FUNCTION])
    reason = request.refusal(DEAF, pass_tools=False) or ""
    assert reason.startswith("tools: the chat template of asked does not show tools")
    with pytest.raises(RequestInvalid, match="does not show tools"):
        plan(request, DEAF)
    assert request.refusal(DEAF, pass_tools=True) is None
    assert sent(plan(request, DEAF, pass_tools=True))["tools"] == [FUNCTION]
    assert request.refusal(LLAMA, pass_tools=False) is None
    assert request.refusal(Abilities(exact=True, tools=False), pass_tools=False) is None


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_tool_that_must_be_called_is_enforced_by_its_schema_where_a_server_does_not(choice: object) -> None:
    request = chat(tools=[FUNCTION], tool_choice=choice)
    for can in (LLAMA, OLD_LLAMA):
        body = sent(plan(request, can))
        assert (body["tool_choice"], body["tools"]) == ("none", [FUNCTION])
        assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
        assert "chat_template_kwargs" not in body
    assert sent(plan(request, Abilities(switch=True)))["chat_template_kwargs"] == {"enable_thinking": False}
    body = sent(plan(request, VLLM))
    assert body["tool_choice"] == choice
    assert "response_format" not in body


@pytest.mark.parametrize("choice", ["required", NAMED])
@pytest.mark.parametrize("tools", [[FUNCTION], [FUNCTION, OTHER]])
def test_the_text_of_a_forced_call_is_its_arguments(choice: object, tools: list[Any]) -> None:
    several = choice == "required" and len(tools) == 2
    text = ('{"name":"look",', '"arguments":{"a":1}}') if several else ('{"a"', ":1}")
    reply = msgspec.structs.replace(REPLY, text=text)
    made = plan(chat(stream=True, tools=tools, tool_choice=choice), LLAMA)
    stream = made.stream(ABOUT)
    said = check_chat(played(stream, chat_raw(reply)))
    assert [(it.name, json.loads(it.arguments)) for it in said.tools] == [("look", {"a": 1})]
    assert (said.text, said.finish_reason, stream.stop_reason) == ("", "tool_calls", "tool_use")
    body, _, stop_reason = made.whole(compact(fake_chat.chat_body(reply)), ABOUT)
    (choice_,) = json.loads(body)["choices"]
    (call,) = choice_["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("look", {"a": 1})
    assert (call["id"], choice_["finish_reason"], stop_reason) == (said.tools[0].id, "tool_calls", "tool_use")


def test_a_choice_that_llama_server_would_not_honour_is_refused_there_alone() -> None:
    request = chat(tools=[FUNCTION], tool_choice=OTHER)
    assert "no tool is named 'other'" in (request.refusal(LLAMA, pass_tools=False) or "")
    with pytest.raises(RequestInvalid, match="no tool is named"):
        plan(request, LLAMA)
    assert request.refusal(VLLM, pass_tools=False) is None
    assert sent(plan(request, VLLM))["tool_choice"] == OTHER


def test_a_server_that_says_no_id_or_time_gets_those_of_the_call() -> None:
    made = plan(chat(stream=True), VLLM)
    raw = chat_raw(REPLY).replace(b'"id":"x",', b"").replace(b'"created":%d,' % fake_chat.CREATED, b"")
    said = check_chat(played(made.stream(ABOUT), raw))
    body, _, _ = made.whole(compact({**fake_chat.chat_body(REPLY), "id": "", "created": None}), ABOUT)
    assert said.id == json.loads(body)["id"] == "chatcmpl-1"
    assert said.created == json.loads(body)["created"] == ABOUT.created_s


def test_what_chat_cannot_ask_of_the_messages_api_is_refused_by_its_plan() -> None:
    with pytest.raises(RequestInvalid, match="'n'"):
        plan(chat(n=2), HOSTED)
    assert plan(chat(n=2), LLAMA).way == "native"


def test_a_chat_client_without_a_limit_needs_one_only_at_the_messages_api() -> None:
    request = chat(max_tokens=None)
    assert "max_tokens" not in sent(plan(request, LLAMA))
    assert sent(plan(request, HOSTED))["max_tokens"] == DEFAULT_MAX_TOKENS


@pytest.mark.parametrize(
    ("fields", "version"),
    [({}, b"2026-10-21"), ({"temperature": 0.5}, b"2023-06-01"), ({"top_p": 0.9}, b"2023-06-01")],
)
def test_a_chat_call_to_the_messages_api_says_its_version(fields: Any, version: bytes) -> None:
    assert plan(chat(**fields), HOSTED).version == version


@pytest.mark.parametrize("can", [LLAMA, VLLM, HOSTED])
@pytest.mark.parametrize("usage_asked", [False, True])
def test_a_chat_client_gets_a_legal_completion_whoever_answers(can: Abilities, usage_asked: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if usage_asked else {}
    made = plan(chat(stream=True, **options), can)
    raw = chat_raw(REPLY) if made.path == b"/v1/chat/completions" else b"".join(message_frames(REPLY))
    stream = made.stream(ABOUT)
    said = check_chat(played(stream, raw), usage_asked=usage_asked)
    assert (said.text, said.model, said.finish_reason) == ("ab", "asked", "stop")
    assert (stream.usage.output_tokens, stream.stop_reason) == (2, "end_turn")
    plain = fake_chat.chat_body(REPLY) if made.path == b"/v1/chat/completions" else message_body(REPLY)
    body, usage, _ = made.whole(compact(plain), ABOUT)
    assert json.loads(body)["choices"][0]["message"]["content"] == "ab"
    assert (json.loads(body)["model"], usage.output_tokens) == ("asked", 2)


def test_a_chat_client_of_the_messages_api_gets_an_id_of_its_kind() -> None:
    made = plan(chat(stream=True), HOSTED)
    said = check_chat(played(made.stream(ABOUT), b"".join(message_frames(REPLY))))
    body, _, _ = made.whole(compact(message_body(REPLY)), ABOUT)
    assert said.id == json.loads(body)["id"] == "chatcmpl-1"
    assert said.created == json.loads(body)["created"] == ABOUT.created_s
