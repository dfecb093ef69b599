import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.translate.answer import Usage
from router.translate.forced import ANY
from router.translate.response import message_of
from router.translate.stream import ChatToMessages
from router.wire.signature import unseal
from tests.rig.legality import check
from tests.translate.chunks import call, chunk, fed, text, thought, usage

steady = settings(derandomize=True, max_examples=300, deadline=None)
CAPTURES = Path(__file__).parent.parent / "captures" / "chat"
STOPPED = {"stop_type": "word", "stopping_word": "x"}
COUNTED = {"prompt_tokens": 33, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 24}}


def completion(finish: str | None = "stop", *, more: dict[str, Any] | None = None, **message: Any) -> bytes:
    choice = {"finish_reason": finish, "index": 0, "message": {"role": "assistant", **message}}
    return json.dumps({"choices": [choice], "id": "chatcmpl-1", "usage": COUNTED, **(more or {})}).encode()


def told(body: bytes, **options: Any) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(message_of(body, **{"model": "m", "message_id": "msg_1", **options})[0])
    return message


def tool(id_: str | None, name: str, arguments: Any) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_message_byte_for_byte() -> None:
    body = completion(
        "tool_calls", content="hi", reasoning_content="t", tool_calls=[tool("a", "f", '{"b": 1.0,"a":2}')]
    )
    assert (
        b'{"id":"msg_1","type":"message","role":"assistant","model":"my \\"coder\\"","content":['
        b'{"type":"thinking","thinking":"t","signature":""},{"type":"text","text":"hi"},'
        b'{"type":"tool_use","id":"toolu_a","name":"f","input":{"b": 1.0,"a":2}}],'
        b'"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":9,"cache_creation_input_tokens":0,'
        b'"cache_read_input_tokens":24,"output_tokens":7}}',
        Usage(9, 24, 7),
        "tool_use",
    ) == message_of(body, model='my "coder"', message_id="msg_1")


def test_real_answers() -> None:
    calls = told((CAPTURES / "two_calls.json").read_bytes())
    assert [{"city": "Paris"}, {"city": "Berlin"}] == [block["input"] for block in calls["content"]]
    assert "tool_use" == calls["stop_reason"]
    thinking = told((CAPTURES / "thinking.json").read_bytes())
    assert ["thinking", "text"] == [block["type"] for block in thinking["content"]]
    stopped = told((CAPTURES / "stop_word.json").read_bytes(), stop=("!", ".", ","))
    assert ("stop_sequence", ".") == (stopped["stop_reason"], stopped["stop_sequence"])
    body = (CAPTURES / "prefill.json").read_bytes()
    echoed, cut = told(body)["content"][0]["text"], told(body, prefill="Hel")["content"][0]["text"]
    assert (echoed, False) == ("Hel" + cut, cut.startswith("Hel"))


def test_a_prefill_is_cut_once_and_only_where_it_is_repeated() -> None:
    assert "a" == told(completion(content="aaa"), prefill="aa")["content"][0]["text"]
    assert "b" == told(completion(content="b"), prefill="a")["content"][0]["text"]
    assert [] == told(completion(content="a"), prefill="a")["content"]


def test_thinking_that_was_begun_is_cut_where_it_is_repeated() -> None:
    more = told(completion(reasoning_content="I say.\nMore", content=""), prefill="", thought="I say.")["content"]
    assert [{"type": "thinking", "thinking": "\nMore", "signature": ""}] == more
    body = completion(reasoning_content="I say.\n", content="Well, hi")
    for omit in (False, True):
        content = told(body, prefill="Well,", thought="I say.", omit_thinking=omit)["content"]
        assert [{"type": "text", "text": " hi"}] == content


@pytest.mark.parametrize("nothing", [{}, {"content": None}, {"content": "", "reasoning_content": "", "tool_calls": []}])
def test_trap_6_nothing_makes_no_block(nothing: dict[str, Any]) -> None:
    assert ([], "end_turn") == (told(completion(**nothing))["content"], told(completion(**nothing))["stop_reason"])


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call"])
def test_trap_5_an_answer_with_a_call_stops_for_the_tool(finish: str) -> None:
    assert "tool_use" == told(completion(finish, tool_calls=[tool("a", "f", "{}")]))["stop_reason"]


@pytest.mark.parametrize("arguments", ["null", "[]", "{", "{x:1}", '"x"'])
def test_arguments_that_are_no_object_are_refused_unless_the_answer_was_cut(arguments: str) -> None:
    calls = [tool("a", "f", arguments)]
    for finish in ("stop", "tool_calls", "content_filter"):
        with pytest.raises(msgspec.DecodeError):
            told(completion(finish, tool_calls=calls))
    cut = told(completion("length", tool_calls=calls))
    assert ({}, "max_tokens") == (cut["content"][0]["input"], cut["stop_reason"])


@pytest.mark.parametrize("arguments", ["", None, " ", {}, "{}"])
def test_no_arguments_are_an_empty_input(arguments: Any) -> None:
    assert {} == told(completion(tool_calls=[tool("a", "f", arguments)]))["content"][0]["input"]


def test_a_call_that_a_stop_word_cut_before_its_arguments_is_not_to_be_run() -> None:
    body = completion("stop", tool_calls=[tool("a", "f", "")], more={"__verbose": STOPPED})
    cut = told(body, stop=("x",))
    assert ({}, "stop_sequence", "x") == (cut["content"][0]["input"], cut["stop_reason"], cut["stop_sequence"])
    body = completion("stop", tool_calls=[tool("a", "f", "{}")], more={"__verbose": STOPPED})
    assert "tool_use" == told(body, stop=("x",))["stop_reason"]


def test_nothing_is_shown_after_a_call_that_was_cut() -> None:
    body = completion("length", tool_calls=[tool("a", "f", "{"), tool("b", "g", "{}")])
    assert ["f"] == [block["name"] for block in told(body)["content"]]


def test_what_has_to_choose_a_tool_and_chooses_none_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError, match="a tool call that cannot be read"):
        told(completion(content="well"), forced=ANY)
    for finish, stop in (("length", ()), ("stop", ("x",))):
        assert [] == told(completion(finish, content="well"), forced=ANY, stop=stop)["content"]


def test_calls_of_every_shape_are_taken() -> None:
    content = told(
        completion(tool_calls=[tool("a", "f", {"x": 1}), tool("a", "f", "{}"), tool(None, "g", "{}")],
                   function_call={"name": "h", "arguments": '{"y":2}'})
    )["content"]  # fmt: skip
    assert [("toolu_a", {"x": 1}), ("toolu_1_1", {}), ("toolu_1_2", {}), ("toolu_1_3", {"y": 2})] == [
        (block["id"], block["input"]) for block in content
    ]


def test_a_call_without_a_name_is_refused_if_it_says_something() -> None:
    assert [] == told(completion(tool_calls=[{"id": "a"}]))["content"]
    with pytest.raises(msgspec.DecodeError):
        told(completion(tool_calls=[{"id": "a", "function": {"arguments": "{}"}}]))


def test_a_refusal_is_text_and_the_reason() -> None:
    refused = told(completion(content=None, refusal="I cannot."))
    assert ("I cannot.", "refusal") == (refused["content"][0]["text"], refused["stop_reason"])
    assert "refusal" == told(completion("content_filter", content="a"))["stop_reason"]


def test_thinking_that_is_omitted_travels_in_its_signature() -> None:
    thinking, said = told(completion(reasoning="t", content="a"), omit_thinking=True)["content"]
    assert ("", "t", "a") == (thinking["thinking"], unseal(thinking["signature"]), said["text"])


def test_an_answer_that_nobody_wanted_is_empty() -> None:
    empty = told(completion("length", content="a", tool_calls=[tool("a", "f", "{")]), silent=True)
    assert ([], "max_tokens", 0) == (empty["content"], empty["stop_reason"], empty["usage"]["output_tokens"])


def test_the_first_choice_is_taken() -> None:
    choices = [{"finish_reason": "stop", "index": at, "message": {"content": str(at)}} for at in (1, 0, 2)]
    assert "0" == told(json.dumps({"choices": choices}).encode())["content"][0]["text"]


def test_unknown_counts_are_left_out() -> None:
    assert {"output_tokens": 0} == told(completion(content="a", more={"usage": None}))["usage"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"<html>",
        b"[" * 5000,
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"choices":[{}]}',
        b'{"error":{"message":"x"}}',
        completion(None, content="a"),
        completion("abort", content="a"),
        completion(content=3),
        completion(content="a").replace(b'"a"', b'"\xff"'),
    ],
)
def test_what_is_no_finished_completion_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        told(body)


@steady
@given(body=st.binary(max_size=200))
def test_any_bytes_raise_nothing_else(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        told(body)


_texts = st.none() | st.text('ab"ü\n', max_size=5)
_calls = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "x:0"]), st.sampled_from(["f", "g"]), st.sampled_from(["", "{}", '{"x":"}"}'])
    ),
    max_size=3,
)


@steady
@given(
    thinking=_texts,
    content=_texts,
    calls=_calls,
    finish=st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    omit=st.booleans(),
)
def test_an_answer_is_the_same_plain_and_streamed(
    thinking: str | None, content: str | None, calls: list[tuple[str, str, str]], finish: str, omit: bool
) -> None:
    body = completion(finish, content=content, reasoning_content=thinking, tool_calls=[tool(*it) for it in calls])
    plain = told(body, omit_thinking=omit)
    stream = ChatToMessages(model="m", instance_id="i", message_id="msg_1", omit_thinking=omit)
    pieces = [call(at, *it) for at, it in enumerate(calls)]
    counted = usage(33, 7, cached_tokens=24)
    streamed = check(fed(stream, thought(thinking or ""), text(content or ""), *pieces, chunk(finish), counted))
    assert plain["stop_reason"] == streamed.stop_reason
    assert plain["usage"] == streamed.usage
    assert "".join(block.get("text", "") for block in plain["content"]) == streamed.text
    assert "".join(block.get("thinking", "") for block in plain["content"]) == streamed.thinking
    tools = [(block["id"], block["name"], block["input"]) for block in plain["content"] if block["type"] == "tool_use"]
    assert tools == [(it.id, it.name, it.input) for it in streamed.tools]


@steady
@given(
    content=st.sampled_from(["", " ", "\n", "{", '{"x":', '{"x":1}', '{"x":1} ', '{"name":"f","arguments":{"x":1}}']),
    thinking=_texts,
    finish=st.sampled_from(["stop", "length"]),
    forced=st.sampled_from(["f", ANY]),
    stopped=st.sampled_from([None, "x", "y"]),
    single=st.booleans(),
)
def test_a_forced_call_is_the_same_plain_and_streamed(
    content: str, thinking: str | None, finish: str, forced: str, stopped: str | None, *, single: bool
) -> None:
    """With and without its blocks: max_tokens 1 is the case that clients find."""
    more = {"__verbose": {"stop_type": "word", "stopping_word": stopped}} if stopped else {}
    options: dict[str, Any] = {"forced": forced, "stop": ("x",), "single": single}
    stream = ChatToMessages(model="m", instance_id="i", message_id="msg_1", **options)
    counted = usage(33, 7, cached_tokens=24)
    out = fed(stream, thought(thinking or ""), *map(text, content), chunk(finish, more=more), counted)
    body = completion(finish, content=content, reasoning_content=thinking, more=more)
    if stream.error:
        with pytest.raises(msgspec.DecodeError):
            told(body, **options)
        return
    plain, streamed = told(body, **options), check(out)
    assert (plain["stop_reason"], plain["stop_sequence"]) == (streamed.stop_reason, streamed.stop_sequence)
    assert "".join(block.get("thinking", "") for block in plain["content"]) == streamed.thinking
    tools = [(block["id"], block["name"], block["input"]) for block in plain["content"] if block["type"] == "tool_use"]
    assert tools == [(it.id, it.name, it.input) for it in streamed.tools]
    if forced == "f" and (finish == "length" or stopped == "x"):
        assert ["f"] == [it.name for it in streamed.tools]


@pytest.mark.parametrize(("finish", "stopped"), [("length", None), ("stop", "x")])
def test_a_forced_call_that_was_cut_before_its_arguments_is_shown_empty(finish: str, stopped: str | None) -> None:
    """llama-server's stream holds back the fence with which a model may begin, its plain answer does not."""
    more = {"__verbose": STOPPED} if stopped else {}
    stream = ChatToMessages(model="m", instance_id="i", message_id="msg_1", forced="f", stop=("x",))
    streamed = check(fed(stream, chunk(content=None, role="assistant"), chunk(finish, more=more), usage(33, 1)))
    why = "stop_sequence" if stopped else "max_tokens"
    assert (why, [("f", {})]) == (streamed.stop_reason, [(it.name, it.input) for it in streamed.tools])
    for content in ("", "```", "```json\n"):
        plain = told(completion(finish, content=content, more=more), forced="f", stop=("x",))
        expected = {"type": "tool_use", "id": streamed.tools[0].id, "name": "f", "input": {}}
        assert (why, stopped, [expected]) == (plain["stop_reason"], plain["stop_sequence"], plain["content"])
