import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid
from router.translate.chat_request import DROPPED, REFUSED, anthropic_version, messages_body
from router.wire.anthropic import decode_messages
from router.wire.chat import decode_chat
from tests.captures.reading import captured

steady = settings(derandomize=True, max_examples=200, deadline=None)
GOOD: dict[str, Any] = {"model": "client", "messages": [{"role": "user", "content": "hi"}]}
BARE: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "number"}}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}
TOOL_ = {"name": "f", "description": "d", "input_schema": SCHEMA, "strict": True}


def sent(**changes: Any) -> bytes:
    return messages_body(json.dumps(GOOD | changes).encode(), model="m", default_max_tokens=100)


def made(**changes: Any) -> Any:
    return json.loads(sent(**changes))


def test_a_request_becomes_a_messages_request_byte_for_byte() -> None:
    assert (
        b'{"model":"m","max_tokens":9,"system":"s","messages":[{"role":"user","content":"hi"}],'
        b'"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"auto"},'
        b'"stop_sequences":["x"],"temperature":0.5,"stream":true}'
    ) == sent(
        stream=True,
        temperature=0.5,
        stop="x",
        tool_choice="auto",
        tools=[{"type": "function", "function": {"name": "f"}}],
        max_tokens=9,
        messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}],
    )


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing more": ({}, {}),
    "nulls": (dict.fromkeys(("stream", "stop", "tools", "tool_choice", "temperature", "response_format"), None), {}),
    "a limit": ({"max_tokens": 5}, {"max_tokens": 5}),
    "the newer limit": ({"max_tokens": 5, "max_completion_tokens": 0}, {"max_tokens": 0}),
    "a stream": ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
    "stops": ({"stop": ["a", " \n", ""]}, {"stop_sequences": ["a"]}),
    "blanks to stop at": ({"stop": "\n\n"}, {}),
    "a warm model": ({"temperature": 1.7, "top_p": 0.5, "top_k": 3}, {"temperature": 1.0, "top_p": 0.5, "top_k": 3}),
    "no thinking": ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
    "little thinking": (
        {"reasoning_effort": "minimal"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
    ),
    "much thinking, without sampling": (
        {"reasoning_effort": "xhigh", "temperature": 0, "top_p": 1},
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}},
    ),
    "a schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
    "any JSON": (
        {"response_format": {"type": "json_object"}},
        {"system": "Answer with one JSON object and nothing else."},
    ),
    "text": ({"response_format": {"type": "text"}, "modalities": ["text"]}, {}),
    "tools": ({"tools": [TOOL]}, {"tools": [TOOL_]}),
    "a schema without type": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"required": []}}}]},
        {"tools": [{"name": "f", "input_schema": {"type": "object", "required": []}}]},
    ),
    "a tool that must be called": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tools": [TOOL_], "tool_choice": {"type": "tool", "name": "f"}},
    ),
    "some tool, and no thinking before it": (
        {"tools": [TOOL], "tool_choice": "required", "reasoning_effort": "high"},
        {"tools": [TOOL_], "tool_choice": {"type": "any"}, "output_config": {"effort": "high"}},
    ),
    "no tool": (
        {"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False},
        {"tools": [TOOL_], "tool_choice": {"type": "none"}},
    ),
    "one call at a time": (
        {"tools": [TOOL], "parallel_tool_calls": False},
        {"tools": [TOOL_], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ),
    "a choice among no tools": ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": False}, {}),
    "values that ask for nothing": (
        {"n": 1, "logprobs": False, "top_logprobs": 0, "functions": [], "audio": None, "web_search_options": None}, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_field_has_its_counterpart(name: str) -> None:
    changes, expected = CASES[name]
    assert BARE | expected == made(**changes)


@pytest.mark.parametrize("name", DROPPED)
def test_what_only_colours_the_answer_is_dropped(name: str) -> None:
    value = {"include_usage": True} if name == "stream_options" else {"x": 1}
    assert made(**{name: value}) == BARE
    assert DROPPED[name]


def test_what_is_unknown_is_dropped() -> None:
    assert made(min_p=0.1, chat_template_kwargs={}, newer=1) == BARE


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_make_another_answer_is_refused_with_its_reason(name: str) -> None:
    value = {"n": 2, "logprobs": True, "top_logprobs": 3, "functions": [{}]}.get(name, {"x": 1})
    with pytest.raises(RequestInvalid, match=f"^Unsupported parameter: '{name}': {REFUSED[name]}"):
        sent(**{name: value})


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "speech": ({"modalities": ["text", "audio"]}, "Unsupported value for 'modalities'"),
    "a custom tool": ({"tools": [{"type": "custom"}]}, "Invalid value for 'tools[0].type'"),
    "a tool without name": (
        {"tools": [{"type": "function", "function": {}}]},
        "Missing required parameter: 'tools[0].fun",
    ),
    "an unknown choice": ({"tools": [TOOL], "tool_choice": "any"}, "Invalid value for 'tool_choice'. Supported values"),
    "a choice of another tool": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "Invalid value for 'tool_choice': no tool is named 'g'",
    ),
    "allowed tools": (
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}},
        "Invalid value for 'tool_choice.type'",
    ),
    "an unknown effort": (
        {"reasoning_effort": "huge"},
        "Invalid value for 'reasoning_effort'. Supported values are: 'none'",
    ),
    "no schema": (
        {"response_format": {"type": "json_schema"}},
        "Missing required parameter: 'response_format.json_schema",
    ),
    "an unknown format": ({"response_format": {"type": "xml"}}, "Invalid value for 'response_format.type'"),
    "a stop of a kind": ({"stop": 7}, "Invalid type for 'stop'"),
    "a part without type": (
        {"messages": [{"role": "user", "content": [{}]}]}, "Missing required parameter: 'messages[0].content[0].type'",
    ),
    "arguments": (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]}]},
        "Invalid value for 'messages[0].tool_calls[0].function.arguments'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_with_its_path(name: str) -> None:
    changes, words = BAD[name]
    with pytest.raises(RequestInvalid) as refused:
        sent(**changes)
    assert refused.value.message.startswith(words)


def test_any_json_is_asked_for_after_what_the_system_says() -> None:
    system = {"role": "system", "content": "s"}
    found = made(messages=[system, *GOOD["messages"]], response_format={"type": "json_object"})
    assert "s\n\nAnswer with one JSON object and nothing else." == found["system"]


def test_a_model_that_takes_no_sampling_gets_none() -> None:
    body = json.dumps(GOOD | {"temperature": 0.2, "top_p": 0.3, "top_k": 4}).encode()
    assert json.loads(messages_body(body, model="m", default_max_tokens=100, sampling=False)) == BARE


@pytest.mark.parametrize(
    ("changes", "version"),
    [
        ({}, "2026-10-21"), ({"temperature": 0}, "2023-06-01"), ({"top_p": 1}, "2023-06-01"),
        ({"top_k": 5}, "2023-06-01"),
        ({"temperature": 0, "reasoning_effort": "low"}, "2026-10-21"),
    ],
)  # fmt: skip
def test_the_older_version_is_for_those_who_sample(changes: dict[str, Any], version: str) -> None:
    assert version == anthropic_version(sent(**changes))


@pytest.mark.parametrize("number", range(3))
def test_what_the_sdk_sends_becomes_a_request_that_we_read_ourselves(number: int) -> None:
    body = captured("/v1/chat/completions")[number].body
    head = decode_messages(messages_body(body, model="m", default_max_tokens=100))
    assert ("m", bool(decode_chat(body).stream)) == (head.model, bool(head.stream))
    assert ["user", "assistant"] * len(head.messages) > [message.role for message in head.messages]


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "text", "function", "user"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["type", "role", "content", "function", "name", "arguments"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@steady
@given(
    changes=st.dictionaries(
        st.sampled_from(["messages", "tools", "tool_choice", "stop", "response_format", "n", "x"]),
        _values,
        max_size=4,
    )
)
def test_whatever_a_request_holds_it_is_translated_or_refused_and_always_the_same(changes: dict[str, Any]) -> None:
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append(sent(**changes))
        except RequestInvalid as refused:
            outcomes.append(refused.message.encode())
    assert outcomes[0] == outcomes[1]
    if outcomes[0].startswith(b"{"):
        decode_messages(outcomes[0])
