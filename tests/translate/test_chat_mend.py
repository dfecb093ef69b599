"""What other servers than llama-server send, made what clients' libraries read: through the whole stream."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.translate.chat_chunk import read_chunk
from router.translate.chat_forced import ForcedChat
from router.translate.chat_mend import Mender, call_id
from router.translate.chat_repair import ChatStream
from router.translate.forced import ANY
from tests.rig.legality_chat import Completion, check_chat
from tests.rig.openai_sdk import sdk_chunks, sdk_said
from tests.wire.every_way import every_way

OURS = {"id": "chatcmpl-1", "created": 7}
ENVELOPE = {"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "theirs"}
DONE = b"data: [DONE]\n\n"
LOOK = ForcedChat("look", b"{}")
ROLE = {"role": "assistant", "content": None}
Json = dict[str, Any]


def chunk(delta: Json | None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({**ENVELOPE, "choices": [choice], **more})


def event(data: Json) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def part(index: int | None = 0, id_: str | None = None, name: str | None = None, arguments: Any = None) -> Json:
    function = {"name": name, "arguments": arguments}
    whole: Json = {"index": index, "id": id_, "type": "function" if name else None}
    whole["function"] = {key: value for key, value in function.items() if value is not None}
    return {key: value for key, value in whole.items() if value is not None}


def calls(*parts: Json) -> bytes:
    return chunk({"tool_calls": list(parts)})


def stream_(forced: ForcedChat | None = None) -> ChatStream:
    return ChatStream(
        model="m", instance_id="i", usage_asked=False, completion_id="chatcmpl-1", created_s=7, forced=forced
    )


def out_of(*pieces: bytes, forced: ForcedChat | None = None) -> bytes:
    stream = stream_(forced)
    out = b"".join(stream.feed(piece) for piece in pieces) + stream.finish()
    assert (True, None) == (stream.ended, stream.error)
    return out


def said(*events: bytes, forced: ForcedChat | None = None) -> Completion:
    """Legal, the same however its bytes come, and the SDK reads the same in it."""
    raw = b"".join((chunk(ROLE), *events, DONE))
    out = out_of(raw, forced=forced)
    for pieces in every_way(raw):
        assert out == out_of(*pieces, forced=forced)
    found = check_chat(out)
    text, tools, finish = sdk_said(sdk_chunks(out))
    assert (found.text, found.finish_reason) == (text, finish)
    assert [(tool.name, tool.arguments) for tool in found.tools] == tools
    return found


def called(found: Completion) -> list[tuple[str, str, str]]:
    return [(tool.id, tool.name, tool.arguments) for tool in found.tools]


# ---------------------------------------------------------------- how it ends


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("eos", "stop"), ("end_turn", "stop"), ("", None), ("max_tokens", "length"), ("model_length", "length"),
        ("tool_calls", "stop"), ("tool_use", "stop"), ("stop", "stop"), ("content_filter", "content_filter"),
    ],
)  # fmt: skip
def test_a_reason_that_openai_has_not_is_the_nearest_that_it_has(theirs: str, ours: str | None) -> None:
    end = chunk({}, theirs) if theirs else chunk({}, "") + chunk({}, "stop")
    assert (ours or "stop", "a") == ((found := said(chunk({"content": "a"}), end)).finish_reason, found.text)


@pytest.mark.parametrize(("theirs", "ours"), [("eos", "tool_calls"), ("tool_use", "tool_calls"), ("stop", "stop")])
def test_an_answer_that_calls_ends_in_its_call(theirs: str, ours: str) -> None:
    found = said(calls(part(0, "t", "f", "{}")), chunk({}, theirs))
    assert ours == found.finish_reason


def test_a_server_that_gave_up_still_has() -> None:
    stream = stream_()
    stream.feed(chunk(ROLE) + chunk({"content": "a"}) + chunk({}, "abort"))
    assert stream.error is not None


# ---------------------------------------------------------------- what is left out


@pytest.mark.parametrize("name", ["id", "object", "created"])
def test_what_a_chunk_lacks_is_put_there(name: str) -> None:
    raw = b"".join((chunk(ROLE), chunk({"content": "a"}), chunk({}, "stop")))
    lacking = b"".join(
        event({key: value for key, value in json.loads(line[6:]).items() if key != name})
        for line in raw.split(b"\n\n")[:-1]
    )
    out = out_of(lacking + DONE)
    found = check_chat(out)
    assert {"id": "c", "created": 5, **{key: value for key, value in OURS.items() if key == name}} == {
        "id": found.id,
        "created": found.created,
    }
    assert len(sdk_chunks(out)) == 3


def test_a_choice_without_index_reason_or_delta_gets_them() -> None:
    bare = [{"delta": ROLE}, {"delta": {"content": "a"}}, {"finish_reason": "stop"}]
    raw = b"".join(event({**ENVELOPE, "choices": [choice]}) for choice in bare)
    assert ("a", "stop") == ((found := check_chat(out_of(raw + DONE))).text, found.finish_reason)


def test_a_time_that_is_no_whole_number_is_made_one() -> None:
    raw = b"".join(it.replace(b'"created":5', b'"created":5.9') for it in (chunk(ROLE), chunk({}, "stop")))
    assert check_chat(out_of(raw + DONE)).created == 5


# ---------------------------------------------------------------- calls


def test_a_call_without_type_or_id_gets_them() -> None:
    found = said(calls({"index": 0, "function": {"name": "f", "arguments": "{}"}}), chunk({}, "tool_calls"))
    assert [(call_id("chatcmpl-1", 0, 0), "f", "{}")] == called(found)


def test_arguments_that_are_an_object_are_said_as_text() -> None:
    found = said(calls(part(0, "t", "f", {"a": [1, "é"]})), chunk({}, "tool_calls"))
    assert [("t", "f", '{"a":[1,"é"]}')] == called(found)


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_a_call_that_ends_without_arguments_has_an_object_without_fields(nothing: str | None) -> None:
    found = said(calls(part(0, "t", "f", nothing)), chunk({}, "tool_calls"))
    assert [("t", "f", f"{nothing or ''}{{}}")] == called(found)


def test_a_call_that_its_length_cut_is_not_finished_for_it() -> None:
    found = said(calls(part(0, "t", "f", "")), chunk({}, "length"))
    assert [("t", "f", "")] == called(found)


def test_arguments_that_are_no_json_are_the_clients_to_look_at() -> None:
    out = out_of(chunk(ROLE) + calls(part(0, "t", "f", "Rome")) + chunk({}, "tool_calls") + DONE)
    assert [("f", "Rome")] == sdk_said(sdk_chunks(out))[1]


def test_an_id_and_a_name_are_said_once() -> None:
    """Clients join what comes in pieces, names too."""
    pieces = [calls(part(0, "t", "f", "{")), calls(part(0, "t", "f", '"a":')), calls(part(0, "u", None, "1}"))]
    assert [("t", "f", '{"a":1}')] == called(said(*pieces, chunk({}, "tool_calls")))


def test_calls_are_counted_from_0_whatever_their_server_counts() -> None:
    both = [part(0, "t", "f", "{}"), part(0, "u", "g", "{}")]
    for pieces in (
        [calls(both[0]), calls(both[1])],  # always 0
        [calls({**both[0], "index": 1}), calls({**both[1], "index": 2})],
        [calls(*({key: value for key, value in it.items() if key != "index"} for it in both))],
    ):
        assert [("t", "f", "{}"), ("u", "g", "{}")] == called(said(*pieces, chunk({}, "tool_calls")))


def test_a_piece_is_a_piece_once_whatever_its_chunk_lacks() -> None:
    pieces = ["{", '"a"', ":1", "}"]
    raw = calls(part(0, "t", "f", "")) + b"".join(calls(part(0, None, None, it)) for it in pieces)
    raw += calls(part(0, None, None, "{}"), part(1, "u", "g", "")) + chunk({}, "stop")  # the first goes on: no JSON
    bare = chunk(ROLE) + raw.replace(b',"finish_reason":null', b"") + DONE
    for events in (chunk(ROLE) + raw + DONE, bare):
        assert [("f", '{"a":1}{}'), ("g", "{}")] == sdk_said(sdk_chunks(out_of(events)))[1]


def test_arguments_that_come_in_pieces_are_known_at_the_end_and_at_the_next_call() -> None:
    first = [calls(part(0, "t", "f", "")), calls(part(0, None, None, "{")), calls(part(0, None, None, "}"))]
    assert [("t", "f", "{}")] == called(said(*first, chunk({}, "tool_calls")))
    without = {
        key: value for key, value in part(0, None, "f", '{"a":1}').items() if key != "id"
    }  # all at 0, and no ids
    told = called(said(*first, calls(without), chunk({}, "tool_calls")))
    assert [("f", "{}"), ("f", '{"a":1}')] == [(name, arguments) for _, name, arguments in told]


def test_two_calls_with_one_id_have_two() -> None:
    found = said(calls(part(0, "0", "f", "{}")), calls(part(1, "0", "g", "{}")), chunk({}, "tool_calls"))
    assert [("0", "f", "{}"), (call_id("chatcmpl-1", 0, 1), "g", "{}")] == called(found)


def test_an_empty_list_of_calls_beside_a_text_goes() -> None:
    out = out_of(chunk(ROLE) + chunk({"content": "a", "tool_calls": []}) + chunk({}, "stop") + DONE)
    assert "a" == check_chat(out).text


def test_what_a_server_adds_to_a_call_of_its_own_stays() -> None:
    theirs = {"function": {"name": "f", "arguments": "{}", "x": 1}, "id": "t", "signature": "s", "index": 0}
    out = out_of(chunk(ROLE) + calls(theirs) + chunk({}, "tool_calls") + DONE)
    (told,) = json.loads(out.split(b"\n\n")[1][6:])["choices"][0]["delta"]["tool_calls"]
    assert {**theirs, "type": "function"} == told


def test_what_is_no_call_of_a_function_is_left_alone() -> None:
    custom = {"index": 0, "id": "t", "type": "custom", "custom": {"name": "f", "input": "x"}}
    events = [chunk(ROLE), calls(custom), chunk({}, "tool_calls"), DONE]
    assert b"".join(events).replace(b'"theirs"', b'"m"') == out_of(*events)


# ---------------------------------------------------------------- a text that has to be a call

PIECES = ["{", "\n ", ' "at', '": "Par', 'is"', "\n}"]
TEXT = [chunk({"content": piece}) for piece in PIECES]
CHOSEN = [chunk({"content": piece}) for piece in ('{"name', '":"lo', 'ok","argu', 'ments":{"at": "Paris"}}')]
STOP = chunk({}, "stop")


def test_a_forced_answer_streams_as_one_call() -> None:
    found = said(*TEXT, STOP, forced=LOOK)
    assert [(call_id("chatcmpl-1", 0, 0), "look", "".join(PIECES))] == called(found)
    assert ("", "tool_calls") == (found.text, found.finish_reason)
    pieces = [it for it in found.chunks if "tool_calls" in it.data["choices"][0]["delta"]]
    assert len(PIECES) == len(pieces)


def test_thoughts_before_a_forced_call_stay_thoughts() -> None:
    found = said(chunk({"reasoning_content": "hm"}), *TEXT, STOP, forced=LOOK)
    assert ("hm", "tool_calls", 1) == (found.reasoning, found.finish_reason, len(found.tools))


def test_a_choice_of_several_is_told_when_it_is_whole() -> None:
    found = said(chunk({"reasoning_content": "hm"}), *CHOSEN, STOP, forced=ForcedChat(ANY, b"{}"))
    assert [(call_id("chatcmpl-1", 0, 0), "look", '{"at": "Paris"}')] == called(found)
    assert ("hm", "tool_calls") == (found.reasoning, found.finish_reason)


def test_each_token_that_is_kept_back_counts() -> None:
    stream = stream_(ForcedChat(ANY, b"{}"))
    assert b"" == stream.feed(chunk(ROLE) + b"".join(CHOSEN))
    assert (len(CHOSEN), False) == (stream.events, stream.committed)
    stream.feed(STOP)
    assert (True, "tool_use") == (stream.committed, stream.stop_reason)


@pytest.mark.parametrize("forced", [LOOK, ForcedChat(ANY, b"{}")])
def test_a_forced_answer_that_its_length_cut_says_so(forced: ForcedChat) -> None:
    found = said(chunk({"content": '{"na'}), chunk({}, "length"), forced=forced)
    assert ("length", "") == (found.finish_reason, found.text)
    assert ([] if forced.name == ANY else ['{"na']) == [tool.arguments for tool in found.tools]


@pytest.mark.parametrize("text", ["well", "", "[]", '{"a"'])
@pytest.mark.parametrize("name", ["look", ANY])
def test_a_forced_answer_that_is_no_call_is_broken_but_where_a_stop_word_may_have_done_it(text: str, name: str) -> None:
    raw = chunk(ROLE) + chunk({"content": text}) + STOP + DONE
    stream = stream_(ForcedChat(name, b"{}"))
    assert DONE not in stream.feed(raw) + stream.finish()
    assert (False, "instance i sent a tool call that cannot be read") == (stream.ended, str(stream.error))
    assert b'"finish_reason":"stop"' in out_of(raw, forced=ForcedChat(name, b"{}", may_break=True))


def test_each_of_several_answers_is_a_call_of_its_own() -> None:
    second = [it.replace(b'"index":0', b'"index":1') for it in (*TEXT, STOP)]
    out = out_of(chunk(ROLE) + b"".join(TEXT) + b"".join(second) + STOP + DONE, forced=LOOK)
    assert b'"call_1_0_0"' in out
    assert b'"call_1_1_0"' in out


# ---------------------------------------------------------------- what fits


def test_what_fits_goes_on_as_it_came() -> None:
    mender = Mender("chatcmpl-1", 7)
    for event_ in (
        chunk(ROLE),
        chunk({"content": "a"}),
        calls(part(0, "t", "f", "{")),
        calls(part(0, None, None, "}"), part(1, "u", "g", "{}")),
        chunk({}, "tool_calls"),
        event({**ENVELOPE, "choices": []}),
    ):
        data = event_[6:-2]
        assert mender.mend(data, read_chunk(data)) is data


_parts = st.builds(
    part,
    st.sampled_from([None, 0, 1, 2]),
    st.sampled_from([None, "", "t", "u"]),
    st.sampled_from([None, "f", "g"]),
    st.sampled_from([None, "", "{}", "{", "}", '"a":1', {"a": 1}]),
)
_deltas = st.one_of(
    st.just({"content": "a"}), st.just({"reasoning_content": "a"}),
    st.builds(lambda parts: {"tool_calls": parts}, st.lists(_parts, max_size=2)),
)  # fmt: skip


@settings(derandomize=True, max_examples=300, deadline=None)
@given(deltas=st.lists(_deltas, max_size=6), finish=st.sampled_from(["stop", "tool_calls", "length", "eos"]))
def test_whatever_calls_a_server_makes_nothing_but_their_arguments_and_names_may_be_wrong(
    deltas: list[Json], finish: str
) -> None:
    raw = chunk(ROLE) + b"".join(chunk(delta) for delta in deltas) + chunk({}, finish) + DONE
    out = out_of(raw)
    sdk_chunks(out)
    try:
        check_chat(out)
    except AssertionError as broken:
        assert any(it in str(broken) for it in ("arguments '", "without a name", "name for the second time"))  # noqa: PT017
