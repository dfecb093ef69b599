import itertools
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid, UpstreamAnswered, UpstreamBroke
from router.translate.answer import AnswerStream, Usage
from router.translate.forced import ANY
from router.translate.order import TABLE, Do, Kind, State
from router.translate.stream import ChatToMessages
from router.wire.anthropic import error_event
from router.wire.signature import unseal
from router.wire.sse import MAX_EVENT_BYTES, EventTooLarge
from tests.rig.legality import Illegal, Tool, check
from tests.translate.chunks import DONE, broken, call, chunk, event, fed, part, said, text, thought, usage
from tests.wire.every_way import every_way

steady = settings(derandomize=True, max_examples=200, deadline=None)
CAPTURES = Path(__file__).parent.parent / "captures" / "chat"
NOT_OBJECT = "instance i sent tool arguments that are no JSON object"
NOT_WHOLE = "instance i ended its answer before it was whole"
WENT_ON = "instance i went on after the end of its answer"
STOP, TOOLS, LENGTH = chunk("stop"), chunk("tool_calls"), chunk("length")
WORD = chunk("stop", more={"__verbose": {"stop_type": "word", "stopping_word": "x"}})
PROGRESS = {"prompt_progress": {"total": 33, "cache": 24, "processed": 24, "time_ms": 0}}


def new(**options: Any) -> ChatToMessages:
    return ChatToMessages(**{"model": "m", "instance_id": "i", "message_id": "msg_1", **options})


class Told(msgspec.Struct, frozen=True):
    """All that can be known of a stream after its end."""

    out: bytes
    committed: bool
    ended: bool
    error: str | None
    events: int
    usage: Usage
    stop_reason: str


def told(pieces: tuple[bytes, ...], **options: Any) -> Told:
    stream = new(**options)
    out = fed(stream, *pieces)
    error = None if stream.error is None else stream.error.message
    return Told(out, stream.committed, stream.ended, error, stream.events, stream.usage, stream.stop_reason)


def blocks(out: bytes) -> list[str]:
    return [it.data["content_block"]["type"] for it in check(out).events if it.name == "content_block_start"]


# ---------------------------------------------------------------- real transcripts

WEATHER = {"city": "Paris"}
REAL: dict[str, tuple[list[str], str, str | None, dict[str, int]]] = {
    "plain": (["text"], "max_tokens", None, {"input_tokens": 11, "cache_read_input_tokens": 0, "output_tokens": 12}),
    "many_bytes": (["text"], "end_turn", None, {"input_tokens": 18, "cache_read_input_tokens": 3}),
    "thinking": (["thinking", "text"], "end_turn", None, {"input_tokens": 16, "output_tokens": 19}),
    "stop_word": (["text"], "stop_sequence", ".", {"input_tokens": 8, "cache_read_input_tokens": 3}),
    "text_and_call": (["text", "tool_use"], "tool_use", None, {"input_tokens": 416, "output_tokens": 35}),
    "two_calls": (["tool_use", "tool_use"], "tool_use", None, {"input_tokens": 393, "output_tokens": 62}),
    "call_cut": (["text", "tool_use"], "max_tokens", None, {"input_tokens": 416, "output_tokens": 25}),
}


@pytest.mark.parametrize("name", REAL)
def test_what_a_real_server_streams_is_a_legal_message(name: str) -> None:
    out = told(((CAPTURES / f"{name}.sse").read_bytes(),), stop=("!", ",", ".")).out
    message = check(out)
    kinds, why, word, counted = REAL[name]
    assert (kinds, why, word) == (blocks(out), message.stop_reason, message.stop_sequence)
    assert counted == {key: message.usage[key] for key in counted}
    start = message.events[0].data["message"]["usage"]
    assert {**start, "output_tokens": message.usage["output_tokens"]} == message.usage, "exact from the start"


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.sse")), ids=lambda path: path.stem)
def test_a_real_stream_is_the_same_however_its_bytes_come(path: Path) -> None:
    data = path.read_bytes()
    expected = told((data,))
    events = tuple(piece + b"\n\n" for piece in data.split(b"\n\n") if piece)
    assert expected == told(events)
    assert expected == told(tuple(data[at : at + 1] for at in range(len(data))))
    for cut in range(0, len(data) + 1, 3):
        assert expected == told((data[:cut], data[cut:])), cut


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.sse")), ids=lambda path: path.stem)
def test_a_real_stream_cut_before_its_finish_never_ends(path: Path) -> None:
    data = path.read_bytes()
    finish = data.find(b'{"finish_reason":"')
    # The two that break off have no finish that counts.
    whole = len(data) if path.stem in {"call_from_prefill", "error"} else data.find(b"\n\n", finish) + 2
    for cut in range(0, len(data), 5):
        ends = told((data[:cut],))
        assert ends.ended == (cut >= whole), cut
        assert ends.ended or ends.error
        assert ends.ended or b"message_delta" not in ends.out


def test_real_text_thinking_and_calls_arrive_whole() -> None:
    assert "Grüße, 日本 😀" == check(told(((CAPTURES / "many_bytes.sse").read_bytes(),)).out).text
    message = check(told(((CAPTURES / "thinking.sse").read_bytes(),)).out)
    assert ("The user wants a hello.\n", "\nHello there!") == (message.thinking, message.text)
    calls = check(told(((CAPTURES / "two_calls.sse").read_bytes(),)).out).tools
    assert [("get_weather", "Paris"), ("get_weather", "Berlin")] == [(it.name, it.input["city"]) for it in calls]


def test_a_call_that_a_prefill_began_breaks_off_as_its_arguments_are_half() -> None:
    """llama-server gives its name, and of its arguments only what came after the prefill."""
    stream = told(((CAPTURES / "call_from_prefill.sse").read_bytes(),))
    assert (NOT_OBJECT, False) == (stream.error, stream.ended)


def test_a_real_error_in_the_stream_is_told() -> None:
    assert "does not match the expected" in str(told(((CAPTURES / "error.sse").read_bytes(),)).error)


# ---------------------------------------------------------------- the table, cell by cell

INTO: dict[State, tuple[bytes, ...]] = {
    State.EMPTY: (),
    State.THINKING: (thought("t1"),),
    State.TEXT: (text("a1"),),
    State.TOOL: (call(0, "c0", "f", '{"x":'),),
    State.CLOSING: (text("a1"), STOP),
    State.ENDED: (text("a1"), STOP, DONE),
}
COMES: dict[Kind, bytes] = {
    Kind.REASONING: thought("t2"),
    Kind.TEXT: text("a2"),
    Kind.TOOL_FIRST: call(1, "c1", "g", "{}"),
    Kind.TOOL_MORE: call(0, arguments="1}"),
    Kind.FINISH: STOP,
    Kind.FACTS: usage(9, 4, cached_tokens=2),
    Kind.DONE: DONE,
    Kind.END: b"",
}
# A tool block that is complete: what closes it may come.
WHOLE_CALL = (call(0, "c0", "f", '{"x":1}'),)
WHAT = {
    **{(state, Kind.REASONING): "thinking:t2" for state in (State.EMPTY, State.TEXT, State.TOOL)},
    **{(state, Kind.TEXT): "text:a2" for state in (State.EMPTY, State.THINKING, State.TOOL)},
    **{(state, Kind.TOOL_FIRST): "tool_use:{}" for state in (State.EMPTY, State.THINKING, State.TEXT, State.TOOL)},
    (State.THINKING, Kind.REASONING): "thinking:t1t2",
    (State.TEXT, Kind.TEXT): "text:a1a2",
    (State.TOOL, Kind.TOOL_MORE): 'tool_use:{"x":1}',
}


def shown(out: bytes) -> list[str]:
    """Every block so far as kind:content."""
    found: list[list[str]] = []
    for raw in out.split(b"\n\n")[:-1]:
        data = json.loads(raw.split(b"\ndata: ", 1)[1])
        if data["type"] == "content_block_start":
            found.append([data["content_block"]["type"], ""])
        elif data["type"] == "content_block_delta":
            found[-1][1] += "".join(data["delta"].get(key, "") for key in ("text", "thinking", "partial_json"))
    return [":".join(block) for block in found]


# Not in it: arguments for a call whose block was opened, where none was.
CELLS = [cell for cell in itertools.product(State, Kind) if cell != (State.EMPTY, Kind.TOOL_MORE)]


@pytest.mark.parametrize(("state", "kind"), CELLS, ids=lambda it: it.name)
def test_every_cell_of_the_table_is_what_happens(state: State, kind: Kind) -> None:
    stream = new()
    do = TABLE[state][kind]
    into = INTO[state]
    if state is State.TOOL and kind is not Kind.TOOL_MORE:
        into = WHOLE_CALL
    more = COMES[kind]
    if kind is Kind.TOOL_MORE and state not in {State.EMPTY, State.TOOL}:
        into = (*WHOLE_CALL, *into)  # arguments for a call whose block is closed
    before = b"".join([stream.feed(piece) for piece in into])
    assert state is stream._state
    after = stream.feed(more) if kind is not Kind.END else stream.finish()
    match do:
        case Do.FAIL:
            assert isinstance(stream.error, UpstreamBroke)
        case Do.ADD | Do.OPEN | Do.QUEUE:
            assert stream.error is None
            again = shown(before + after)
            assert WHAT[state, kind] == again[-1]
            assert len(shown(before)) + (do is not Do.ADD) == len(again)
        case Do.FINISH:
            assert stream._state is State.CLOSING
        case Do.AGAIN | Do.KEEP:
            assert (stream._state, stream.error, after) == (state, None, b"")
        case Do.SAY_END:
            assert stream.ended
        case Do.IGNORE:
            assert (stream.ended, stream.error, after) == (True, None, b"")


def test_a_second_finish_that_says_otherwise_breaks_off() -> None:
    assert "instance i gave two reasons for its end" == broken(text("a"), STOP, LENGTH)


@pytest.mark.parametrize("after", [text("b"), thought("b"), call(0, "c", "f", "{}")])
def test_content_after_the_finish_breaks_off(after: bytes) -> None:
    assert WENT_ON == broken(text("a"), STOP, after)


@pytest.mark.parametrize("nothing", [chunk(), chunk(role="assistant", content=None), chunk(content="", tool_calls=[])])
@pytest.mark.parametrize("state", [State.EMPTY, State.THINKING, State.TEXT, State.CLOSING])
def test_empty_deltas_are_nothing_anywhere(state: State, nothing: bytes) -> None:
    stream = new()
    fed_bytes = b"".join([stream.feed(piece) for piece in INTO[state]])
    assert (b"", state, None) == (stream.feed(nothing), stream._state, stream.error), fed_bytes


# ---------------------------------------------------------------- byte for byte

EXACT_IN = (
    chunk(more=PROGRESS, role="assistant", content=None)
    + thought("hm")
    + text('Grüße "x"\n')
    + call(0, "abc", "Bash", '{"com')
    + call(0, arguments='mand":1}')
    + TOOLS
    + usage(33, 7, cached_tokens=24)
    + DONE
)
EXACT_OUT = """event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"my \\"coder\\"","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"cache_creation_input_tokens":0,"cache_read_input_tokens":24,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":""}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Grüße \\"x\\"\\n"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_abc","name":"Bash","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\\"com"}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"mand\\":1}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":9,"cache_creation_input_tokens":0,"cache_read_input_tokens":24,"output_tokens":7}}

event: message_stop
data: {"type":"message_stop"}

""".encode()  # noqa: E501 - events are one line each


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_an_answer_byte_for_byte_however_its_bytes_come(line_end: bytes) -> None:
    expected = Told(EXACT_OUT, True, True, None, 4, Usage(9, 24, 7), "tool_use")
    for pieces in every_way(EXACT_IN.replace(b"\n", line_end)):
        assert expected == told(pieces, model='my "coder"'), pieces


TRANSCRIPTS: dict[str, bytes] = {
    "an error": text("a") + event({"error": {"message": "no"}}) + text("b"),
    "no json": text("a") + b"data: {what\n\n" + text("b"),
    "calls mixed": call(0, "a", "f", "{")
    + call(1, "b", "g", "{")
    + call(0, arguments="}")
    + call(1, arguments="}")
    + TOOLS,
    "comments": b":\n\n" + text("a") + b": hi\n\n" + STOP + b":\n\n" + DONE,
    "no done": text("a") + STOP,
    "after the end": text("a") + STOP + DONE + text("b") + b"data: {",
    "bad arguments": call(0, "a", "f", "{}") + call(0, arguments="{}x") + TOOLS + DONE,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_a_stream_is_the_same_however_its_bytes_come(name: str) -> None:
    data = TRANSCRIPTS[name]
    expected = told((data,))
    for pieces in every_way(data):
        assert expected == told(pieces), pieces


# ---------------------------------------------------------------- section 11's traps, those that concern answers


def test_trap_1_arguments_beside_the_name_and_on_the_finish_are_kept() -> None:
    message = said(call(0, "a", "f", '{"x"'), chunk("tool_calls", tool_calls=[part(0, arguments=":1}")]))
    assert (Tool("toolu_a", "f", {"x": 1}),) == message.tools
    message = said(chunk("tool_calls", tool_calls=[part(0, "a", "f", '{"x":1}')]))
    assert (Tool("toolu_a", "f", {"x": 1}),) == message.tools


def test_trap_2_the_first_characters_of_arguments_are_kept_when_the_name_comes_late() -> None:
    message = said(call(0, "a", None, '{"'), call(0, arguments='x":'), call(0, name="f", arguments="1}"), TOOLS)
    assert (Tool("toolu_a", "f", {"x": 1}),) == message.tools


def test_trap_3_empty_tool_calls_beside_text_are_text() -> None:
    assert "ab" == said(chunk(content="a", tool_calls=[]), chunk(content="b", tool_calls=[]), STOP).text


def test_trap_4_a_chunk_that_opens_a_block_is_also_its_first_delta() -> None:
    message = said(
        chunk(role="assistant", content="a", reasoning_content="t", tool_calls=[part(0, "c", "f", "{}")]), TOOLS
    )
    assert ("a", "t", (Tool("toolu_c", "f", {}),)) == (message.text, message.thinking, message.tools)
    kinds = [it.data["content_block"]["type"] for it in message.events if it.name == "content_block_start"]
    assert ["thinking", "text", "tool_use"] == kinds


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call", "eos"])
def test_trap_5_an_answer_with_a_call_stops_for_the_tool(finish: str) -> None:
    assert "tool_use" == said(text("a"), call(0, "c", "f", "{}"), chunk(finish)).stop_reason


def test_trap_6_no_empty_block_is_made() -> None:
    message = said(chunk(role="assistant", content=""), chunk(content="", reasoning_content=""), STOP)
    assert ["message_start", "message_delta", "message_stop"] == [it.name for it in message.events]
    assert "end_turn" == message.stop_reason


def test_trap_7_a_call_that_is_told_twice_is_one_block() -> None:
    whole = [part(0, "a", "f", '{"x":1}')]
    message = said(chunk(tool_calls=whole), chunk("tool_calls", tool_calls=whole), DONE)
    assert (Tool("toolu_a", "f", {"x": 1}),) == message.tools
    assert () == said(chunk(content="a", tool_calls=[{}]), chunk(tool_calls=[part(0)]), STOP).tools


def test_trap_8_the_start_knows_the_input_from_progress_usage_or_a_guess() -> None:
    def start(*pieces: bytes, **options: Any) -> Any:
        return said(*pieces, text("a"), STOP, **options).events[0].data["message"]["usage"]

    known = {"input_tokens": 9, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 24, "output_tokens": 0}
    assert known == start(chunk(more=PROGRESS), guess_tokens=500)
    continuous = {"usage": {"prompt_tokens": 33, "completion_tokens": 1}}
    assert {"input_tokens": 33, "cache_creation_input_tokens": 0, "output_tokens": 0} == start(
        chunk(more=continuous, role="assistant"), guess_tokens=500
    )
    assert {"input_tokens": 500, "output_tokens": 0} == start(guess_tokens=500)


def test_trap_9_input_tokens_are_without_the_cached_ones_once() -> None:
    counted = said(text("a"), STOP, usage(100, 5, cached_tokens=60, cache_write_tokens=10)).usage
    assert {
        "input_tokens": 30,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 60,
        "output_tokens": 5,
    } == counted


def test_trap_9_what_nobody_said_is_left_out_of_the_end() -> None:
    message = said(text("a"), text("b"), STOP, guess_tokens=7)
    assert {"output_tokens": 2} == message.events[-2].data["usage"]


def test_trap_10_a_failure_is_never_a_well_formed_end() -> None:
    for pieces in [(), (text("a"),), (thought("t"),), (call(0, "a", "f", "{}"),), (usage(3, 0),)]:
        assert NOT_WHOLE == broken(*pieces)
        assert NOT_WHOLE == broken(*pieces, DONE)
    for word in ("error", "abort"):
        assert "instance i broke the answer off" == broken(text("a"), chunk(word))


@pytest.mark.parametrize(
    "error",
    [
        event({"error": {"message": "Out of memory", "type": "server_error", "code": None, "param": None}}),
        event({"error": "Out of memory"}),
        event({"code": 500, "message": "Out of memory", "type": "server_error"}),
        event(
            {"object": "error", "message": "Out of memory", "type": "InternalServerError", "param": None, "code": 500}
        ),
        event({"id": "x", "choices": [], "error": {"message": "Out of memory", "code": 502}}),
        b"event: error\n" + event({"message": "Out of memory"}),
        b'error: {"code":500,"message":"Out of memory"}\n\n',
    ],
)
def test_trap_10_an_error_inside_the_stream_is_told_in_all_its_shapes(error: bytes) -> None:
    assert "instance i broke the answer off: Out of memory" == broken(text("a"), error, text("b"), STOP, DONE)
    assert "instance i broke the answer off: Out of memory" == broken(error)


def test_trap_11_thinking_is_signed_with_an_empty_string() -> None:
    message = said(thought("t"), text("a"), STOP)
    assert {"type": "thinking", "thinking": "", "signature": ""} == message.events[1].data["content_block"]
    assert {"type": "signature_delta", "signature": ""} == message.events[3].data["delta"]


def test_trap_16_mixed_calls_are_told_apart_and_come_in_order() -> None:
    message = said(
        chunk(tool_calls=[part(0, "a", "f", ""), part(1, "b", "g", "")]),
        call(0, arguments='{"x"'), call(1, arguments='{"y"'), call(2, "c", "h", "{}"),
        call(0, arguments=":1}"), call(1, arguments=":2}"), TOOLS,
    )  # fmt: skip
    assert (Tool("toolu_a", "f", {"x": 1}), Tool("toolu_b", "g", {"y": 2}), Tool("toolu_c", "h", {})) == message.tools


def test_trap_16_snapshots_that_grow_break_off_rather_than_mix() -> None:
    assert NOT_OBJECT == broken(call(0, "a", "f", '{"x"'), call(0, arguments='{"x":1}'), TOOLS, DONE)


def test_trap_19_one_index_for_all_calls() -> None:
    message = said(call(0, "a", "f", '{"x":1}'), call(0, "b", "f", '{"x":1}'), call(0, "c", "g", ""), TOOLS)
    assert [("toolu_a", {"x": 1}), ("toolu_b", {"x": 1}), ("toolu_c", {})] == [
        (it.id, it.input) for it in message.tools
    ]


def test_trap_19_one_index_and_no_ids() -> None:
    message = said(call(0, None, "f", '{"x":1}'), call(0, None, "g", "{}"), TOOLS)
    assert [("toolu_1_0", "f"), ("toolu_1_1", "g")] == [(it.id, it.name) for it in message.tools]


def test_trap_19_a_fresh_id_with_every_fragment_is_one_call() -> None:
    message = said(call(0, "a", "f", '{"x"'), call(0, "b", None, ":1"), call(0, "c", "f", "}"), TOOLS)
    assert (Tool("toolu_a", "f", {"x": 1}),) == message.tools


def test_trap_19_no_index_at_all() -> None:
    message = said(call(None, "a", "f", '{"x":1}'), call(None, "b", "g", '{"y'), call(None, None, None, '":2}'), TOOLS)
    assert (Tool("toolu_a", "f", {"x": 1}), Tool("toolu_b", "g", {"y": 2})) == message.tools


# ---------------------------------------------------------------- tool calls


def test_a_call_is_streamed_as_it_comes_and_the_next_from_when_it_is_whole() -> None:
    stream = new()
    assert b'"partial_json":"{"' in stream.feed(call(0, "a", "f", "{"))
    assert b"" == stream.feed(call(1, "b", "g", "{"))
    out = stream.feed(call(0, arguments="}"))
    assert out.index(b'"index":1') > out.index(b"content_block_stop")
    assert b'"partial_json":"}"' in stream.feed(call(1, arguments="}"))


def test_a_legacy_function_call_is_a_call() -> None:
    message = said(
        chunk(function_call={"name": "f", "arguments": ""}), chunk(function_call={"arguments": '{"x":1}'}),
        chunk("function_call"),
    )  # fmt: skip
    assert (Tool("toolu_1_0", "f", {"x": 1}),) == message.tools
    assert "tool_use" == message.stop_reason


def test_arguments_that_come_as_an_object_are_taken() -> None:
    assert {"x": [1, 2.5]} == said(call(0, "a", "f", {"x": [1, 2.5]}), TOOLS).tools[0].input


@pytest.mark.parametrize("blank", ["", " ", "\n\t "])
def test_a_call_without_arguments_has_an_empty_input(blank: str) -> None:
    assert {} == said(call(0, "a", "f", blank), call(0, arguments=blank), TOOLS).tools[0].input
    assert {"x": 1} == said(call(0, "a", "f"), call(0, arguments=blank), call(0, arguments='{"x":1}'), TOOLS).tools[
        0
    ].input


def test_blanks_before_arguments_are_held_until_the_arguments_come() -> None:
    stream = new()
    assert ["tool_use:"] == shown(stream.feed(call(0, "a", "f", " ")))
    assert b"" == stream.feed(call(0, arguments="\n"))
    assert rb'"partial_json":" \n{"' in stream.feed(call(0, arguments="{"))


@pytest.mark.parametrize("arguments", ["null", '"Paris"}', "[]", "{}{}", "{}x", "{x:1}", '{"x":1', '{"x":"\n"}', "}"])
def test_arguments_that_are_no_object_break_off(arguments: str) -> None:
    assert NOT_OBJECT == broken(call(0, "a", "f", arguments), TOOLS, DONE)
    assert NOT_OBJECT == broken(call(0, "a", "f"), *[call(0, arguments=it) for it in arguments], TOOLS, DONE)
    assert NOT_OBJECT == broken(call(0, "a", "f", arguments), text("b"), STOP, DONE)
    assert NOT_OBJECT == broken(
        call(0, "z", "e", '{"x"'), call(1, "a", "f", arguments), call(0, arguments=":1}"), TOOLS
    )


def test_arguments_for_a_call_that_is_over_break_off() -> None:
    over = "instance i added to a tool call that was over"
    assert over == broken(call(0, "a", "f", "{}"), text("b"), call(0, arguments='{"x":1}'))
    assert over == broken(call(0, "a", "f", "{}"), call(1, "b", "g", "{"), call(0, arguments='{"x":1}'))


def test_only_a_cut_answer_may_end_inside_arguments() -> None:
    message = said(call(0, "a", "f", '{"x"'), LENGTH, usage(3, 4))
    assert ("max_tokens", "a") == (message.stop_reason, message.tools[0].id.removeprefix("toolu_"))
    assert NOT_OBJECT == broken(call(0, "a", "f", "{x:1}"), LENGTH)
    for finish in ("stop", "tool_calls", "content_filter"):
        assert NOT_OBJECT == broken(call(0, "a", "f", '{"x"'), chunk(finish))


def test_a_cut_answer_shows_no_call_after_the_one_that_was_cut() -> None:
    message = said(call(0, "a", "f", "{"), call(1, "b", "g", "{"), call(2, "c", "h", "{}"), LENGTH, usage(3, 4))
    assert ["toolu_a"] == [it.id for it in message.tools]


def test_a_call_that_never_gets_its_name() -> None:
    assert "instance i sent a tool call without a name" == broken(call(0, "a", None, "{}"), TOOLS, DONE)
    assert () == said(call(0, "a"), STOP).tools


def test_a_call_waits_for_the_name_of_the_one_before() -> None:
    message = said(call(0, "a"), call(1, "b", "g", "{}"), call(0, name="f", arguments='{"x":1}'), TOOLS)
    assert ["f", "g"] == [it.name for it in message.tools]


def test_an_id_that_repeats_is_replaced() -> None:
    assert ["toolu_0", "toolu_1_1"] == [
        it.id for it in said(call(0, "0", "f", "{}"), call(1, "0", "f", "{}"), TOOLS).tools
    ]


# ---------------------------------------------------------------- reasons to stop


@pytest.mark.parametrize(
    ("finish", "why"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "end_turn"), ("content_filter", "refusal")],
)
def test_the_reason_to_stop_is_told(finish: str, why: str) -> None:
    stream = new()
    assert why == check(fed(stream, text("a"), chunk(finish), usage(3, 1))).stop_reason
    assert why == stream.stop_reason


@pytest.mark.parametrize("field", ["stop_reason", "matched_stop"])
def test_a_stop_word_is_named_if_it_is_the_callers(field: str) -> None:
    finish = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", field: "END"}]})
    message = said(text("a"), finish, usage(3, 1), stop=("\n", "END"))
    assert ("stop_sequence", "END") == (message.stop_reason, message.stop_sequence)
    assert "end_turn" == said(text("a"), finish, usage(3, 1), stop=("\n",)).stop_reason
    assert "end_turn" == said(text("a"), finish, usage(3, 1)).stop_reason


def test_a_stop_word_inside_arguments_is_a_cut() -> None:
    finish = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "END"}]})
    message = said(call(0, "a", "f", '{"x":"'), finish, usage(3, 1), stop=("END",))
    assert ("stop_sequence", "END") == (message.stop_reason, message.stop_sequence)


def test_a_token_number_is_no_stop_word() -> None:
    finish = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 151645}]})
    assert "end_turn" == said(text("a"), finish, stop=("151645",)).stop_reason


def test_a_refusal_is_text_and_the_reason() -> None:
    message = said(chunk(refusal="I can"), chunk(refusal="not."), STOP)
    assert ("I cannot.", "refusal") == (message.text, message.stop_reason)


# ---------------------------------------------------------------- when it begins, what it counts


def test_progress_alone_does_not_commit() -> None:
    stream = new()
    assert b"" == stream.feed(chunk(more=PROGRESS, role="assistant", content=None) + usage(33, 0))
    assert (False, 0) == (stream.committed, stream.events)
    assert stream.feed(text("a")).startswith(b"event: message_start\n")
    assert (True, 1) == (stream.committed, stream.events)


def test_an_answer_without_content_begins_with_its_finish() -> None:
    stream = new()
    assert stream.feed(STOP).startswith(b"event: message_start\n")
    assert stream.committed


def test_a_failure_before_content_leaves_the_answer_uncommitted() -> None:
    for piece in (DONE, chunk("abort"), event({"error": "x"}), b"data: x\n\n", call(0, "a", "f", "null")):
        stream = new()
        assert (b"", False) == (fed(stream, piece), stream.committed)
        assert stream.error


def test_events_are_the_chunks_that_carry_something() -> None:
    stream = new()
    fed(stream, chunk(more=PROGRESS), chunk(content="a", reasoning_content="t"), text(""), text("b"), STOP, usage(3, 9))
    assert 2 == stream.events


def test_usage_is_the_last_that_was_said() -> None:
    growing = [{"usage": {"prompt_tokens": 5, "completion_tokens": count}} for count in (1, 2)]
    stream = new()
    message = check(fed(stream, *[chunk(more=it, content="a") for it in growing], STOP))
    assert (5, 2) == (message.usage["input_tokens"], message.usage["output_tokens"])
    assert Usage(5, None, 2) == stream.usage


def test_reasoning_tokens_are_a_detail_of_the_output() -> None:
    counted = {"prompt_tokens": 5, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}
    message = said(thought("t"), STOP, event({"choices": [], "usage": counted}))
    assert (9, {"thinking_tokens": 4}) == (message.usage["output_tokens"], message.usage["output_tokens_details"])


# ---------------------------------------------------------------- thinking omitted, no output wanted


def test_thinking_that_is_omitted_travels_in_its_signature() -> None:
    stream = new(omit_thinking=True)
    out = stream.feed(thought("let me "))
    assert b"content_block_start" in out
    assert b"thinking_delta" not in out
    assert b"" == stream.feed(thought("see"))
    out += fed(stream, text("a"), STOP, usage(3, 4))
    message = check(out)
    signatures = [it.data["delta"]["signature"] for it in message.events if b"signature_delta" in str(it).encode()]
    assert (["let me see"], "", "a") == ([unseal(it) for it in signatures], message.thinking, message.text)


def test_reasoning_is_thinking_under_either_name_and_once_under_both() -> None:
    pieces = (chunk(reasoning="a"), chunk(reasoning_content="b"), chunk(reasoning="c", reasoning_content="c"))
    assert "abc" == said(*pieces, chunk(reasoning="", content="d"), STOP).thinking


def test_each_omitted_block_has_its_own_thinking() -> None:
    message = said(thought("one"), text("a"), thought("two"), text("b"), STOP, omit_thinking=True)
    signed = [it.data["delta"].get("signature") for it in message.events if it.name == "content_block_delta"]
    assert ["one", "two"] == [unseal(it) for it in signed if it]


@pytest.mark.parametrize("piece", [text("a"), thought("t"), call(0, "a", "f", "{"), chunk(refusal="no")])
def test_an_answer_that_nobody_wanted_is_empty(piece: bytes) -> None:
    stream = new(silent=True)
    message = check(fed(stream, piece, LENGTH, usage(33, 1, cached_tokens=2), DONE))
    assert ["message_start", "message_delta", "message_stop"] == [it.name for it in message.events]
    assert ("max_tokens", 0, 31) == (message.stop_reason, message.usage["output_tokens"], message.usage["input_tokens"])
    assert (1, "max_tokens") == (stream.usage.output_tokens, stream.stop_reason)


# ---------------------------------------------------------------- what does not belong to it


def test_what_is_not_known_is_ignored() -> None:
    message = said(
        b": comment\n\n", b"id: 7\nretry: 1\n\n", b"event: ping\ndata: ping\n\n", b"data:\n\n", event({"type": "ping"}),
        b"event: message\n" + text("a"), event({"choices": [{"index": 1, "delta": {"content": "other"}}]}),
        event({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}), event({"choices": None, "new": {}}),
        b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"b"},"logprobs":{}}]}\n\n',
        chunk("stop", more={"error": None}), b"event: end\n" + DONE,
    )  # fmt: skip
    assert ("ab", "end_turn") == (message.text, message.stop_reason)


@pytest.mark.parametrize("bad", [b"data: {\n\n", b"data: [1]\n\n", b'data: {"choices":3}\n\n',
                                 b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'])  # fmt: skip
def test_what_is_no_chunk_breaks_off(bad: bytes) -> None:
    assert "instance i sent something that is no chat completion" == broken(text("a"), bad, text("b"), STOP, DONE)


def test_an_error_that_is_the_clients_is_the_clients() -> None:
    stream = new()
    fed(stream, event({"error": {"message": "bad role", "type": "BadRequestError", "param": None, "code": 400}}))
    assert isinstance(stream.error, RequestInvalid)
    stream = new()
    fed(stream, event({"error": {"message": "boom", "code": 503}}))
    assert isinstance(stream.error, UpstreamAnswered)
    assert stream.error.retryable


def test_an_event_without_end_is_refused() -> None:
    with pytest.raises(EventTooLarge):
        new().feed(b"data: {" + b"x" * (MAX_EVENT_BYTES + 1))


def test_it_is_an_answer_stream_whose_first_chunk_goes_the_long_way() -> None:
    stream: AnswerStream = new()
    assert stream.through(text("a") + b"\r\n", 0) is None
    assert "EMPTY" in repr(stream)


@pytest.mark.parametrize("name", sorted(path.name for path in CAPTURES.glob("*.sse")))
def test_the_short_way_says_what_the_long_way_says(name: str) -> None:
    events = [it + b"\n\n" for it in (CAPTURES / name).read_bytes().split(b"\n\n") if it]
    for options in ({}, {"omit_thinking": True}, {"silent": True}, {"forced": "look"}):
        short, long = new(**options), new(**options)
        went = 0
        for it in events:
            out = short.through(b"1a\r\n" + it + b"\r\n", 4)
            said = long.feed(it)
            if out is None:
                assert short.feed(it) == said
            else:
                went += 1
                assert out == b"%x\r\n%b\r\n" % (len(said), said)
        assert (short.events, short.ended, str(short.error)) == (long.events, long.ended, str(long.error))
        assert options or went or len(events) < 12 or b'"content":"' not in b"".join(events)


@pytest.mark.parametrize("options", [{}, {"omit_thinking": True}, {"silent": True}], ids=["shown", "omitted", "silent"])
@pytest.mark.parametrize("name", sorted(REAL))
def test_a_cut_before_the_finish_was_said_is_no_end(name: str, options: dict[str, Any]) -> None:
    data = (CAPTURES / f"{name}.sse").read_bytes()
    finish = re.search(rb'"finish_reason":"', data)
    assert finish
    said = data.index(b"\n\n", finish.start()) + 2
    for cut in range(len(data) + 1):
        stream = new(**options)
        out = stream.feed(data[:cut]) + stream.finish()
        assert stream.ended == (cut >= said)
        if stream.ended:
            check(out, comments=False)
        else:
            assert stream.error is not None
            assert b"message_stop" not in out
            check(out + error_event("api_error", "it broke", "req_1"))


def test_what_is_fed_after_the_end_or_an_error_is_ignored() -> None:
    for pieces in ((text("a"), STOP, DONE), (text("a"), event({"error": "x"}))):
        stream = new()
        fed(stream, *pieces)
        before = (stream.ended, stream.error, stream.events)
        assert b"" == fed(stream, text("b"), STOP, DONE)
        assert before == (stream.ended, stream.error, stream.events)


# ---------------------------------------------------------------- anything at all

_words = st.sampled_from(["", "a", "ü\n", '"', "{", "}", '{"x":', "1}", "{}", " ", "\\"])
_parts = st.builds(
    part,
    st.sampled_from([None, 0, 1, 2]),
    st.sampled_from([None, "", "a", "b", "functions.f:0"]),
    st.sampled_from([None, "", "f", "g"]),
    st.none() | _words,
)
_finishes = st.sampled_from(
    [None] * 9 + ["stop", "length", "tool_calls", "content_filter", "function_call", "odd", "abort"]
)
_deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": st.none() | _words,
        "reasoning_content": st.none() | _words,
        "reasoning": _words,
        "refusal": st.none() | _words,
        "tool_calls": st.none() | st.lists(_parts, max_size=3),
        "function_call": st.builds(lambda it: it["function"], _parts),
    },
)
_counts = st.integers(0, 40)
_pieces = st.one_of(
    st.builds(lambda delta, finish: chunk(finish, **delta), _deltas, _finishes),
    st.builds(text, _words),
    st.builds(lambda it: chunk(tool_calls=[it]), _parts),
    st.builds(lambda p, o, c: usage(p, o, cached_tokens=c), _counts, _counts, _counts),
    st.builds(lambda t, c: event({"choices": [], "prompt_progress": {"total": t, "cache": c}}), _counts, _counts),
    st.sampled_from([WORD, DONE, STOP, TOOLS, LENGTH, b":\n\n", b"data: {}\n\n"]),
)
_options = st.fixed_dictionaries(
    {
        "omit_thinking": st.booleans(),
        "silent": st.sampled_from([False] * 4 + [True]),
        "guess_tokens": _counts,
        "forced": st.sampled_from(["", "", "f", ANY]),
        "single": st.booleans(),
        "stop": st.sampled_from([(), ("x",)]),
    }
)


@settings(steady, max_examples=1000)
@given(pieces=st.lists(_pieces, max_size=12), options=_options, cuts=st.lists(st.integers(0, 3000), max_size=4))
def test_any_chunks_are_a_legal_answer_or_an_error_and_the_same_in_any_cut(
    pieces: list[bytes], options: dict[str, Any], cuts: list[int]
) -> None:
    whole = told(tuple(pieces), **options)
    data = b"".join(pieces)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert whole == told(tuple(data[one:two] for one, two in itertools.pairwise(edges)), **options)
    assert whole.ended == (whole.error is None)
    if whole.ended:
        known = whole.usage.input_tokens is not None
        message = check(whole.out, "exact" if known else "native", comments=False)
        assert whole.stop_reason == message.stop_reason
    elif whole.out:
        with pytest.raises(Illegal, match="ends without message_stop"):
            check(whole.out)


_said = st.lists(st.text('ab"\\\nü😀', min_size=1, max_size=4), min_size=1, max_size=4)
_objects = st.dictionaries(st.text("xy}", max_size=3), st.text('"\\{}[]ü', max_size=6) | st.lists(_counts), max_size=2)
_sections = st.one_of(
    st.tuples(st.just("thinking"), _said),
    st.tuples(st.just("text"), _said),
    st.tuples(st.just("calls"), st.lists(_objects, min_size=1, max_size=3)),
)


def mixed(data: st.DataObject, first: int, objects: list[dict[str, Any]]) -> list[bytes]:
    """Calls whose fragments are mixed in any way that keeps each call's own order."""
    left = {}
    for index, value in enumerate(objects, first):
        whole = json.dumps(value, ensure_ascii=False)
        cut = data.draw(st.integers(0, len(whole)))
        left[index] = [part(index, f"c{index}", f"f{index}", whole[:cut]), part(index, arguments=whole[cut:])]
    order = data.draw(st.permutations([index for index in left for _ in range(2)]))
    heads = sorted({index: order.index(index) for index in left}, key=order.index)
    renamed = dict(zip(heads, left, strict=True))  # servers number calls as they begin
    return [chunk(tool_calls=[left[renamed[index]].pop(0)]) for index in order]


@settings(steady, max_examples=400)
@given(
    data=st.data(), sections=st.lists(_sections, max_size=5), finish=st.sampled_from(["stop", "tool_calls", "length"])
)
def test_any_answer_arrives_whole_and_in_order(
    data: st.DataObject, sections: list[tuple[str, list[Any]]], finish: str
) -> None:
    pieces: list[bytes] = []
    objects: list[dict[str, Any]] = []
    for kind, content in sections:
        if kind == "calls":
            pieces += mixed(data, len(objects), content)
            objects += content
        else:
            pieces += [text(it) if kind == "text" else thought(it) for it in content]
    message = said(*pieces, chunk(finish), usage(33, 7, cached_tokens=24), DONE)
    assert "".join(word for kind, words in sections if kind == "text" for word in words) == message.text
    assert "".join(word for kind, words in sections if kind == "thinking" for word in words) == message.thinking
    assert [(f"toolu_c{at}", f"f{at}", it) for at, it in enumerate(objects)] == [
        (it.id, it.name, it.input) for it in message.tools
    ]
    expected = "max_tokens" if finish == "length" else "tool_use" if objects else "end_turn"
    assert (expected, 7, 24) == (
        message.stop_reason,
        message.usage["output_tokens"],
        message.usage["cache_read_input_tokens"],
    )


@steady
@given(data=st.binary(max_size=300), before=st.lists(_pieces, max_size=3))
def test_any_bytes_raise_nothing_and_end_nothing(data: bytes, before: list[bytes]) -> None:
    opened = [text("a"), *before] if not any(b"finish_reason" in it for it in before) else [text("a")]
    stream = new()
    fed(stream, *opened, data)
    assert stream.error
    assert not stream.ended
