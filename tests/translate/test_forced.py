import json

import msgspec
import pytest

from router.translate.forced import as_call, forced_tool
from router.translate.response import message_of
from router.translate.stream import ChatToMessages
from router.wire.anthropic import decode_messages
from router.wire.canonical import Canonical, canonical
from router.wire.openai import Delta, FunctionPart, ToolCallPart
from tests.rig.legality import check
from tests.wire.every_way import every_way

LOOK = {"name": "look", "description": "d", "input_schema": {"type": "object", "properties": {"at": {}}}}
READ = {"name": "read", "description": "d", "input_schema": {"type": "object"}}


def call(**fields: object) -> Canonical:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]} | fields
    return canonical(decode_messages(msgspec.json.encode(body)))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"tools": [LOOK, READ], "tool_choice": {"type": "tool", "name": "read"}}, "read"),
        ({"tools": [LOOK], "tool_choice": {"type": "any"}}, "look"),
        ({"tools": [LOOK, READ], "tool_choice": {"type": "any"}}, None),
        ({"tools": [LOOK], "tool_choice": {"type": "auto"}}, None),
        ({"tools": [LOOK]}, None),
        ({}, None),
    ],
)
def test_a_tool_is_forced_where_there_is_no_choice(fields: dict[str, object], name: str | None) -> None:
    tool = forced_tool(call(**fields))
    assert name == (tool.name if tool else None)


def test_an_answer_that_is_begun_already_is_not_forced() -> None:
    begun = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well"}]
    assert forced_tool(call(messages=begun, tools=[LOOK], tool_choice={"type": "any"})) is None


def test_text_becomes_the_input_of_the_call_and_what_is_no_text_stays() -> None:
    part = ToolCallPart(index=0, function=FunctionPart(name="look", arguments='{"a'))
    assert as_call(Delta(content='{"a', reasoning="hm"), "look") == Delta(reasoning="hm", tool_calls=(part,))
    nothing = Delta(reasoning="hm")
    assert as_call(nothing, "look") is nothing


def chunk(**choice: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, **choice}]}).encode() + b"\n\n"


PIECES = ["{", "\n ", ' "at', '": "Par', 'is"', "\n}"]
STREAM = b"".join(chunk(delta={"content": piece}) for piece in PIECES) + chunk(delta={}, finish_reason="stop")
USED = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":6}}\n\n'


def told(cuts: tuple[bytes, ...]) -> bytes:
    stream = ChatToMessages(model="m", instance_id="i", message_id="msg_1", forced="look")
    out = b"".join(stream.feed(cut) for cut in cuts) + stream.finish()
    assert stream.ended
    return out


def test_a_forced_answer_streams_as_one_legal_call_however_it_is_cut() -> None:
    whole = STREAM + USED + b"data: [DONE]\n\n"
    said = check(told((whole,)))
    assert said.stop_reason == "tool_use"
    assert [(tool.name, tool.input) for tool in said.tools] == [("look", {"at": "Paris"})]
    assert said.text == ""
    assert all(told(cuts) == told((whole,)) for cuts in every_way(whole))


def test_a_forced_answer_that_its_length_cut_says_so() -> None:
    cut = chunk(delta={"content": '{"at": "Pa'}) + chunk(delta={}, finish_reason="length") + USED
    assert check(told((cut,))).stop_reason == "max_tokens"


def test_a_plain_forced_answer_is_a_call() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": '{"at": 1}'}, "finish_reason": "stop"}
    body, _, reason = message_of(
        json.dumps({"choices": [choice]}).encode(), model="m", message_id="msg_1", forced="look"
    )
    (block,) = json.loads(body)["content"]
    assert (reason, block["name"], block["input"]) == ("tool_use", "look", {"at": 1})
