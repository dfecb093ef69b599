import json
from typing import Any

import pytest

from router.translate.request import chat_body, native_body
from tests.wire.canonical_samples import assistant, call, form, result, text, tool, user

HI = user(text("hi"))
SAID = [{"role": "user", "content": "hi"}]


def native(*sent: Any, **fields: Any) -> Any:
    return json.loads(native_body(form(*sent or (HI,), **fields), model="m"))


def chat(*sent: Any, llama: bool = True, **fields: Any) -> Any:
    return json.loads(chat_body(form(*sent or (HI,), **fields), model="m", llama=llama))


def test_a_short_request_stays_short() -> None:
    plain = {"model": "m", "stream": False, "max_tokens": 8, "messages": SAID}
    assert plain == native()
    assert plain == chat() == chat(llama=False)


def test_the_model_is_named_only_if_there_is_a_name() -> None:
    assert "model" not in json.loads(native_body(form(HI), model=None))
    assert "model" not in json.loads(chat_body(form(HI), model=None, llama=True))


def test_everything_asked_for_is_in_the_native_body() -> None:
    found = native(
        system="s",
        tools=[tool("Read")],
        tool_choice={"type": "tool", "name": "Read", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 2000, "display": "omitted", "new": 1},
        stop_sequences=["END", 'a"'],
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        stream=True,
        chat_template_kwargs={"enable_thinking": False},
        metadata={"user_id": "somebody"},
        output_config={"effort": "high"},
    )
    assert {
        "model": "m",
        "stream": True,
        "max_tokens": 8,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "chat_template_kwargs": {"enable_thinking": False},
        "tool_choice": {"type": "tool", "name": "Read", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
        "stop_sequences": ["END", 'a"'],
        "system": "s",
        "messages": SAID,
        "tools": [tool("Read")],
    } == found


def test_everything_asked_for_is_in_the_chat_body() -> None:
    found = chat(
        system="s",
        tools=[tool("Read"), tool("Write")],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        temperature=0.5,
        top_k=4,
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
        metadata={"user_id": "somebody"},
    )
    assert {
        "model": "m",
        "stream": False,
        "max_tokens": 8,
        "temperature": 0.5,
        "top_k": 4,
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "stop": ["END"],
        "verbose": True,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "output", "schema": {"type": "object"}, "strict": True},
        },
        "messages": [{"role": "system", "content": "s"}, *SAID],
        "tools": [
            {
                "type": "function",
                "function": {"name": name, "description": f"Does {name}.", "parameters": {"type": "object"}},
            }
            for name in ("Read", "Write")
        ],
    } == found


def test_a_stream_tells_its_usage_and_a_llama_server_its_progress() -> None:
    assert {"include_usage": True} == chat(stream=True)["stream_options"]
    assert chat(stream=True)["return_progress"] is True
    assert "return_progress" not in chat(stream=True, llama=False)
    assert "stream_options" not in chat()


@pytest.mark.parametrize(("choice", "word"), [("auto", "auto"), ("any", "required"), ("none", "none")])
def test_choices_of_tools_have_their_words(choice: str, word: str) -> None:
    said = chat(tools=[tool("Read"), tool("Write")], tool_choice={"type": choice}, llama=False)
    assert word == said["tool_choice"]


def test_where_there_are_no_tools_there_is_no_choice_of_them() -> None:
    asked: dict[str, Any] = {"tool_choice": {"type": "none"}, "tools": []}
    assert "tool_choice" not in native(**asked)
    assert "tool_choice" not in chat(**asked)


def test_a_tool_that_has_to_be_called_is_enforced_by_its_schema_where_llama_server_would_not() -> None:
    asked: dict[str, Any] = {"tools": [tool("Read"), tool("Write")], "tool_choice": {"type": "tool", "name": "Write"}}
    found = chat(**asked)
    assert ("none", 2) == (found["tool_choice"], len(found["tools"]))
    assert {"type": "object"} == found["response_format"]["json_schema"]["schema"]
    assert 1 == found["thinking_budget_tokens"]
    other = chat(llama=False, **asked)
    assert "thinking_budget_tokens" not in other
    assert {"type": "function", "function": {"name": "Write"}} == other["tool_choice"]
    assert 2 == len(other["tools"])


@pytest.mark.parametrize(("asked", "sent"), [(0, 1), (1, 1), (32_000, 32_000)])
def test_of_no_tokens_at_all_one_is_asked_for(asked: int, sent: int) -> None:
    assert sent == native(max_tokens=asked)["max_tokens"] == chat(max_tokens=asked)["max_tokens"]


def test_where_no_limit_came_none_is_sent() -> None:
    assert "max_tokens" not in native(max_tokens=None)


def test_extra_fields_replace_ours() -> None:
    c = form(HI, chat_template_kwargs={"a": 1})
    extra = {"chat_template_kwargs": b'{"b":2}', "id_slot": b"3"}
    for body in (native_body(c, model="m", extra=extra), chat_body(c, model="m", llama=True, extra=extra)):
        assert 1 == body.count(b"chat_template_kwargs")
        assert ({"b": 2}, 3) == (json.loads(body)["chat_template_kwargs"], json.loads(body)["id_slot"])


def test_both_bodies_tell_the_same_conversation() -> None:
    sent = [HI, assistant(text("b"), call("toolu_x", path="p")), user(result("toolu_x", "r"))]
    assert "p" == native(*sent)["messages"][1]["content"][1]["input"]["path"]
    assert '{"path":"p"}' == chat(*sent)["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert (
        "x" == native(*sent)["messages"][2]["content"][0]["tool_use_id"] == chat(*sent)["messages"][2]["tool_call_id"]
    )


def test_a_prefill_is_gone_on_with_by_servers_that_would_begin_a_new_turn() -> None:
    begun = chat(HI, assistant(text("Well")), llama=False)
    assert (begun["continue_final_message"], begun["add_generation_prompt"]) == (True, False)
    assert "continue_final_message" not in chat(HI, assistant(text("Well")))
    assert "continue_final_message" not in chat(llama=False)


def test_the_budget_of_thinking_reaches_a_llama_server_by_either_way() -> None:
    asked: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000}
    assert native(**asked)["thinking"]["budget_tokens"] == 2000 == chat(**asked)["thinking_budget_tokens"]
    assert "thinking_budget_tokens" not in chat(llama=False, **asked)


def test_a_call_that_has_to_be_made_leaves_no_room_to_think_first() -> None:
    asked: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000}
    assert 1 == chat(tools=[tool("Read")], tool_choice={"type": "any"}, **asked)["thinking_budget_tokens"]
    assert 2000 == chat(tools=[tool("Read")], tool_choice={"type": "auto"}, **asked)["thinking_budget_tokens"]


def test_more_tokens_than_a_llama_server_can_count_are_as_many_as_it_can() -> None:
    assert native(max_tokens=2**40)["max_tokens"] == 2**31 - 1
