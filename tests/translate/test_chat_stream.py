import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid, UpstreamAnswered, UpstreamBroke
from router.translate.answer import Usage
from router.translate.chat_response import completion_of
from router.translate.chat_stream import MessagesToChat
from router.wire.chat import chat_error_event
from router.wire.sse import MAX_EVENT_BYTES, EventTooLarge
from tests.rig.legality import check
from tests.rig.legality_chat import check_chat
from tests.rig.openai_sdk import sdk_chunks, sdk_said
from tests.wire.every_way import every_way

steady = settings(derandomize=True, max_examples=200, deadline=None)
NATIVE = Path(__file__).parent.parent / "captures" / "native"
MODEL = 'my "coder"'


def event(name: str, **data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data}, ensure_ascii=False)}\n\n".encode()


def opens(index: int, kind: str, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block={"type": kind, **block})


def adds(index: int, kind: str, **delta: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **delta})


def closes(index: int) -> bytes:
    return event("content_block_stop", index=index)


def ends(reason: str | None, **usage: Any) -> bytes:
    return event(
        "message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage or {"output_tokens": 9}
    )


def out(delta: str, finish: str = "null") -> bytes:
    choice = f'{{"index":0,"delta":{delta},"finish_reason":{finish}}}'
    return HEAD + f',"choices":[{choice}]}}\n\n'.encode()


HEAD = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"my \\"coder\\""'
START = event(
    "message_start",
    message={
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 1,
        },
    },
)  # fmt: skip
PING = event("ping")
STOP = event("message_stop")
TEXT = opens(0, "text", text="") + adds(0, "text_delta", text="Grüße") + adds(0, "text_delta", text="\n\n[DONE]")
THINKING = (
    opens(0, "thinking", thinking="", signature="")
    + adds(0, "thinking_delta", thinking="hm")
    + adds(0, "signature_delta", signature="s")
    + closes(0)
)
CALL = (
    opens(1, "tool_use", id="toolu_1", name="f", input={})
    + adds(1, "input_json_delta", partial_json="")
    + adds(1, "input_json_delta", partial_json='{"a":')
    + adds(1, "input_json_delta", partial_json='"}"}')
    + closes(1)
)
OVERLOADED = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
DONE = b"data: [DONE]\n\n"
USAGE = HEAD + (
    b',"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":9,"total_tokens":19,'
    b'"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":2}}}\n\n'
)

ROLE_ = out('{"role":"assistant","content":""}')
TEXT_ = out('{"content":"Grüße"}') + out('{"content":"\\n\\n[DONE]"}')
THOUGHT_ = out('{"reasoning_content":"hm"}')


def new_(index: int, id_: str = "toolu_1", name: str = "f") -> bytes:
    function = f'{{"name":"{name}","arguments":""}}'
    return out(f'{{"tool_calls":[{{"index":{index},"id":"{id_}","type":"function","function":{function}}}]}}')


def piece_(index: int, arguments: str) -> bytes:
    return out(f'{{"tool_calls":[{{"index":{index},"function":{{"arguments":{json.dumps(arguments)}}}}}]}}')


CALL_ = new_(0) + piece_(0, '{"a":') + piece_(0, '"}"}')


class Told(msgspec.Struct, frozen=True):
    """All that can be known of a stream after some bytes, and of its end."""

    out: bytes = b""
    ended: bool = True
    error: tuple[type[Exception], str] | None = None
    events: int = 2
    usage: Usage = msgspec.field(default_factory=lambda: Usage(7, 3, 9))
    stop_reason: str = "end_turn"


def stream_(*, asked: bool = False) -> MessagesToChat:
    return MessagesToChat(model=MODEL, instance_id="i", completion_id="chatcmpl-1", created_s=7, usage_asked=asked)


def told(pieces: tuple[bytes, ...], *, asked: bool = False) -> Told:
    stream = stream_(asked=asked)
    given = b"".join([stream.feed(piece) for piece in pieces]) + stream.finish()
    assert stream.committed == bool(given)
    error = None if stream.error is None else (type(stream.error), stream.error.message)
    return Told(given, stream.ended, error, stream.events, stream.usage, stream.stop_reason)


def cut(out: bytes = b"", *, events: int = 0, usage: Usage | None = None, stop_reason: str = "") -> Told:
    return Told(out, ended=False, events=events, usage=usage or Usage(7, 3, 1), stop_reason=stop_reason)


def broke(how: str, out: bytes = b"", **known: Any) -> Told:
    return msgspec.structs.replace(cut(out, **known), error=(UpstreamBroke, f"instance i {how}"))


WHOLE = ROLE_ + TEXT_ + out("{}", '"stop"') + DONE
OVER = (UpstreamAnswered, "instance i broke the answer off: Overloaded")
STREAMS: dict[str, tuple[bytes, bool, Told]] = {
    "a text": (START + TEXT + closes(0) + ends("end_turn") + STOP, False, Told(WHOLE)),
    "usage": (START + TEXT + closes(0) + ends("end_turn") + STOP, True, Told(WHOLE[: -len(DONE)] + USAGE + DONE)),
    "CR LF": ((START + TEXT + closes(0) + ends("end_turn") + STOP).replace(b"\n", b"\r\n"), False, Told(WHOLE)),
    "pings, comments and new events": (
        PING + b":\n\n" + START + PING + b": x\n\n" + TEXT + event("new") + closes(0) + ends("end_turn") + PING + STOP,
        False, Told(WHOLE),
    ),
    "what comes after the end": (
        START + TEXT + closes(0) + ends("end_turn") + STOP + OVERLOADED + TEXT + START, False, Told(WHOLE),
    ),
    "a block that starts with its text": (
        START + opens(0, "text", text="x") + closes(0) + ends("end_turn") + STOP, False,
        Told(ROLE_ + out('{"content":"x"}') + out("{}", '"stop"') + DONE, events=1),
    ),
    "nothing said": (START + ends("end_turn") + STOP, False, Told(ROLE_ + out("{}", '"stop"') + DONE, events=0)),
    "a thought and a call": (
        START + THINKING + CALL + ends("tool_use") + STOP, False,
        Told(ROLE_ + THOUGHT_ + CALL_ + out("{}", '"tool_calls"') + DONE, events=4, stop_reason="tool_use"),
    ),
    "a call and the wrong reason": (
        START + THINKING + CALL + ends("end_turn") + STOP, False,
        Told(ROLE_ + THOUGHT_ + CALL_ + out("{}", '"tool_calls"') + DONE, events=4),
    ),
    "no call and its reason": (
        START + TEXT + closes(0) + ends("tool_use") + STOP, False, Told(WHOLE, stop_reason="tool_use"),
    ),
    "a call without arguments": (
        START + opens(0, "tool_use", id="t", name="f", input={}) + closes(0) + ends("tool_use") + STOP, False,
        Told(ROLE_ + new_(0, "t") + piece_(0, "{}") + out("{}", '"tool_calls"') + DONE, stop_reason="tool_use"),
    ),
    "a call with its arguments in the start": (
        START + opens(0, "tool_use", id="t", name="f", input={"a": [1]}) + closes(0) + ends("tool_use") + STOP, False,
        Told(ROLE_ + new_(0, "t") + piece_(0, '{"a":[1]}') + out("{}", '"tool_calls"') + DONE, stop_reason="tool_use"),
    ),
    "a call broken off": (
        START + opens(0, "tool_use", id="t", name="f") + adds(0, "input_json_delta", partial_json='{"a') + closes(0)
        + ends("max_tokens") + STOP, False,
        Told(ROLE_ + new_(0, "t") + piece_(0, '{"a') + out("{}", '"length"') + DONE, stop_reason="max_tokens"),
    ),
    "blocks that the client cannot have": (
        START + opens(0, "redacted_thinking", data="x") + closes(0)
        + opens(1, "server_tool_use", id="s", name="web_search", input={})
        + adds(1, "input_json_delta", partial_json="{}") + closes(1)
        + opens(2, "web_search_tool_result", tool_use_id="s", content=[{"type": "x", "text": "no"}]) + closes(2)
        + opens(3, "text", text="") + adds(3, "text_delta", text="Grüße")
        + adds(3, "citations_delta", citation={"text": "c"}) + adds(3, "text_delta", text="\n\n[DONE]") + closes(3)
        + ends("end_turn") + STOP, False, Told(WHOLE),
    ),
    "two calls, overlapping": (
        START + opens(0, "tool_use", id="t", name="f") + opens(1, "tool_use", id="u", name="g")
        + adds(1, "input_json_delta", partial_json="{}") + adds(0, "input_json_delta", partial_json="{}")
        + closes(0) + closes(1) + ends("tool_use") + STOP, False,
        Told(ROLE_ + new_(0, "t") + new_(1, "u", "g") + piece_(1, "{}") + piece_(0, "{}") + out("{}", '"tool_calls"')
             + DONE, events=4, stop_reason="tool_use"),
    ),
    "numbers that come late": (
        event("message_start", message={}) + TEXT + closes(0)
        + ends("end_turn", input_tokens=5, cache_creation_input_tokens=2, cache_read_input_tokens=3, output_tokens=9)
        + STOP, True, Told(WHOLE[: -len(DONE)] + USAGE + DONE),
    ),
    "an end in two events": (
        START + TEXT + closes(0) + ends("end_turn", output_tokens=4) + ends(None, output_tokens=9) + STOP, False,
        Told(WHOLE),
    ),
    # cuts
    "no message_stop": (
        START + TEXT + closes(0) + ends("end_turn"), False,
        cut(ROLE_ + TEXT_, events=2, usage=Usage(7, 3, 9), stop_reason="end_turn"),
    ),
    "no end": (START + TEXT, False, cut(ROLE_ + TEXT_, events=2)),
    "the start alone": (START + PING, False, cut()),
    "nothing": (b"", False, cut(usage=Usage())),
    "an error": (START + TEXT + OVERLOADED + STOP, False,
                 msgspec.structs.replace(cut(ROLE_ + TEXT_, events=2), error=OVER)),
    "an error first": (OVERLOADED, False, msgspec.structs.replace(cut(usage=Usage()), error=OVER)),
    "an error that is the client's": (
        event("error", error={"type": "invalid_request_error", "message": "bad"}), False,
        msgspec.structs.replace(cut(usage=Usage()), error=(RequestInvalid, "bad")),
    ),
    "no start": (TEXT, False, broke("sent content_block_start out of its order", usage=Usage())),
    "two starts": (START + START, False, broke("sent message_start out of its order")),
    "a stop without an end": (START + TEXT + closes(0) + STOP, False,
                              broke("sent message_stop out of its order", ROLE_ + TEXT_, events=2)),
    "content after the end": (
        START + ends("end_turn") + TEXT, False,
        broke("sent content_block_start out of its order", usage=Usage(7, 3, 9), stop_reason="end_turn"),
    ),
    "no reason": (START + ends(None) + STOP, False,
                  broke("ended a message that is not finished", usage=Usage(7, 3, 9))),
    "a block that is not closed": (
        START + TEXT + ends("end_turn") + STOP, False,
        broke("ended a message that is not finished", ROLE_ + TEXT_, events=2, usage=Usage(7, 3, 9),
              stop_reason="end_turn"),
    ),
    "a block for the second time": (START + TEXT + closes(0) + opens(0, "text", text=""), False,
                                    broke("opened a block for the second time", ROLE_ + TEXT_, events=2)),
    "a delta of no block": (START + adds(0, "text_delta", text="x"), False, broke("added to a block that is not open")),
    "the end of no block": (START + closes(0), False, broke("closed a block that is not open")),
    "a call without a name": (START + opens(0, "tool_use", id="t"), False,
                              broke("sent a tool_use block without id or name")),
    "a call that is cut short": (
        START + opens(0, "tool_use", id="t", name="f") + adds(0, "input_json_delta", partial_json='{"a') + closes(0)
        + ends("tool_use") + STOP, False,
        broke("called a tool with arguments that are no JSON object", ROLE_ + new_(0, "t") + piece_(0, '{"a'), events=2,
              usage=Usage(7, 3, 9), stop_reason="tool_use"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_the_same_however_its_bytes_come(name: str) -> None:
    data, asked, expected = STREAMS[name]
    for pieces in every_way(data):
        assert expected == told(pieces, asked=asked), pieces


@pytest.mark.parametrize("name", [name for name, (_, _, end) in STREAMS.items() if end.ended])
def test_what_has_ended_is_legal_and_the_sdk_reads_it(name: str) -> None:
    _, asked, end = STREAMS[name]
    said = check_chat(end.out, usage_asked=asked)
    assert (MODEL, "chatcmpl-1", 7) == (said.model, said.id, said.created)
    text, calls, finish = sdk_said(sdk_chunks(end.out))
    assert (said.text, said.finish_reason) == (text, finish)
    assert [(tool.name, tool.arguments) for tool in said.tools] == calls


@pytest.mark.parametrize("name", [name for name, (_, _, end) in STREAMS.items() if not end.ended])
def test_what_has_not_ended_is_legal_with_the_error_that_is_added(name: str) -> None:
    raw = STREAMS[name][2].out + chat_error_event("server_error", "gave up")
    said = check_chat(raw, usage_asked=True)
    assert said.error is not None
    with pytest.raises(openai.APIError, match="gave up"):
        sdk_chunks(raw)


def test_a_stream_that_is_cut_anywhere_has_not_ended() -> None:
    for data, asked, expected in STREAMS.values():
        stop = data.find(STOP)
        for at in range(stop + len(STOP) if stop >= 0 else len(data)):
            now = told((data[:at],), asked=asked)
            assert not now.ended
            assert expected.out.startswith(now.out)


def test_an_overloaded_backend_may_be_replaced_by_another() -> None:
    for kind, retryable in (("overloaded_error", True), ("rate_limit_error", True), ("api_error", False)):
        stream = stream_()
        stream.feed(event("error", error={"type": kind, "message": "x"}))
        assert stream.error is not None
        assert retryable == stream.error.retryable


def test_nothing_goes_on_as_it_is() -> None:
    stream = stream_()
    stream.feed(START + TEXT)
    assert not stream.through(b"1a\r\n" + adds(0, "text_delta", text="x") + b"\r\n", 4)
    assert "MessagesToChat(i, SPEAKING, 2 events)" == repr(stream)


_EVENTS = [START, PING, TEXT, THINKING, CALL, closes(0), ends("end_turn"), ends("max_tokens"), STOP, OVERLOADED,
           opens(0, "tool_use", id="t", name="f"), adds(0, "input_json_delta", partial_json="{")]  # fmt: skip


@steady
@given(events=st.lists(st.sampled_from(_EVENTS), max_size=7), asked=st.booleans())
def test_what_ends_cleanly_is_legal_whatever_came(events: list[bytes], *, asked: bool) -> None:
    given = told((START, *events), asked=asked)
    if given.ended:
        check_chat(given.out, usage_asked=asked)
    else:
        assert b"\n" + DONE not in given.out
        check_chat(given.out + chat_error_event("server_error", "x"), usage_asked=asked)


_pieces = st.sampled_from([b"data: ", b"\n", b"{", b"}", b'"', b"[DONE]", b"event: error", b"event: message_stop"])


@steady
@given(data=st.binary(max_size=300) | st.lists(_pieces).map(b"".join))
def test_arbitrary_bytes_never_end_an_answer(data: bytes) -> None:
    for before in (b"", START, START + TEXT):
        stream = stream_()
        stream.feed(before)
        with suppress(msgspec.DecodeError):
            assert b"" == stream.feed(data)
        assert (b"", False) == (stream.finish(), stream.ended)


@pytest.mark.parametrize(
    "bad",
    [
        b"event: content_block_start\ndata: {\n\n",
        b"event: content_block_start\n\n",
        b'event: content_block_start\ndata: {"index":0}\n\n',
        b'event: content_block_start\ndata: {"index":"0","content_block":{}}\n\n',
        b'event: content_block_delta\ndata: {"index":0,"delta":{"type":"text_delta","text":7}}\n\n',
        b'event: content_block_delta\ndata: {"index":0,"delta":{"type":"text_delta","text":"\xff"}}\n\n',
        b'event: content_block_start\ndata: {"index":0,"content_block":{"type":"tool_use","id":"t","name":"f",'
        b'"input":{"a":"\xff"}}}\n\n',
        b'event: message_delta\ndata: {"delta":7}\n\n',
    ],
)
def test_an_event_of_another_shape_breaks_the_stream(bad: bytes) -> None:
    stream = stream_()
    stream.feed(START)
    with pytest.raises(msgspec.DecodeError):
        stream.feed(bad)
    assert not stream.ended


def test_an_event_without_end_is_given_up() -> None:
    with pytest.raises(EventTooLarge):
        stream_().feed(b"data: " + b"x" * MAX_EVENT_BYTES)


@pytest.mark.parametrize("path", sorted(NATIVE.glob("*.sse")), ids=lambda path: path.stem)
def test_a_real_llama_server_is_understood_or_refused(path: Path) -> None:
    """Its own dialect overlaps blocks, which does no harm here, and may leave out the start, which does."""
    data = path.read_bytes()
    given = told((data,), asked=True)
    if not given.ended:
        assert given.error is not None
        return
    native, said = check(data, "native"), check_chat(given.out, usage_asked=True)
    assert (native.text, native.thinking) == (said.text, said.reasoning)
    assert [tool.name for tool in native.tools] == [tool.name for tool in said.tools]


def test_a_streamed_answer_says_what_the_plain_one_says() -> None:
    message = {
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "}"}},
        ],
        "stop_reason": "tool_use",
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 2,
            "cache_read_input_tokens": 3,
            "output_tokens": 9,
        },
    }
    body, usage, reason = completion_of(json.dumps(message).encode(), model="m", completion_id="c", created_s=7)
    plain = json.loads(body)
    data, _, end = STREAMS["a thought and a call"]
    said = check_chat(told((data,), asked=True).out, usage_asked=True)
    choice = plain["choices"][0]
    assert (said.reasoning, said.finish_reason) == (choice["message"]["reasoning_content"], choice["finish_reason"])
    assert [(it.id, it.name, it.arguments) for it in said.tools] == [
        (it["id"], it["function"]["name"], it["function"]["arguments"]) for it in choice["message"]["tool_calls"]
    ]
    assert (said.usage, end.usage, end.stop_reason) == (plain["usage"], usage, reason)
