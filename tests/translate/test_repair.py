"""Each way in which llama-server's stream is not the hosted API's, by name; then every cut, then anything at all."""

import json
import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.errors import PromptTooLong, UpstreamAnswered, UpstreamBroke
from router.translate.answer import AnswerStream, Usage
from router.wire import signature
from router.wire.sse import MAX_EVENT_BYTES
from tests.rig.legality import check
from tests.rig.legality_fields import DELTAS, STOP_REASONS
from tests.rig.transcript import read_events
from tests.translate.native import (
    CAPTURES,
    COMMENT,
    REAL,
    STOP,
    argues,
    calls,
    ends,
    event,
    message,
    opens,
    signs,
    start,
    state,
    stops,
    stream,
    text,
    thinks,
    told,
    with_its_error,
)
from tests.wire.every_way import every_way

steady = settings(derandomize=True, max_examples=200, deadline=None)

START, TEXT = start(), opens(0, "text")
ANSWER = START + TEXT + text(0, "Grüße") + text(0, ' "x"\n') + stops(0) + ends() + STOP
THINKING = (
    START + opens(0, "thinking") + thinks(0, "h") + thinks(0, "m") + opens(1, "text") + text(1, "yes") + text(1, "!")
    + calls(2) + argues(2, '{"a":') + argues(2, "1}") + calls(3, "Read") + argues(3, "{}")
    + signs(0) + stops(0, 1, 2, 3) + ends("tool_use") + STOP
)  # fmt: skip


def broke(*pieces: bytes) -> str:
    """Why the stream failed; nothing of the failing event may have come out, and no end."""
    done = told(pieces)
    assert not done.ended
    assert done.error is not None
    assert done.error[0] is UpstreamBroke
    check(with_its_error(done))
    return done.error[1].removeprefix("instance i ")


def test_it_is_an_answer_stream() -> None:
    it: AnswerStream = stream()
    assert not it.committed


# ---------------------------------------------------------------- message_start


def test_the_start_has_our_id_the_clients_model_and_every_count() -> None:
    out = told((START,)).out
    assert out == (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message",'
        b'"role":"assistant","model":"my \\"coder\\"","content":[],"stop_reason":null,"stop_sequence":null,'
        b'"usage":{"input_tokens":12,"cache_creation_input_tokens":0,"cache_read_input_tokens":7,"output_tokens":0}}}\n\n'
    )


def test_a_start_that_is_left_out_is_made_and_nothing_in_it_is_made_up() -> None:
    """llama-server sends none when its first token is a part of a character, and counts the prompt nowhere else."""
    done = told((TEXT + text(0, "🦙") + stops(0) + ends(output_tokens=4) + STOP,))
    said = check(done.out)
    assert ("msg_1", 'my "coder"', "🦙", "end_turn") == (said.id, said.model, said.text, said.stop_reason)
    zeros = dict.fromkeys(
        ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"), 0
    )
    assert zeros == said.events[0].data["message"]["usage"]
    assert {"output_tokens": 4} == said.events[-2].data["usage"]
    assert Usage(None, None, 4) == done.usage


def test_what_only_the_end_counts_is_told_at_the_end_where_clients_take_it_from() -> None:
    done = told((TEXT + text(0, "x") + ends(input_tokens=5, cache_read_input_tokens=30, output_tokens=4) + STOP,))
    usage = {
        "input_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 30, "output_tokens": 4
    }  # fmt: skip
    assert usage == check(done.out).usage == check(done.out).events[-2].data["usage"]
    assert Usage(5, 30, 4) == done.usage


def test_an_unknown_prompt_is_left_out_of_the_end_rather_than_called_0() -> None:
    """Trap 8: 0 there turns a client's context meter back to 0."""
    done = told((TEXT + text(0, "x") + ends() + STOP,))
    assert b'"usage":{"output_tokens":3}' in done.out


def test_an_answer_that_begins_with_its_end_is_whole() -> None:
    assert ["message_start", "message_delta", "message_stop"] == told((ends("max_tokens") + STOP,)).names


def test_a_second_start_is_swallowed() -> None:
    assert told((ANSWER,)) == told((START + ANSWER,))
    assert 1 == told((TEXT + text(0, "x") + START + ends() + STOP,)).names.count("message_start")


# ---------------------------------------------------------------- blocks


def test_blocks_that_overlap_are_told_one_after_the_other() -> None:
    assert told((THINKING,)).names == [
        "message_start",
        "start 0 thinking", "delta 0 thinking_delta", "delta 0 thinking_delta", "delta 0 signature_delta", "stop 0",
        "start 1 text", "delta 1 text_delta", "delta 1 text_delta", "stop 1",
        "start 2 tool_use", "delta 2 input_json_delta", "delta 2 input_json_delta", "stop 2",
        "start 3 tool_use", "delta 3 input_json_delta", "stop 3",
        "message_delta", "message_stop",
    ]  # fmt: skip


def test_a_thinking_block_has_a_signature_when_it_opens_and_one_when_it_ends() -> None:
    out = told((START + opens(0, "thinking") + thinks(0, "hm") + signs(0) + stops(0) + ends() + STOP,)).out
    assert b'"content_block":{"type":"thinking","thinking":"","signature":""}' in out
    assert 1 == out.count(b'{"type":"signature_delta","signature":""}')


def test_a_tool_block_has_an_input_when_it_opens_and_an_id_like_the_hosted_apis() -> None:
    out = told((START + calls(0) + argues(0, "{}") + ends("tool_use") + STOP,)).out
    assert b'"content_block":{"type":"tool_use","id":"toolu_call0","name":"Bash","input":{}}' in out


def test_a_tool_without_an_id_gets_one_and_no_two_are_alike() -> None:
    done = told((START + calls(0, id="") + argues(0, "{}") + calls(1, id="a") + calls(2, id="a") + ends() + STOP,))
    said = check(done.out)
    assert ["toolu_1_0", "toolu_a", "toolu_1_2"] == [tool.id for tool in said.tools]


def test_a_tool_without_arguments_has_an_empty_input() -> None:
    assert [{}] == [tool.input for tool in message(START, calls(0), stops(0), ends("tool_use"), STOP).tools]


def test_a_tool_that_comes_with_its_input_keeps_it() -> None:
    """Trap 1."""
    said = message(START, calls(0, input={"a": [1, "é"]}), stops(0), ends("tool_use"), STOP)
    assert [{"a": [1, "é"]}] == [tool.input for tool in said.tools]


def test_a_text_that_comes_with_its_start_is_kept() -> None:
    """Trap 4."""
    said = message(START, opens(0, "text", text="Hel"), text(0, "lo"), stops(0), ends(), STOP)
    assert "Hello" == said.text


def test_an_empty_block_never_reaches_the_client() -> None:
    """Trap 6."""
    done = told((START + opens(0, "thinking") + TEXT + text(0, "") + stops(0) + calls(1) + stops(1) + ends() + STOP,))
    assert ["message_start", "start 0 tool_use", "stop 0", "message_delta", "message_stop"] == done.names


def test_an_empty_delta_is_swallowed() -> None:
    assert told((ANSWER,)).out == told((ANSWER.replace(stops(0), text(0, "") + stops(0)),)).out


def test_text_before_thinking_both_at_index_0_are_two_blocks() -> None:
    said = told((
        START + TEXT + text(0, "a") + opens(0, "thinking") + thinks(0, "b") + text(1, "c") + signs(0) + stops(0, 1)
        + ends() + STOP,
    ))  # fmt: skip
    assert said.names[1:-2] == [
        "start 0 text", "delta 0 text_delta", "stop 0",
        "start 1 thinking", "delta 1 thinking_delta", "delta 1 signature_delta", "stop 1",
        "start 2 text", "delta 2 text_delta", "stop 2",
    ]  # fmt: skip


def test_text_again_after_a_tool_is_a_new_block() -> None:
    done = told((START + TEXT + text(0, "a") + calls(1) + argues(1, "{}") + text(0, "b") + ends("tool_use") + STOP,))
    assert ["start 2 text", "delta 2 text_delta", "stop 2"] == done.names[-5:-2]
    assert "ab" == check(done.out).text


def test_a_repeated_start_of_an_open_block_is_swallowed() -> None:
    """llama-server's last batch forgets what has been started."""
    done = told((START + TEXT + text(0, "a") + TEXT + text(0, "b") + stops(0) + ends() + STOP,))
    assert 1 == done.names.count("start 0 text")
    done = told((START + calls(0) + argues(0, "{") + calls(0) + argues(0, "}") + stops(0) + ends() + STOP,))
    assert ["start 0 tool_use", "delta 0 input_json_delta", "delta 0 input_json_delta", "stop 0"] == done.names[1:-2]


def test_a_repeated_start_of_a_closed_block_opens_nothing() -> None:
    pieces = START + TEXT + text(0, "a") + calls(1) + argues(1, "{}") + TEXT + calls(1) + ends() + STOP
    assert ["start 0 text", "start 1 tool_use"] == [name for name in told((pieces,)).names if name.startswith("start")]


def test_a_new_start_of_the_same_kind_at_another_index_is_a_new_block() -> None:
    said = told((START + TEXT + text(0, "a") + opens(1, "text") + text(1, "b") + ends() + STOP,)).names
    assert ["start 0 text", "start 1 text"] == [name for name in said if name.startswith("start")]


def test_a_stop_in_time_closes_at_once() -> None:
    assert "stop 0" == told((START + TEXT + text(0, "a") + stops(0),)).names[-1]


def test_arguments_of_a_call_that_is_closed_break_the_answer() -> None:
    two = START + calls(0) + argues(0, "{}") + calls(1)
    assert "sent tool arguments for a call that is not open" == broke(two + argues(0, "x"))
    assert "sent tool arguments for a call that is not open" == broke(START + TEXT + text(0, "a") + argues(0, "{}"))


def test_arguments_that_are_no_object_break_the_answer() -> None:
    """Trap 2; corrupt arguments are worse than a clean failure."""
    assert "ended in the middle of a tool call" == broke(START + calls(0) + argues(0, 'a":1}') + ends("tool_use"))
    assert "sent tool arguments that are not a JSON object" == broke(START + calls(0) + argues(0, "[1]") + calls(1))


def test_a_tool_without_a_name_breaks_the_answer() -> None:
    assert "called a tool without a name" == broke(START + calls(0, name=""))


def test_a_block_of_a_new_kind_passes_with_its_deltas() -> None:
    block = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}
    opened = event("content_block_start", index=5, content_block=block)
    done = told((START + opened + argues(5, "{}") + stops(5) + ends() + STOP,))
    assert ["start 0 server_tool_use", "delta 0 input_json_delta", "stop 0"] == done.names[1:-2]
    check(done.out)


def test_a_citation_passes() -> None:
    cited = {"type": "citations_delta", "citation": {"type": "char_location"}}
    done = told((START + TEXT + text(0, "a") + event("content_block_delta", index=0, delta=cited) + ends() + STOP,))
    assert "delta 0 citations_delta" in done.names
    check(done.out)


# ---------------------------------------------------------------- thinking that is not shown


def test_omitted_thinking_is_sealed_in_its_signature() -> None:
    done = told((THINKING,), omit_thinking=True)
    said = check(done.out)
    assert ("", "yes!", 7) == (said.thinking, said.text, done.events)
    sealed = re.findall(rb'"signature_delta","signature":"([^"]+)"', done.out)
    assert ["hm"] == [signature.unseal(one.decode()) for one in sealed]


def test_a_signature_that_says_something_is_kept() -> None:
    """A server that signs its thinking; llama-server's own is empty."""
    for how in (False, True):
        pieces = START + opens(0, "thinking") + thinks(0, "hm") + signs(0, "Eq1") + stops(0) + ends() + STOP
        assert b'"signature_delta","signature":"Eq1"' in told((pieces,), omit_thinking=how).out
    done = told((START + opens(0, "thinking") + signs(0, "Eq1") + stops(0) + TEXT + text(0, "x") + ends() + STOP,))
    assert ["start 0 thinking", "delta 0 signature_delta", "stop 0"] == done.names[1:4]


def test_a_late_signature_opens_nothing() -> None:
    done = told((START + opens(0, "thinking") + thinks(0, "a") + opens(1, "text") + text(1, "b") + signs(0, "Eq1"),))
    assert "start 1 text" == done.names[-2]


def test_a_call_for_no_tokens_gets_none() -> None:
    for pieces in (ANSWER, THINKING):
        done = told((pieces,), silent=True)
        said = check(done.out)
        assert ["message_start", "message_delta", "message_stop"] == done.names
        assert ("max_tokens", None, 0) == (said.stop_reason, said.stop_sequence, said.usage["output_tokens"])
        assert (12, 7) == (said.usage["input_tokens"], said.usage["cache_read_input_tokens"])


# ---------------------------------------------------------------- the end


def test_the_end_counts_everything_again() -> None:
    counts = b'"input_tokens":12,"cache_creation_input_tokens":0,"cache_read_input_tokens":7,"output_tokens":3'
    assert b'"usage":{%b}' % counts in told((ANSWER,)).out.rpartition(b"event: message_delta")[2]


def test_an_end_without_a_count_counts_the_events() -> None:
    done = told((ANSWER.replace(b',"usage":{"output_tokens":3}', b""),))
    assert b'"output_tokens":0' in done.out.rpartition(b"event: message_delta")[2]  # as message_start said
    done = told((TEXT + text(0, "a") + text(0, "b") + event("message_delta", delta={"stop_reason": "end_turn"}),))
    assert b'"output_tokens":2' in done.out.rpartition(b"event: message_delta")[2]


def test_a_stop_sequence_is_the_reason_that_the_answer_stopped() -> None:
    said = message(START, TEXT, text(0, "a"), stops(0), ends("end_turn", "\n\nHuman:"), STOP)
    assert ("stop_sequence", "\n\nHuman:") == (said.stop_reason, said.stop_sequence)


@pytest.mark.parametrize("sequence", ["<|end|>", "", "Human:x"])
@pytest.mark.parametrize("why", ["end_turn", "stop_sequence"])
def test_a_stop_sequence_that_the_client_did_not_ask_for_is_a_natural_end(why: str, sequence: str) -> None:
    """A template has stop words of its own."""
    pieces = (START, TEXT, text(0, "a"), stops(0), ends(why, sequence), STOP)
    for stop in ((), ("Human:", "\n\n")):
        said = message(*pieces, stop=stop)
        assert ("end_turn", None) == (said.stop_reason, said.stop_sequence)
    said = message(*pieces, stop=("Human:", sequence))
    assert ("stop_sequence", sequence) == (said.stop_reason, said.stop_sequence)


def test_a_stop_sequence_that_nobody_asked_for_ends_a_whole_call_and_breaks_half_a_one() -> None:
    for why in ("tool_use", "end_turn"):
        whole = message(START, calls(0), argues(0, "{}"), stops(0), ends(why, "</call>"), STOP, stop=("x",))
        assert ("tool_use", None) == (whole.stop_reason, whole.stop_sequence)
        half = told((START + calls(0) + argues(0, '{"a":') + stops(0) + ends(why, "</call>") + STOP,), stop=("x",))
        assert (UpstreamBroke, "instance i ended in the middle of a tool call") == half.error


def test_a_tool_call_makes_the_reason_tool_use() -> None:
    """Trap 5: clients run tools at no other."""
    for why, sequence in (("end_turn", None), ("tool_use", None), ("end_turn", "x"), ("tool_use", "x")):
        said = message(START, calls(0), argues(0, "{}"), stops(0), ends(why, sequence), STOP)
        assert ("tool_use", None) == (said.stop_reason, said.stop_sequence)


def test_a_tool_call_that_was_cut_is_told_with_the_cut_as_the_reason() -> None:
    for why, sequence, reason in (("max_tokens", None, "max_tokens"), ("tool_use", "x", "stop_sequence")):
        said = message(START, calls(0), argues(0, '{"a":'), stops(0), ends(why, sequence), STOP)
        assert (reason, sequence) == (said.stop_reason, said.stop_sequence)


def test_a_tool_reason_without_a_call_breaks_the_answer() -> None:
    said = broke(START + TEXT + text(0, "a") + stops(0) + ends("tool_use") + STOP)
    assert "spoke of a tool call that it did not send" == said


def test_a_reason_that_nobody_knows_passes() -> None:
    assert "pause_turn" == message(START, TEXT, text(0, "a"), ends("pause_turn"), STOP).stop_reason


def test_an_answer_without_a_reason_is_broken() -> None:
    """Trap 10."""
    assert "ended the stream without saying why" == broke(START + TEXT + text(0, "a") + stops(0) + STOP)
    assert "ended the stream without saying why" == broke(START + TEXT + text(0, "a") + ends(None) + STOP)
    assert "ended without saying why" == broke(START + TEXT + text(0, "a") + ends("") + STOP)
    assert "ended the stream without saying why" == broke(STOP)


def test_an_end_that_does_not_say_why_yet_only_counts() -> None:
    """The Messages API may send several."""
    done = told((START + TEXT + text(0, "a") + ends(None, input_tokens=9) + text(0, "b") + ends() + STOP,))
    said = check(done.out)
    assert ("ab", "end_turn", 9, 3) == (
        said.text, said.stop_reason, said.usage["input_tokens"], said.usage["output_tokens"],
    )  # fmt: skip
    assert 1 == done.names.count("message_delta")


def test_what_comes_after_the_end_is_no_answer() -> None:
    done = START + TEXT + text(0, "a") + ends()
    assert "went on after its end" == broke(done + text(0, "b"))
    assert told((done + STOP,)).out == told((done + ends("max_tokens") + stops(0) + COMMENT + STOP,)).out


def test_an_end_that_was_cut_is_no_end() -> None:
    """Trap 10: a clean end comes only from message_stop."""
    for pieces in (b"", START, START + TEXT + text(0, "a"), ANSWER.removesuffix(STOP), ANSWER[:-1]):
        fed = stream()
        fed.feed(pieces)
        assert b"" == fed.finish()
        assert not fed.ended
        assert isinstance(fed.error, UpstreamBroke)
        assert b"" == fed.feed(STOP)
    fed = stream()
    fed.feed(ANSWER)
    fed.finish()
    assert (True, None) == (fed.ended, fed.error)


# ---------------------------------------------------------------- errors, comments, what is new

FLAT = b'event: error\ndata: {"code":500,"message":"Compute error in /srv/x/y","type":"server_error"}\n\n'
WRAPPED = (
    b'event: error\ndata: {"type":"error","error":{"type":"server_error","message":"Compute error in /srv/x/y"}}\n\n'
)
TOO_LONG = (
    b'event: error\ndata: {"code":400,"message":"exceeds","type":"exceed_context_size_error",'
    b'"n_prompt_tokens":9001,"n_ctx":4096}\n\n'
)
GAVE_UP = (UpstreamAnswered, "instance i broke the answer off: Compute error in [...]")


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (FLAT, GAVE_UP),
        (COMMENT + WRAPPED, GAVE_UP),
        (START + TEXT + text(0, "a") + FLAT, GAVE_UP),
        (START + WRAPPED.removeprefix(b"event: error\n"), GAVE_UP),
        (START + b'data: {"error":{"message":"Compute error in /srv/x/y"}}\n\n', GAVE_UP),
        (TOO_LONG, (PromptTooLong, "prompt is too long: 9001 tokens > 4096 maximum")),
        (START + FLAT + TOO_LONG, GAVE_UP),
        (START + b"event: error\ndata: what?\n\n", (UpstreamAnswered, "instance i broke the answer off")),
    ],
)
def test_an_error_in_the_stream_is_for_the_caller(pieces: bytes, expected: tuple[type[Exception], str]) -> None:
    """Flat, as llama-server writes it, or wrapped; named or not."""
    done = told((pieces + text(0, "b") + ends() + STOP,))
    assert (expected, False) == (done.error, done.ended)
    check(with_its_error(done))


def test_comments_and_pings_are_swallowed() -> None:
    """The router sends its own."""
    noise = COMMENT + event("ping") + b": still here\n\n"
    pieces = re.split(b"(?<=\n\n)", ANSWER)
    assert told((ANSWER,)) == told((noise.join(pieces),))


def test_a_comment_inside_an_event_is_left_out() -> None:
    assert told((ANSWER,)) == told((ANSWER.replace(b"event: ", b": x\nevent: ").replace(b"data:", b":y\ndata:"),))


def test_a_new_event_passes_once_the_answer_has_begun_if_a_client_can_read_it() -> None:
    new = b'event: new\ndata: {"type":"new","x":[1]}\n\n'
    odd = [b"event: new\ndata: what?\n\n", b"event: new\ndata: [1]\n\n", b"event: n\xff\ndata: {}\n\n"]
    odd += [b'event: new\ndata: {"x":"\xff"}\n\n', b"event: new\n\n"]
    assert told((START,)).out + new == told((new + START + new + b"".join(odd),)).out
    two_lines = b'event: new\ndata: {"type":"new",\ndata: "x":[\ndata: 1]}\n\n'
    assert told((START,)).out + b'event: new\ndata: {"type":"new","x":[ 1]}\n\n' == told((START + two_lines,)).out


def test_an_event_whose_data_is_of_another_kind_breaks_the_answer() -> None:
    """Clients go by the one name or the other: they would miss what it says, or end where nobody ended."""
    for damaged in (text(0, "x"), STOP, ends()):
        sent = damaged.replace(b"event: ", b"event: x")
        assert "sent an event under two names" == broke(START + TEXT + text(0, "a"), sent)
    assert told((START,)).out == told((START + b'event: new\ndata: {"type":7}\n\n',)).out


def test_a_block_without_a_type_breaks_the_answer() -> None:
    """Nothing would close it."""
    assert "opened a block without a type" == broke(START + opens(0, ""))


def test_events_without_a_name_are_named_by_their_data() -> None:
    assert told((ANSWER,)) == told((re.sub(b"event: .*\n", b"", ANSWER),))
    assert told((START,)) == told((START + b"data: {}\n\ndata: [DONE]\n\ndata: \xff\n\n",))


@pytest.mark.parametrize(
    "odd",
    [
        event("message_start", message=7),
        event("message_start", message={"usage": {"input_tokens": "many"}}),
        event("message_start", message={"usage": {"input_tokens": -1}}),
        b"event: message_start\ndata: {\n\n",
        b"event: message_start\ndata: []\n\n",
        b"event: message_start\n\n",
        b'event: message_start\ndata: {"message":{"x":"\xff"}}\n\n',
        b'event: message_start\ndata: {"message":%b}\n\n' % (b"[" * 100_000),
        b'event: message_start\ndata: {"message":{"x":%b}}\n\n' % (b"[" * 100_000 + b"]" * 100_000),
    ],
    ids=lambda odd: odd[:70].decode("latin-1"),
)
def test_a_start_that_cannot_be_read_commits_nothing(odd: bytes) -> None:
    done = told((odd,))
    assert (b"", False) == (done.out, done.committed)
    assert (UpstreamBroke, "instance i sent an event that cannot be read") == done.error


BEGUN = START + TEXT + text(0, "a")
BROKEN_TOKENS = {
    "cut JSON": text(0, "x").replace(b'"}}', b'"}'),
    "an open string": text(0, "x").replace(b'"}}', b"}}"),
    "trailing garbage": text(0, "x").replace(b'"}}', b'"}}]'),
    "a quote too many": text(0, "x").replace(b'"x"', b'"x"y"'),
    "a field too many in a string": text(0, "x").replace(b'"x"', b'"x","text":"y\xff"'),
    "a raw control character": text(0, "x").replace(b'"x"', b'"\x01"'),
    "a raw tab": text(0, "x").replace(b'"x"', b'"\t"'),
    "an unknown escape": text(0, "x").replace(b'"x"', b'"\\x"'),
    "half an escape": text(0, "x").replace(b'"x"', b'"\\u12"'),
    "half a surrogate pair": text(0, "x").replace(b'"x"', b'"\\ud800"'),
    "invalid UTF-8": text(0, "x").replace(b'"x"', b'"\xff"'),
    "half a character": text(0, "x").replace(b'"x"', b'"\xc3"'),
    "a surrogate in UTF-8": text(0, "x").replace(b'"x"', b'"\xed\xa0\x80"'),
    "a second data line": text(0, "x").replace(b"\n\n", b"\ndata: x\n\n"),
    "a line break in its string": text(0, "x").replace(b'"x"', b'"\ndata: "'),
    "a number as text": text(0, "x").replace(b'"x"', b"1"),
    "a list as index": text(0, "x").replace(b":0,", b":[],"),
    "no delta": event("content_block_delta", index=0),
    "no JSON": b"event: content_block_delta\ndata: x\n\n",
}


@pytest.mark.parametrize("odd", BROKEN_TOKENS.values(), ids=BROKEN_TOKENS.keys())
def test_a_broken_token_event_does_not_pass_unread(odd: bytes) -> None:
    fed = stream()
    fed.feed(BEGUN)
    assert not fed.through(b"7a\r\n" + odd + b"\r\n", 4)
    assert "sent an event that cannot be read" == broke(BEGUN, odd)


@pytest.mark.parametrize(
    "other",
    [
        text(1, "x"), text(0, ""), thinks(0, "x"), argues(0, "x"), stops(0), COMMENT, ends(), STOP, START, FLAT,
        text(0, "x") * 2, text(0, "x")[:-1], text(0, "x") + b":", text(0, "x").replace(b"\n", b"\r\n"),
        text(0, "x").replace(b"data: ", b"data:"), text(0, "x").replace(b'"index":0', b'"index": 0'),
    ],
)  # fmt: skip
def test_only_the_common_event_passes_as_it_is(other: bytes) -> None:
    for head in (b"7a\r\n", b"7A;x=y\r\n"):
        fed = stream()
        fed.feed(BEGUN)
        assert fed.through(head + text(0, "x") + b"\r\n", len(head))
        assert not fed.through(head + other + b"\r\n", len(head))
        assert 2 == fed.events


@pytest.mark.parametrize(
    "before",
    [
        b"", START, START + TEXT, BEGUN + text(0, "x")[:9], BEGUN + b"\n", BEGUN + stops(0), BEGUN + opens(1, "text"),
        BEGUN + opens(1, "thinking") + thinks(1, "x"), BEGUN + FLAT, BEGUN + ends(), ANSWER, BEGUN + COMMENT[:1],
        START + opens(1, "text") + text(1, "a"), BEGUN + opens(0, "thinking"),
    ],
)  # fmt: skip
def test_the_common_event_passes_only_into_its_open_block(before: bytes) -> None:
    fed = stream()
    fed.feed(before)
    assert not fed.through(b"7a\r\n" + text(0, "x") + b"\r\n", 4)


def test_thinking_that_is_not_shown_does_not_pass() -> None:
    fed = stream(omit_thinking=True)
    fed.feed(START + opens(0, "thinking") + thinks(0, "a"))
    assert not fed.through(b"7a\r\n" + thinks(0, "b") + b"\r\n", 4)
    fed = stream(silent=True)
    fed.feed(BEGUN)
    assert not fed.through(b"7a\r\n" + text(0, "b") + b"\r\n", 4)


def test_arguments_that_pass_are_looked_at_all_the_same() -> None:
    fed = stream()
    out = fed.feed(START + calls(0) + argues(0, "{"))
    assert fed.through(b"7a\r\n" + argues(0, '\\"') + b"\r\n", 4)
    fed.feed(ends("tool_use") + STOP)
    assert b"input_json_delta" in out
    assert fed.error is not None
    assert "instance i ended in the middle of a tool call" == fed.error.message


def test_an_event_without_end_is_given_up() -> None:
    fed = stream()
    fed.feed(START)
    assert b"" == fed.feed(b"event: content_block_delta\ndata: " + b"x" * MAX_EVENT_BYTES)
    assert fed.error is not None
    assert "instance i sent an event that cannot be read: it has no end" == fed.error.message


def test_escapes_are_the_same_on_both_paths() -> None:
    """What passes as it is would be rewritten if it came in two pieces: it must not."""
    odd = text(0, "x").replace(b'"x"', b'"\\u00fc\\/\\n"')
    expected = told((BEGUN + odd,))
    assert expected.out.endswith(odd)
    for pieces in every_way(BEGUN + odd + odd):
        assert told((BEGUN + odd + odd,)) == told(pieces)


# ---------------------------------------------------------------- every cut

WAYS: tuple[dict[str, Any], ...] = ({}, {"omit_thinking": True}, {"silent": True})
TRANSCRIPTS = {
    "text": ANSWER,
    "thinking, text, tools": THINKING,
    "no start": ANSWER.removeprefix(START),
    "an error": BEGUN + FLAT + STOP,
    "a broken token": BEGUN + BROKEN_TOKENS["invalid UTF-8"] + STOP,
    "comments": COMMENT + ANSWER.replace(b"\n\n", b"\n\n:\n\n"),
    "two lines": ANSWER.replace(b',"', b',\ndata: "'),
    "other spacing and order": b"".join(
        b"data:%b\nevent:%b\n\n" % (json.dumps(dict(reversed(it.data.items()))).encode(), it.name.encode())
        for it in read_events(THINKING)
    ),
}


@pytest.mark.parametrize("crlf", [False, True], ids=["LF", "CRLF"])
@pytest.mark.parametrize("data", TRANSCRIPTS.values(), ids=TRANSCRIPTS.keys())
def test_an_answer_is_the_same_however_its_bytes_come(data: bytes, *, crlf: bool) -> None:
    expected = told((data,))
    sent = data.replace(b"\n", b"\r\n") if crlf else data
    for pieces in every_way(sent):
        assert expected == told(pieces), pieces


@pytest.mark.parametrize("name", ["text", "thinking, text, tools", "no start"])
def test_a_cut_anywhere_is_no_end(name: str) -> None:
    data = TRANSCRIPTS[name]
    whole = told((data,))
    assert whole.ended
    for cut in range(len(data)):
        done = told((data[:cut],))
        assert (False, None) == (done.ended, done.error)
        assert whole.out.startswith(done.out)
        assert done.committed == bool(done.out)
        check(with_its_error(done))


def test_other_spacing_and_another_order_of_fields_mean_the_same() -> None:
    assert told((THINKING,)).out == told((TRANSCRIPTS["other spacing and order"],)).out


# ---------------------------------------------------------------- as real servers said it


@pytest.mark.parametrize("name", [name for name in REAL if name != "after_a_tool_prefill"])
@pytest.mark.parametrize("how", WAYS, ids=["shown", "omitted", "silent"])
def test_what_a_real_server_says_becomes_legal_in_every_cut(name: str, how: dict[str, Any]) -> None:
    data = (CAPTURES / f"{name}.sse").read_bytes()
    whole = told((data,), **how)
    said = check(whole.out)
    assert whole.ended
    assert ("msg_1", 'my "coder"') == (said.id, said.model)
    events = [piece + b"\n\n" for piece in data.split(b"\n\n") if piece]
    assert whole == told(events, **how)
    for step in (1, 7, 100):
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        assert whole == told(pieces, **how)


@pytest.mark.parametrize("name", [name for name in REAL if name not in {"after_a_tool_prefill", "no_message_start"}])
def test_a_real_answer_streamed_says_what_a_plain_one_says(name: str) -> None:
    data = (CAPTURES / f"{name}.sse").read_bytes()
    said = check(told((data,)).out)
    texts = [it["delta"]["text"] for it in _deltas(data, "text_delta")]
    thoughts = [it["delta"]["thinking"] for it in _deltas(data, "thinking_delta")]
    assert ("".join(texts), "".join(thoughts)) == (said.text, said.thinking)


def test_most_of_a_real_answer_passes_as_it_is() -> None:
    """The hot path is the common one, or the router is slow without anybody seeing it."""
    for name in ("thinking_text_and_tool", "text_and_two_tools"):
        data = (CAPTURES / f"{name}.sse").read_bytes()
        fed = stream()
        tokens = passed = 0
        for piece in data.split(b"\n\n")[:-1]:
            tokens += b"_delta\ndata" in piece
            frame = b"7a\r\n" + piece + b"\n\n\r\n"
            if fed.through(frame, 4):
                passed += 1
            else:
                fed.feed(piece + b"\n\n")
        assert fed.ended
        assert passed >= tokens - 8  # each block's first, the signature, message_delta


def test_a_call_whose_beginning_was_prefilled_breaks_the_answer() -> None:
    """The stream brings only the rest of its arguments."""
    said = broke((CAPTURES / "after_a_tool_prefill.sse").read_bytes())
    assert "ended in the middle of a tool call" == said


def _deltas(data: bytes, kind: str) -> list[dict[str, dict[str, str]]]:
    found = [it.data for it in read_events(data) if it.name == "content_block_delta"]
    return [it for it in found if it["delta"]["type"] == kind]


# ---------------------------------------------------------------- anything at all

_EVENTS = [
    START, TEXT, opens(0, "thinking"), opens(1, "text"), opens(1, "thinking"), opens(0, "redacted_thinking", data="x"),
    text(0, "a"), text(1, "b"), text(0, ""), thinks(0, "c"), thinks(1, "d"), signs(0), signs(1, "s"),
    calls(0), calls(1), calls(2), calls(1, id="x"),
    argues(0, "{}"), argues(1, '{"a":'), argues(1, "1}"), argues(2, "x"), stops(0), stops(1), stops(2),
    ends(), ends("max_tokens"), ends("tool_use"), ends("end_turn", "x"), ends(None), STOP,
    opens(1, ""), opens(2, "new"), event("content_block_stop", index=9), ends("end_turn", "y"), ends("tool_use", "x"),
    STOP.replace(b"event: ", b"event: x"),
    FLAT, COMMENT, event("ping"), b"data: {}\n\n", b"event: content_block_delta\ndata: {}\n\n",
]  # fmt: skip
_likely = st.lists(st.sampled_from(_EVENTS), max_size=14).map(lambda some: [START, *some])
_any_events = st.one_of(
    _likely, _likely.map(lambda some: [*some, ends("max_tokens"), STOP]), st.lists(st.sampled_from(_EVENTS), max_size=9)
)
_hows: st.SearchStrategy[dict[str, Any]] = st.sampled_from([*WAYS, {"stop": ("x",)}])


@settings(steady, max_examples=1000)
@given(events=_any_events, how=_hows)
def test_any_sequence_of_events_becomes_a_legal_answer_or_one_error(events: list[bytes], how: dict[str, Any]) -> None:
    whole = told((b"".join(events),), **how)
    assert not (whole.ended and whole.error)
    said = check(with_its_error(whole))
    assert whole.ended == (said.error is None)
    assert whole == told(events, **how)


@steady
@given(events=_any_events, how=_hows, crlf=st.booleans(), data=st.data())
def test_any_sequence_of_events_is_the_same_in_every_cut(
    events: list[bytes], how: dict[str, Any], data: st.DataObject, *, crlf: bool
) -> None:
    sent = b"".join(it.replace(b"\n", b"\r\n") if crlf else it for it in events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=9)))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert told((b"".join(events),), **how) == told(pieces, **how)
    assert told((b"".join(events),), **how) == told([sent[at : at + 1] for at in range(len(sent))], **how)


@steady
@given(events=_any_events, how=_hows)
def test_what_passes_as_it_is_would_have_been_fed_to_the_same_end(events: list[bytes], how: dict[str, Any]) -> None:
    fed = stream(**how)
    out = b""
    for it in events:
        out += it if fed.through(b"7a\r\n" + it + b"\r\n", 4) else fed.feed(it)
    assert told(events, **how) == state(fed, out)


_whole = st.sampled_from([ANSWER, THINKING, *((CAPTURES / f"{name}.sse").read_bytes() for name in REAL)])
_bytes = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(_EVENTS + [it[:-3] for it in _EVENTS] + [b"\n\n", b"\r", b"\xff", b'"']), max_size=9).map(
        b"".join
    ),
)


@settings(steady, max_examples=500)
@given(data=_whole, junk=_bytes, at=st.floats(0, 1), drop=st.integers(0, 40))
def test_any_bytes_give_a_legal_answer_or_one_error(data: bytes, junk: bytes, at: float, drop: int) -> None:
    place = int(at * len(data))
    sent = data[:place] + junk + data[place + drop :]
    whole = told((sent,))
    assert not (whole.ended and whole.error)
    assert whole == told([sent[at : at + 1] for at in range(len(sent))])
    out = with_its_error(whole)
    events = read_events(out)
    # What is new passes, by design; the checker knows only what is.
    assume(all(it.data.get("content_block", {}).get("type", "text") in DELTAS for it in events))
    assume(all(it.data["delta"]["stop_reason"] in STOP_REASONS for it in events if it.name == "message_delta"))
    check(re.sub(rb"event: (?!message_|content_block_(?:start|delta|stop)\n|error)[^\n]*\n[^\n]*\n\n", b"", out))


@steady
@given(junk=_bytes)
def test_any_bytes_alone_never_end(junk: bytes) -> None:
    done = told((junk,))
    assert done.ended == (done.names[-1:] == ["message_stop"])
    check(with_its_error(told((junk,))))
