import json
from typing import Any

import pytest

from router.errors import RequestInvalid
from router.translate.chat_forced import ForcedChat, forced_chat, has_tools, is_object
from router.translate.forced import ANY
from router.wire.chat import decode_chat

HI = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}}


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


LOOK, READ = function("look", parameters=SCHEMA), function("read")
NAMED = {"type": "function", "function": {"name": "read"}}


def forced(**fields: Any) -> ForcedChat | None:
    body = json.dumps({"model": "m", "messages": [HI]} | fields).encode()
    return forced_chat(decode_chat(body), body)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"tools": [LOOK, READ], "tool_choice": NAMED}, "read"),
        ({"tools": [LOOK], "tool_choice": "required"}, "look"),
        ({"tools": [LOOK, READ], "tool_choice": "required"}, ANY),
    ],
)
def test_a_call_is_forced_where_the_client_says_so(fields: dict[str, Any], name: str) -> None:
    found = forced(**fields)
    assert found is not None
    assert (name, False) == (found.name, found.may_break)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": [LOOK]},
        {"tools": [LOOK], "tool_choice": None},
        {"tools": [LOOK], "tool_choice": "auto"},
        {"tools": [LOOK], "tool_choice": "none"},
        {"tools": [], "tool_choice": "required"},
        {"tools": None, "tool_choice": "required"},
        {"tool_choice": "required"},
    ],
)
def test_nothing_is_forced_where_nothing_has_to_be_called_or_can_be(fields: dict[str, Any]) -> None:
    assert forced(**fields) is None


def test_the_schema_is_that_of_an_object_whatever_the_parameters_leave_open() -> None:
    for parameters, schema in (
        (SCHEMA, SCHEMA),
        ({}, {"type": "object", "properties": {}}),
        (None, {"type": "object", "properties": {}}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
    ):
        found = forced(tools=[function("look", parameters=parameters)], tool_choice="required")
        assert found is not None
        assert schema == json.loads(found.schema)


@pytest.mark.parametrize(("stop", "may"), [(None, False), ([], False), ("", False), ("END", True), (["a"], True)])
def test_a_stop_word_may_break_the_text_off(stop: object, may: bool) -> None:
    found = forced(tools=[LOOK], tool_choice="required", stop=stop)
    assert found is not None
    assert may is found.may_break


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tool_choice": "any"}, "Supported values are: 'none', 'auto', 'required'"),
        ({"tool_choice": {"type": "function", "function": {"name": "no"}}}, "no tool is named 'no'"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "look"}}}, "'tool_choice.type'"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required"}}}, "'tool_choice.type'"),
        ({"tool_choice": 7}, "'tool_choice'"),
        ({"tools": [LOOK, {"type": "custom", "custom": {"name": "x"}}], "tool_choice": "required"}, "'tools[1].type'"),
        ({"messages": [HI, {"role": "assistant", "content": "Well"}], "tool_choice": "required"}, "has begun it"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_its_field(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        forced(**({"tools": [LOOK, READ]} | fields))
    assert words in caught.value.message


def test_a_text_is_the_call_or_none() -> None:
    one, several = ForcedChat("look", b"{}"), ForcedChat(ANY, b"{}")
    assert ("look", '{"at"') == one.call('{"at"')
    assert ("look", '{"at": 1}') == several.call('{"name":"look","arguments":{"at": 1}}')
    assert several.call('{"name":"look"') is None


def test_tools_are_there_when_one_is() -> None:
    for tools, there in ((None, False), ([], False), ([LOOK], True)):
        assert there is has_tools(decode_chat(json.dumps({"model": "m", "messages": [HI], "tools": tools}).encode()))


@pytest.mark.parametrize(
    ("text", "is_one"), [("{}", True), (' {"a":1} ', True), ("", False), ("[]", False), ("{", False)]
)
def test_arguments_are_one_object_or_not(text: str, is_one: bool) -> None:
    assert is_one is is_object(text)
