from pathlib import Path

import httpx
import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import PromptTooLong, UpstreamAnswered, UpstreamBroke, UpstreamLoading
from router.translate import chat_repair
from router.translate.answer import Usage
from router.translate.chat_prepare import prepare
from router.translate.chat_repair import ChatStream
from router.wire.chat import chat_error_event, decode_chat
from router.wire.sse import MAX_EVENT_BYTES, EventTooLarge
from tests.rig.legality_chat import Illegal, check_chat
from tests.rig.llama import Pair
from tests.rig.openai_sdk import sdk_chunks, sdk_said
from tests.wire.every_way import every_way

steady = settings(derandomize=True, max_examples=200, deadline=None)
CAPTURES = Path(__file__).parent.parent / "captures" / "chat"

# ---------------------------------------------------------------- streams

MODEL = 'my "coder"'
THEIRS, OURS = b'"model":"/srv/models/q.gguf"', b'"model":"my \\"coder\\""'
TAIL = '"created":%d,"id":"chatcmpl-1","model":"/srv/models/q.gguf","object":"chat.completion.chunk"'


def chunk(delta: str, finish: str = "null", *, index: int = 0, created: int = 7, more: str = "") -> bytes:
    choice = f'{{"finish_reason":{finish},"index":{index},"delta":{delta}}}'
    return f'data: {{"choices":[{choice}],{TAIL % created}{more}}}\n\n'.encode()


def our(*events: bytes) -> bytes:
    """As the client gets them: the name in strings of the answer stays."""
    return b"".join(events).replace(THEIRS, OURS)


COUNTS = (
    '"usage":{"completion_tokens":2,"prompt_tokens":5,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":3}}'
)
ROLE = chunk('{"role":"assistant","content":null}')
HI = chunk('{"content":"Grüße"}')
TEXT = chunk('{"content":" \\"model\\":\\"/srv/models/q.gguf\\"\\n\\n data: [DONE]"}')
THOUGHT = chunk('{"reasoning_content":"hm"}')
CALL = chunk('{"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"f","arguments":"{"}}]}')
CALL_END = chunk('{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}')
STOP = chunk("{}", '"stop"')
USAGE = f'data: {{"choices":[],{TAIL % 7},{COUNTS}}}\n\n'.encode()
DONE = b"data: [DONE]\n\n"
COMMENT = b":\n\n"
PROGRESS = chunk('{"role":"assistant","content":null}', more=',"prompt_progress":{"total":9,"cache":0,"processed":4}')
NO_CHOICE = f'data: {{"choices":[],{TAIL % 7}}}\n\n'.encode()
MADE_ROLE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"/srv/models/q.gguf",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
)
FAULT = b'data: {"error":{"code":500,"message":"Compute error in /srv/x/y","type":"server_error"}}\n\n'
NAMED_FAULT = b'event: error\ndata: {"code":500,"message":"Compute error in /srv/x/y","type":"server_error"}\n\n'
LOADING = b'data: {"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}\n\n'
TOO_LONG = b'data: {"error":{"code":400,"type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":4}}\n\n'

COUNTED = Usage(2, 3, 2)
GAVE_UP = (UpstreamAnswered, "instance i broke the answer off: Compute error in [...]")
ENDED_EARLY = (UpstreamBroke, "instance i ended its answer before it was finished")
WENT_ON = (UpstreamBroke, "instance i went on after the end of its answer")


class Told(msgspec.Struct, frozen=True):
    """All that can be known of a stream after some bytes, and of its end."""

    out: bytes = b""
    last: bytes = b""
    committed: bool = True
    ended: bool = True
    error: tuple[type[Exception], str] | None = None
    events: int = 2
    usage: Usage = msgspec.field(default_factory=Usage)
    stop_reason: str = "end_turn"


def stream_(*, asked: bool = False, model: str = MODEL) -> ChatStream:
    return ChatStream(model=model, instance_id="i", usage_asked=asked)


def told(pieces: tuple[bytes, ...], *, asked: bool = False) -> Told:
    stream = stream_(asked=asked)
    out = b"".join([stream.feed(piece) for piece in pieces])
    last = stream.finish()
    error = None if stream.error is None else (type(stream.error), stream.error.message)
    return Told(out, last, stream.committed, stream.ended, error, stream.events, stream.usage, stream.stop_reason)


def nothing(**changes: object) -> Told:
    return msgspec.structs.replace(Told(committed=False, ended=False, events=0, stop_reason=""), **changes)


def cut(*events: bytes, **changes: object) -> Told:
    return msgspec.structs.replace(Told(our(*events), ended=False, events=1, stop_reason=""), **changes)


WHOLE = our(ROLE, HI, TEXT, STOP)
STREAMS: dict[str, tuple[bytes, bool, Told]] = {
    "an answer": (ROLE + HI + TEXT + STOP + DONE, False, Told(WHOLE + DONE)),
    "usage that was asked for": (
        ROLE + HI + TEXT + STOP + USAGE + DONE, True, Told(WHOLE + our(USAGE) + DONE, usage=COUNTED),
    ),
    "usage that was not asked for": (ROLE + HI + TEXT + STOP + USAGE + DONE, False, Told(WHOLE + DONE, usage=COUNTED)),
    "usage beside the end, asked for": (
        ROLE + HI + TEXT + chunk("{}", '"length"', more="," + COUNTS) + DONE, True,
        Told(our(ROLE, HI, TEXT, chunk("{}", '"length"', more="," + COUNTS)) + DONE, usage=COUNTED,
             stop_reason="max_tokens"),
    ),
    "usage beside the end, not asked for": (
        ROLE + HI + TEXT + chunk("{}", '"stop"', more="," + COUNTS) + DONE, False, Told(WHOLE + DONE, usage=COUNTED),
    ),
    "usage before the end": (
        ROLE + HI + USAGE + TEXT + STOP + DONE, True, Told(WHOLE + our(USAGE) + DONE, usage=COUNTED),
    ),
    "CR LF": ((ROLE + HI + TEXT + STOP + DONE).replace(b"\n", b"\r\n"), False, Told(WHOLE + DONE)),
    "comments everywhere": (
        COMMENT + ROLE + COMMENT + b": x\n" + HI + COMMENT + TEXT + STOP + COMMENT + DONE, False, Told(WHOLE + DONE),
    ),
    "no space after data:": (b"".join([b"data:" + it[6:] for it in (ROLE, HI, TEXT, STOP, DONE)]), False,
                             Told(WHOLE + DONE)),
    "JSON on several lines": (ROLE + HI.replace(b',"id"', b',\ndata: "id"') + TEXT + STOP + DONE, False,
                              Told(our(ROLE) + our(HI).replace(b',"id"', b', "id"') + our(TEXT, STOP) + DONE)),
    "names of events": (b"event: x\n" + ROLE + b"event: y\n" + HI + TEXT + STOP + DONE, False, Told(WHOLE + DONE)),
    "what comes after the end": (ROLE + HI + TEXT + STOP + DONE + HI + FAULT + b"data: {", False, Told(WHOLE + DONE)),
    "other times": (
        ROLE + chunk('{"content":"Grüße"}', created=8) + TEXT + chunk("{}", '"stop"', created=9) + DONE, False,
        Told(WHOLE + DONE),
    ),
    "a second role": (ROLE + HI + ROLE + TEXT + STOP + DONE, False, Told(our(ROLE, HI, ROLE, TEXT, STOP) + DONE)),
    "progress": (PROGRESS + ROLE + HI + TEXT + STOP + DONE, False,
                 Told(our(PROGRESS, ROLE, HI, TEXT, STOP) + DONE, usage=Usage(9, 0, None))),
    "no role": (HI + TEXT + STOP + DONE, False, Told(our(MADE_ROLE, HI, TEXT, STOP) + DONE)),
    "chunks without a choice": (NO_CHOICE + ROLE + NO_CHOICE + HI + TEXT + STOP + NO_CHOICE + DONE, True,
                                Told(WHOLE + DONE)),
    "nothing said": (ROLE + STOP + DONE, False, Told(our(ROLE, STOP) + DONE, events=0)),
    "thoughts": (ROLE + THOUGHT + HI + STOP + DONE, False, Told(our(ROLE, THOUGHT, HI, STOP) + DONE)),
    "a call": (ROLE + CALL + CALL_END + chunk("{}", '"tool_calls"') + DONE, False,
               Told(our(ROLE, CALL, CALL_END, chunk("{}", '"tool_calls"')) + DONE, stop_reason="tool_use")),
    "a call of a server that says stop": (ROLE + CALL + CALL_END + STOP + DONE, False,
                                          Told(our(ROLE, CALL, CALL_END, STOP) + DONE, stop_reason="tool_use")),
    "a refusal": (ROLE + chunk('{"refusal":"no"}') + chunk("{}", '"content_filter"') + DONE, False,
                  Told(our(ROLE, chunk('{"refusal":"no"}'), chunk("{}", '"content_filter"')) + DONE, events=1,
                       stop_reason="refusal")),
    "an end for the second time": (ROLE + HI + TEXT + STOP + STOP + DONE, False, Told(WHOLE + DONE)),
    "two choices": (ROLE + chunk('{"content":"a"}', index=1) + STOP + chunk("{}", '"stop"', index=1) + DONE, False,
                    Told(our(ROLE, chunk('{"content":"a"}', index=1), STOP, chunk("{}", '"stop"', index=1)) + DONE,
                         events=1)),
    # over without [DONE]
    "no [DONE]": (ROLE + HI + TEXT + STOP, False, Told(WHOLE, DONE)),
    "no [DONE], and usage": (ROLE + HI + TEXT + STOP + USAGE, True, Told(WHOLE, our(USAGE) + DONE, usage=COUNTED)),
    "half a [DONE]": (ROLE + HI + TEXT + STOP + b"data: [DO", False, Told(WHOLE, DONE)),
    # cuts
    "no end": (ROLE + HI, False, cut(ROLE, HI)),
    "an event in halves": (ROLE + HI + TEXT[:30], False, cut(ROLE, HI)),
    "the role alone": (ROLE, False, nothing()),
    "progress alone": (PROGRESS + COMMENT + PROGRESS, False, nothing(usage=Usage(9, 0, None))),
    "one choice of two without end": (ROLE + chunk('{"content":"a"}', index=1) + STOP, False,
                                      cut(ROLE, chunk('{"content":"a"}', index=1), STOP, stop_reason="end_turn")),
    "usage alone": (USAGE, True, nothing(usage=COUNTED)),
    "comments": (COMMENT * 3, False, nothing()),
    "nothing": (b"", False, nothing()),
    "[DONE] without an end": (ROLE + HI + DONE, False, cut(ROLE, HI, error=ENDED_EARLY)),
    "[DONE] alone": (DONE, False, nothing(error=ENDED_EARLY)),
    "[DONE] before one choice of two": (
        ROLE + chunk('{"content":"a"}', index=1) + STOP + DONE, False,
        cut(ROLE, chunk('{"content":"a"}', index=1), STOP, stop_reason="end_turn", error=ENDED_EARLY),
    ),
    "content after the end": (ROLE + HI + STOP + TEXT + DONE, False,
                              cut(ROLE, HI, STOP, error=WENT_ON, stop_reason="end_turn")),
    "a server that gave up": (ROLE + HI + chunk("{}", '"abort"') + DONE, False,
                              cut(ROLE, HI, error=(UpstreamBroke, "instance i broke the answer off"))),
    "an error": (ROLE + HI + FAULT + TEXT + STOP + DONE, False, cut(ROLE, HI, error=GAVE_UP)),
    "an error that has a name": (ROLE + HI + NAMED_FAULT, False, cut(ROLE, HI, error=GAVE_UP)),
    "an error after the end": (ROLE + HI + STOP + FAULT, False,
                               cut(ROLE, HI, STOP, error=GAVE_UP, stop_reason="end_turn")),
    "an error before the first word": (ROLE + FAULT + HI, False, nothing(error=GAVE_UP)),
    "an instance that loads": (LOADING, False, nothing(error=(UpstreamLoading, "instance i is loading its model"))),
    "an error that is the client's": (
        TOO_LONG, False, nothing(error=(PromptTooLong, "prompt is too long: 9 tokens > 4 maximum")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_the_same_however_its_bytes_come(name: str) -> None:
    data, asked, expected = STREAMS[name]
    for pieces in every_way(data):
        assert expected == told(pieces, asked=asked), pieces


@pytest.mark.parametrize("name", [name for name, (_, _, end) in STREAMS.items() if end.ended and name != "two choices"])
def test_what_has_ended_is_legal_and_the_sdk_reads_it(name: str) -> None:
    _, asked, end = STREAMS[name]
    raw = end.out + end.last
    if "asked for" not in name and "chunks without" not in name:
        said = check_chat(raw, usage_asked=asked)
        assert MODEL == said.model
        text, calls, finish = sdk_said(sdk_chunks(raw))
        assert (said.text, said.finish_reason) == (text, finish)
        assert [(tool.name, tool.arguments) for tool in said.tools] == calls
    assert all(part.model == MODEL for part in sdk_chunks(raw))


def test_a_path_of_the_server_never_leaves_it_but_in_what_was_said() -> None:
    for data, asked, _ in STREAMS.values():
        out = told((data.replace(b'\\"/srv/models/q.gguf\\"', b""),), asked=asked).out
        assert b"/srv" not in out


@pytest.mark.parametrize("name", STREAMS)
def test_what_is_cut_has_not_ended(name: str) -> None:
    data, asked, expected = STREAMS[name]
    end = data.find(b'"stop"')
    for at in range(end if end >= 0 else len(data)):
        now = told((data[:at],), asked=asked)
        if b'finish_reason":"' not in data[:at]:
            assert (False, b"") == (now.ended, now.last)
        assert now.committed == bool(now.out)
        assert (expected.out + expected.last).startswith(now.out)


# ---------------------------------------------------------------- the short path


def framed(stream: ChatStream, event: bytes) -> bytes | None:
    """What goes out the short way, out of its framing."""
    out = stream.through(b"1a\r\n" + event + b"\r\n", 4)
    if out is None:
        return None
    head, _, rest = out.partition(b"\r\n")
    assert (int(head, 16), rest[-2:]) == (len(rest) - 2, b"\r\n")
    return rest[:-2]


@pytest.mark.parametrize(
    ("before", "event", "passed"),
    [
        (our(ROLE, HI), our(HI), True),
        (our(ROLE, HI), our(TEXT), True),
        (our(ROLE, THOUGHT), our(THOUGHT), True),
        (ROLE + HI, HI, True),  # under our name
        (our(ROLE, HI) + HI, HI, True),
        (our(ROLE, HI), our(THOUGHT), False),  # another shape
        (our(ROLE, HI), our(CALL), False),
        (our(ROLE, HI, CALL), our(CALL), False),
        (
            our(ROLE, HI),
            our(HI).replace(b',"id"', b',"usage":null,"timings":{"prompt_n":1},"id"'),
            False,
        ),
        (our(ROLE, HI), HI, False),  # another name
        (our(ROLE, HI) + HI, our(HI), False),  # the name before was another
        (our(ROLE), our(HI), False),  # nothing is committed
        (b"", our(HI), False),
        (our(ROLE, HI), our(ROLE), False),  # no token
        (our(ROLE, HI), our(STOP), False),
        (our(ROLE, HI), our(USAGE), False),
        (our(ROLE, HI), our(NO_CHOICE), False),
        (our(ROLE, HI), our(chunk('{"content":"x"}', more="," + COUNTS)), False),
        (our(ROLE, HI), our(chunk('{"content":"x"}', created=8)), False),  # another time
        (our(ROLE, HI), our(chunk('{"content":"x"}', index=1)), False),  # a new choice
        (our(ROLE, HI), DONE, False),
        (our(ROLE, HI), COMMENT, False),
        (our(ROLE, HI), FAULT, False),
        (our(ROLE, HI), our(chunk('{"content":"x"}', more=',"error":{"code":500}')), False),
        (our(ROLE, HI), our(HI, HI), False),  # two events
        (our(ROLE, HI), our(HI)[:-1], False),  # no whole event
        (our(ROLE, HI), our(HI) + b":", False),
        (our(ROLE, HI), our(HI).replace(b"\n", b"\r\n"), False),
        (our(ROLE, HI), our(HI).replace(b',"id"', b',\r"id"'), False),
        (our(ROLE, HI), b": x\n" + our(HI), False),
        (our(ROLE, HI), our(HI).replace(b"{", b"{{", 1), False),  # no JSON
        (our(ROLE, HI), our(HI).replace(b'"7"', b'"7'), True),
        (our(ROLE, HI), our(HI).replace("ü".encode(), b"\xff"), False),
        (our(ROLE, HI, HI[:9]), our(HI)[9:], False),  # the rest of one
        (our(ROLE, HI, HI[:9]), our(HI), False),
        (our(ROLE, HI, STOP), our(HI), False),  # after the end
        (our(ROLE, HI, STOP, DONE), our(HI), False),
        (our(ROLE, HI) + FAULT, our(HI), False),  # after an error
    ],
)
def test_a_frame_goes_the_short_way_when_it_holds_one_common_event(before: bytes, event: bytes, passed: bool) -> None:
    stream, other = stream_(), stream_()
    stream.feed(before)
    events = stream.events
    out = framed(stream, event)
    assert passed == (out is not None)
    assert events + passed == stream.events
    if out is not None:
        other.feed(before)
        assert out == other.feed(event)


_EVENTS = [ROLE, HI, TEXT, THOUGHT, CALL, CALL_END, STOP, USAGE, DONE, FAULT, COMMENT, PROGRESS, NO_CHOICE]
_some = st.lists(st.sampled_from([*_EVENTS, *(our(it) for it in _EVENTS), HI * 2, b"data: {\n\n"]), max_size=8)


def fed(stream: ChatStream, event: bytes) -> bytes | None:
    try:
        return stream.feed(event)
    except msgspec.DecodeError:
        return None


@steady
@given(events=_some, asked=st.booleans())
def test_what_passes_as_it_is_would_have_been_fed_to_the_same_end(events: list[bytes], *, asked: bool) -> None:
    short, long = stream_(asked=asked), stream_(asked=asked)
    for event in events:
        expected = fed(long, event)
        out = framed(short, event)
        assert expected == (fed(short, event) if out is None else out)
        assert (long.events, long.usage, long.stop_reason) == (short.events, short.usage, short.stop_reason)
        if expected is None:
            break
    assert (long.finish(), long.ended, long.committed) == (short.finish(), short.ended, short.committed)


def refusal(raw: bytes, *, asked: bool) -> str:
    try:
        check_chat(raw, usage_asked=asked)
    except Illegal as illegal:
        return str(illegal)
    return ""


@steady
@given(events=_some, asked=st.booleans())
def test_what_ends_cleanly_is_legal_whatever_came(events: list[bytes], *, asked: bool) -> None:
    stream = stream_(asked=asked)
    out = b""
    for event in events:
        more = fed(stream, event)
        if more is None:
            break
        out += more
    out += stream.finish()
    assert stream.committed == bool(out)
    if stream.ended:
        assert stream.error is None
        assert 1 == out.count(b"\n" + DONE)
        # What a server says in its own words is not put right: its calls, and usage that it does not send.
        assert not (why := refusal(out, asked=asked)) or any(
            it in why for it in ("arguments", "tool call", "id or a name", "was asked for")
        )
    else:
        assert b"\n" + DONE not in out


@steady
@given(
    data=st.binary(max_size=300)
    | st.lists(st.sampled_from([b"data: ", b"\n", b"{", b"}", b'"', b"[DONE]"])).map(b"".join)
)
def test_arbitrary_bytes_never_end_an_answer(data: bytes) -> None:
    for before in (b"", ROLE, ROLE + HI):
        stream = stream_()
        stream.feed(before)
        assert fed(stream, data) in {None, b""}
        assert (b"", False) == (stream.finish(), stream.ended)


@pytest.mark.parametrize(
    "event",
    [
        b"data: {\n\n", b"data: oops\n\n", b"data: []\n\n", b'data: {"x":"\xff"}\n\n', b'data: {"choices":7}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\ud800"}}]}\n\n', b'data: {"model":7}\n\n',
        b'data: {"x":%b}\n\n' % (b"[" * 100_000 + b"]" * 100_000),
    ],
    ids=lambda event: event[:24].decode("latin-1"),
)  # fmt: skip
def test_an_event_that_is_no_chunk_breaks_the_stream(event: bytes) -> None:
    stream = stream_()
    stream.feed(ROLE + HI)
    with pytest.raises(msgspec.DecodeError):
        stream.feed(event)
    assert (b"", False) == (stream.finish(), stream.ended)


def test_an_event_without_end_is_given_up() -> None:
    with pytest.raises(EventTooLarge):
        stream_().feed(b"data: " + b"x" * MAX_EVENT_BYTES)


def test_chunks_without_a_word_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_repair, "MAX_EVENT_BYTES", 3 * len(ROLE))
    stream = stream_()
    stream.feed(ROLE * 2)
    with pytest.raises(EventTooLarge, match="before the first word"):
        stream.feed(ROLE * 2)


# ---------------------------------------------------------------- real answers


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.sse")), ids=lambda path: path.stem)
def test_a_real_answer_is_made_exact(path: Path) -> None:
    """Its times differ from chunk to chunk, its model is the alias."""
    data = path.read_bytes()
    stream = stream_(asked=True)
    out = stream.feed(data) + stream.finish()
    assert data.count(b'"smollm2"') == out.count(MODEL.replace('"', '\\"').encode()) > 0
    assert b'"smollm2"' not in out
    if path.stem == "error":
        assert (False, True) == (stream.ended, isinstance(stream.error, UpstreamAnswered))
        with pytest.raises(openai.APIError, match="gave up"):
            sdk_chunks(out + chat_error_event("server_error", "gave up"))
        return
    assert (True, None) == (stream.ended, stream.error)
    if path.stem == "call_from_prefill":  # half of its arguments were in the prefill
        with pytest.raises(Illegal, match="arguments"):
            check_chat(out, usage_asked=True)
        return
    said = check_chat(out, usage_asked=True)
    assert said.usage is not None
    cached = said.usage["prompt_tokens_details"]["cached_tokens"]
    expected = Usage(said.usage["prompt_tokens"] - cached, cached, said.usage["completion_tokens"])
    assert expected == stream.usage
    assert said.text == sdk_said(sdk_chunks(out))[0]
    cuts = [(data[:at], data[at:]) for at in range(0, len(data), 7)]
    for pieces in [*cuts, tuple(data[at : at + 1] for at in range(len(data)))]:
        again = stream_(asked=True)
        assert out == b"".join([again.feed(piece) for piece in pieces]) + again.finish()


def test_a_real_server_is_asked_and_its_answer_is_exact(smollm2_pair: Pair) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"Say hi"}],"stream":true,"temperature":0,"max_tokens":9}'
    sent = prepare(body, decode_chat(body), model=None, default_max_tokens=None)
    stream = stream_()
    with httpx.stream("POST", f"{smollm2_pair[0].url}/v1/chat/completions", content=sent, timeout=60) as answer:
        out = b"".join([stream.feed(piece) for piece in answer.iter_raw()]) + stream.finish()
    said = check_chat(out)
    assert (MODEL, "length", True) == (said.model, said.finish_reason, bool(said.text))
    assert said.text == sdk_said(sdk_chunks(out))[0]
    assert (9, "max_tokens", True) == (stream.usage.output_tokens, stream.stop_reason, stream.ended)
