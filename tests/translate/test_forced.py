import json

import msgspec
import pytest

from router.translate.forced import ANY, as_call, chosen_call, forced_name, forced_schema, forced_tools
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
    ("fields", "names", "told"),
    [
        ({"tools": [LOOK, READ], "tool_choice": {"type": "tool", "name": "read"}}, ["read"], "read"),
        ({"tools": [LOOK], "tool_choice": {"type": "any"}}, ["look"], "look"),
        ({"tools": [LOOK, READ], "tool_choice": {"type": "any"}}, ["look", "read"], ANY),
        ({"tools": [LOOK], "tool_choice": {"type": "auto"}}, [], ""),
        ({"tools": [LOOK]}, [], ""),
        ({}, [], ""),
    ],
)
def test_a_call_is_forced_where_the_client_says_so(fields: dict[str, object], names: list[str], told: str) -> None:
    tools = forced_tools(call(**fields))
    assert (names, told) == ([tool.name for tool in tools], forced_name(tools))


def test_an_answer_that_is_begun_already_is_not_forced() -> None:
    begun = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well"}]
    assert forced_tools(call(messages=begun, tools=[LOOK], tool_choice={"type": "any"})) == ()


def test_the_schema_is_the_tools_own_or_that_of_any_one_call() -> None:
    one, two = forced_tools(call(tools=[LOOK, READ], tool_choice={"type": "any"}))
    assert json.loads(forced_schema((one,))) == LOOK["input_schema"]
    look, read = json.loads(forced_schema((one, two)))["anyOf"]
    assert look["properties"] == {"name": {"const": "look"}, "arguments": LOOK["input_schema"]}
    assert (read["properties"]["name"], read["additionalProperties"]) == ({"const": "read"}, False)


def test_a_schema_that_points_into_itself_still_does_among_others() -> None:
    """llama-server answers 400 to a reference that leads nowhere."""
    place = {"type": "object", "properties": {"city": {"type": "string"}, "x": {"$ref": "https://a.test/x"}}}
    schema = {"type": "object", "properties": {"at": {"$ref": "#/$defs/Place"}}, "$defs": {"Place": place}}
    one, two = forced_tools(call(tools=[LOOK | {"input_schema": schema}, READ], tool_choice={"type": "any"}))
    whole = json.loads(forced_schema((one, two)))
    look, read = whole["anyOf"]
    assert look["properties"]["arguments"] == {"$ref": "#/$defs/tool0"}
    assert read["properties"]["arguments"] == READ["input_schema"]
    moved = whole["$defs"]["tool0"]
    assert (moved["properties"], moved["$defs"]) == ({"at": {"$ref": "#/$defs/tool0/$defs/Place"}}, schema["$defs"])
    assert json.loads(forced_schema((one,))) == schema


@pytest.mark.parametrize("text", ["", '{"name":"look"', '{"name":"look"}', "[]", '"look"', '{"name":1,"arguments":{}}'])
def test_what_is_no_call_is_none(text: str) -> None:
    assert chosen_call(text) is None


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


CHOSEN = ['{"name', '":"lo', 'ok","argu', 'ments":{"at": "Paris"}}']
CHOOSING = b"".join(chunk(delta={"content": piece}) for piece in CHOSEN)


def chose(raw: bytes) -> ChatToMessages:
    stream = ChatToMessages(model="m", instance_id="i", message_id="msg_1", forced=ANY)
    stream.feed(raw)
    stream.finish()
    return stream


def test_a_choice_is_told_as_a_call_when_it_is_whole_however_it_is_cut() -> None:
    whole = CHOOSING + chunk(delta={}, finish_reason="stop") + USED

    def said(cuts: tuple[bytes, ...]) -> bytes:
        stream = ChatToMessages(model="m", instance_id="i", message_id="msg_1", forced=ANY)
        out = b"".join(stream.feed(cut) for cut in cuts) + stream.finish()
        assert stream.ended
        return out

    first = check(said((whole,)))
    assert (first.stop_reason, [(tool.name, tool.input) for tool in first.tools]) == (
        "tool_use", [("look", {"at": "Paris"})],
    )  # fmt: skip
    assert all(said(cuts) == said((whole,)) for cuts in every_way(whole))


def test_a_choice_that_its_length_cut_is_no_call_and_one_that_is_nonsense_no_answer() -> None:
    cut = chose(chunk(delta={"content": CHOSEN[0]}) + chunk(delta={}, finish_reason="length") + USED)
    assert (cut.ended, cut.stop_reason) == (True, "max_tokens")
    nonsense = chose(chunk(delta={"content": "well"}) + chunk(delta={}, finish_reason="stop") + USED)
    assert (nonsense.ended, nonsense.error is not None) == (False, True)


def test_a_plain_choice_is_a_call() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "".join(CHOSEN)}, "finish_reason": "stop"}
    body, _, reason = message_of(json.dumps({"choices": [choice]}).encode(), model="m", message_id="msg_1", forced=ANY)
    (block,) = json.loads(body)["content"]
    assert (reason, block["name"], block["input"]) == ("tool_use", "look", {"at": "Paris"})


def two_calls() -> list[dict[str, object]]:
    return [
        {
            "index": at,
            "id": f"c{at}",
            "type": "function",
            "function": {"name": "look", "arguments": json.dumps({"at": at})},
        }
        for at in range(2)
    ]


def test_a_client_that_takes_one_call_gets_one() -> None:
    raw = chunk(delta={"tool_calls": two_calls()}) + chunk(delta={}, finish_reason="tool_calls") + USED
    stream = ChatToMessages(model="m", instance_id="i", message_id="msg_1", single=True)
    said = check(stream.feed(raw) + stream.finish())
    assert [tool.input for tool in said.tools] == [{"at": 0}]
    choice = {"index": 0, "message": {"tool_calls": two_calls()}, "finish_reason": "tool_calls"}
    body, _, _ = message_of(json.dumps({"choices": [choice]}).encode(), model="m", message_id="msg_1", single=True)
    assert [block["input"] for block in json.loads(body)["content"]] == [{"at": 0}]


def test_a_stop_word_inside_the_arguments_is_told_and_no_failure() -> None:
    message = {"content": '{"at": "'}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "stop_reason": "Par"}
    body, _, reason = message_of(
        json.dumps({"choices": [choice]}).encode(), model="m", message_id="msg_1", forced="look", stop=("Par",)
    )
    assert (reason, json.loads(body)["stop_sequence"]) == ("stop_sequence", "Par")
