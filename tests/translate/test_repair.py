import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid, UpstreamAnswered
from router.translate.repair import NativeStream, Usage, repair_message, with_max_tokens, with_model
from router.wire.sse import MAX_EVENT_BYTES, EventTooLarge
from tests.rig.legality import check
from tests.wire.every_way import every_way

steady = settings(derandomize=True, max_examples=200, deadline=None)

# ---------------------------------------------------------------- streams

START = (
    b'event: message_start\ndata: {"type": "message_start", "message":{"id":"chatcmpl-1","type":"message",'
    b'"role":"assistant","model":"/srv/models/q.gguf","content":[],"stop_reason":null,"stop_sequence":null,'
    b'"usage":{"cache_read_input_tokens":7,"input_tokens":12,"output_tokens":0}}}\n\n'
)
STARTED = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"chatcmpl-1","type":"message",'
    b'"role":"assistant","model":"my \\"coder\\"","content":[],"stop_reason":null,"stop_sequence":null,'
    b'"usage":{"cache_read_input_tokens":7,"input_tokens":12,"output_tokens":0}}}\n\n'
)
BLOCK = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
)
DELTAS = tuple(
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"%b"}}\n\n' % text.encode()
    for text in ("Grüße", ' \\"x\\"\\n\\n', "event: message_stop")
)
BLOCK_END = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
END = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
    b'"usage":{"output_tokens":3}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
COMMENT = b":\n\n"
BODY = BLOCK + b"".join(DELTAS) + BLOCK_END
WHOLE = START + BODY + END + STOP
REPAIRED = STARTED + BODY + END + STOP

# llama-server sends no message_start when its first token is a part of a character.
MADE_UP = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
    b'"content":[],"model":"my \\"coder\\"","stop_reason":null,"stop_sequence":null,'
    b'"usage":{"input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}\n\n'
)

FLAT = b'event: error\ndata: {"code":500,"message":"Compute error in /srv/x/y","type":"server_error"}\n\n'
WRAPPED = (
    b'event: error\ndata: {"type":"error","error":{"type":"server_error","message":"Compute error in /srv/x/y"}}\n\n'
)
TOO_LONG = (
    b'event: error\ndata: {"code":400,"message":"exceeds","type":"exceed_context_size_error",'
    b'"n_prompt_tokens":9001,"n_ctx":4096}\n\n'
)
UNREADABLE = b"event: error\ndata: what?\n\n"

GAVE_UP = (UpstreamAnswered, "instance i broke the answer off: Compute error in [...]")
PROMPT_TOO_LONG = (RequestInvalid, "prompt is too long: 9001 tokens > 4096 maximum")
ODD = (UpstreamAnswered, "instance i broke the answer off")


class Told(msgspec.Struct, frozen=True):
    """All that can be known of a stream after some bytes."""

    out: bytes = b""
    committed: bool = True
    ended: bool = False
    error: tuple[type[Exception], str] | None = None
    events: int = 0
    usage: Usage = msgspec.field(default_factory=lambda: Usage(12, 7, 0))
    stop_reason: str = ""


def told(pieces: tuple[bytes, ...]) -> Told:
    stream = NativeStream(model='my "coder"', instance_id="i", message_id="msg_1")
    out = b"".join([stream.feed(piece) for piece in pieces])
    error = None if stream.error is None else (type(stream.error), stream.error.message)
    return Told(out, stream.committed, stream.ended, error, stream.events, stream.usage, stream.stop_reason)


DONE = Told(REPAIRED, ended=True, events=3, usage=Usage(12, 7, 3), stop_reason="end_turn")
NOTHING = Told(committed=False, usage=Usage())

STREAMS: dict[str, tuple[bytes, Told]] = {
    "a whole answer": (WHOLE, DONE),
    "a whole answer with CR LF": (WHOLE.replace(b"\n", b"\r\n"), DONE),
    "comments everywhere": (
        COMMENT + START + COMMENT + BLOCK + COMMENT.join(DELTAS) + BLOCK_END + COMMENT + END + STOP,
        DONE,
    ),
    "a comment inside an event": (START + b": still here\n" + BLOCK, Told(STARTED + b": still here\n" + BLOCK)),
    "what comes after the end": (WHOLE + STOP + DELTAS[0] + FLAT + COMMENT + b"event: mess", DONE),
    "the start alone": (START, Told(STARTED)),
    "an event in halves": (START + BLOCK + DELTAS[0][:30], Told(STARTED + BLOCK)),
    "no end": (START + BODY, Told(STARTED + BODY, events=3)),
    "an end without message_stop": (
        START + BODY + END,
        Told(STARTED + BODY + END, events=3, usage=Usage(12, 7, 3), stop_reason="end_turn"),
    ),
    "events that are new": (START + b"event: new\ndata: {}\n\n", Told(STARTED + b"event: new\ndata: {}\n\n")),
    "pings of the instance": (START + b"event: ping\ndata: {}\n\n", Told(STARTED + b"event: ping\ndata: {}\n\n")),
    "data without a name": (START + b"data: {}\n\n", Told(STARTED)),
    "an end that counts nothing": (
        START + b'event: message_delta\ndata: {"delta":{},"usage":{}}\n\n',
        Told(STARTED + b'event: message_delta\ndata: {"delta":{},"usage":{}}\n\n'),
    ),
    "an error after the commit": (START + BLOCK + FLAT, Told(STARTED + BLOCK, error=GAVE_UP)),
    "a wrapped error after the commit": (START + BLOCK + WRAPPED, Told(STARTED + BLOCK, error=GAVE_UP)),
    "an error before the commit": (FLAT, msgspec.structs.replace(NOTHING, error=GAVE_UP)),
    "a wrapped error before the commit": (COMMENT + WRAPPED, msgspec.structs.replace(NOTHING, error=GAVE_UP)),
    "an error with CR LF": (FLAT.replace(b"\n", b"\r\n"), msgspec.structs.replace(NOTHING, error=GAVE_UP)),
    "an error that is the client's": (TOO_LONG, msgspec.structs.replace(NOTHING, error=PROMPT_TOO_LONG)),
    "an error that cannot be read": (START + UNREADABLE, Told(STARTED, error=ODD)),
    "what comes after an error": (START + FLAT + DELTAS[0] + END + STOP, Told(STARTED, error=GAVE_UP)),
    "a second error": (START + FLAT + TOO_LONG, Told(STARTED, error=GAVE_UP)),
    "deltas before a start": (DELTAS[0], msgspec.structs.replace(NOTHING, events=1)),
    "a start that the instance leaves out": (
        BODY + END + STOP,
        Told(MADE_UP + BODY + END + STOP, ended=True, events=3, usage=Usage(None, None, 3), stop_reason="end_turn"),
    ),
    "an end before a start": (STOP, NOTHING),
    "comments and nothing else": (COMMENT * 3, NOTHING),
    "nothing": (b"", NOTHING),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_the_same_however_its_bytes_come(name: str) -> None:
    data, expected = STREAMS[name]
    for pieces in every_way(data):
        assert expected == told(pieces), pieces


def test_a_stream_is_the_same_event_by_event() -> None:
    """As llama-server sends it: this is the short path."""
    assert DONE == told((START + BLOCK + DELTAS[0], *DELTAS[1:], BLOCK_END + END + STOP))
    assert DONE == told((START, BLOCK, *DELTAS, BLOCK_END, END, STOP))


def test_what_comes_after_an_error_is_dropped_event_by_event() -> None:
    assert Told(STARTED, error=GAVE_UP) == told((START, FLAT, *DELTAS, END, STOP))


@pytest.mark.parametrize(
    ("before", "event", "passed"),
    [
        (START, DELTAS[0], True),
        (START + BLOCK + DELTAS[0], DELTAS[1], True),
        (b"", DELTAS[0], False),  # nothing is committed
        (b"", START, False),
        (START, BLOCK, False),
        (START, END, False),
        (START, STOP, False),
        (START, COMMENT, False),
        (START, FLAT, False),
        (START, DELTAS[0] + DELTAS[1], False),  # two events
        (START, DELTAS[0][:-1], False),  # no whole event
        (START, DELTAS[0] + b":", False),
        (START, DELTAS[0].replace(b"\n", b"\r\n"), False),
        (START + DELTAS[0][:9], DELTAS[0][9:], False),  # the rest of one
        (START + DELTAS[0][:9], DELTAS[1], False),
        (WHOLE, DELTAS[0], False),  # after the end
        (START + FLAT, DELTAS[0], False),  # after an error
    ],
)
def test_a_frame_passes_as_it_is_when_it_holds_one_common_event(before: bytes, event: bytes, passed: bool) -> None:
    for head in (b"1a\r\n", b"1A;x=y\r\n"):
        stream = NativeStream(model="m", instance_id="i")
        stream.feed(before)
        events = stream.events
        assert passed == stream.passes(head + event + b"\r\n", len(head))
        assert events + passed == stream.events


@steady
@given(events=st.lists(st.sampled_from([START, BLOCK, *DELTAS, END, STOP, FLAT, COMMENT, DELTAS[0] * 2]), max_size=7))
def test_what_passes_as_it_is_would_have_been_fed_to_the_same_end(events: list[bytes]) -> None:
    stream = NativeStream(model='my "coder"', instance_id="i", message_id="msg_1")
    out = b""
    for event in events:
        out += event if stream.passes(b"1a\r\n" + event + b"\r\n", 4) else stream.feed(event)
    expected = told(tuple(events))
    assert (expected.out, expected.events, expected.ended) == (out, stream.events, stream.ended)


def test_a_repaired_stream_is_legal() -> None:
    message = check(told((WHOLE,)).out, "native", comments=False)
    assert ('my "coder"', 'Grüße "x"\n\nevent: message_stop') == (message.model, message.text)
    assert (12, 7, 3) == tuple(
        message.usage[name] for name in ("input_tokens", "cache_read_input_tokens", "output_tokens")
    )


def test_a_stream_that_is_cut_anywhere_has_not_ended() -> None:
    for data in (WHOLE, WHOLE.replace(b"\n", b"\r\n")):
        for cut in range(len(data)):
            now = told((data[:cut],))
            assert not now.ended
            assert REPAIRED.startswith(now.out)
            assert now.committed == bool(now.out)


@pytest.mark.parametrize(
    "start",
    [
        b"event: message_start\ndata: {\n\n",
        b"event: message_start\ndata: []\n\n",
        b"event: message_start\n\n",
        b'event: message_start\ndata: {"message":7}\n\n',
        b'event: message_start\ndata: {"message":{"usage":{"input_tokens":"many"}}}\n\n',
        b'event: message_start\ndata: {"message":{"stop_reason":"\xff"}}\n\n',
        b'event: message_start\ndata: {"message":%b}\n\n' % (b"[" * 100_000),
        b'event: message_start\ndata: {"message":{"x":%b}}\n\n' % (b"[" * 100_000 + b"]" * 100_000),
    ],
    ids=["cut JSON", "an array", "no data", "no message", "bad usage", "bad UTF-8", "deep and cut", "deep"],
)
def test_a_start_that_cannot_be_read_commits_nothing(start: bytes) -> None:
    stream = NativeStream(model="m", instance_id="i")
    with pytest.raises(msgspec.DecodeError):
        stream.feed(start)
    assert not stream.committed


@pytest.mark.parametrize(
    "end",
    [
        b"event: message_delta\ndata: {\n\n",
        b'event: message_delta\ndata: {"usage":7}\n\n',
        b'event: message_delta\ndata: {"delta":{"stop_reason":"\xff"}}\n\n',
    ],
    ids=["cut JSON", "bad usage", "bad UTF-8"],
)
def test_an_end_that_cannot_be_read_is_no_end(end: bytes) -> None:
    stream = NativeStream(model="m", instance_id="i")
    stream.feed(START)
    with pytest.raises(msgspec.DecodeError):
        stream.feed(end)
    assert (True, False) == (stream.committed, stream.ended)


def test_an_event_without_end_is_given_up() -> None:
    stream = NativeStream(model="m", instance_id="i")
    stream.feed(START)
    with pytest.raises(EventTooLarge):
        stream.feed(b"event: content_block_delta\ndata: " + b"x" * MAX_EVENT_BYTES)


@pytest.mark.parametrize(
    "message",
    [b'"message":{"id":"x"}', b'"message":{"model":"q.gguf","id":"x"}', b'"message":{"id":"x","model":null}'],
)
def test_the_start_names_the_model_that_the_client_asked_for(message: bytes) -> None:
    out = told((b'event: message_start\ndata: {"type":"message_start",%b}\n\n' % message,)).out
    assert b'"model":"my \\"coder\\""' in out
    assert b"gguf" not in out


@steady
@given(
    first=st.sampled_from([START, COMMENT, STOP]),
    events=st.lists(st.sampled_from([START, BLOCK, DELTAS[0], END, STOP, FLAT, COMMENT, b"data: x\n\n"]), max_size=6),
    crlf=st.booleans(),
)
def test_any_order_of_events_is_the_same_event_by_event_and_whole(
    first: bytes, events: list[bytes], crlf: bool
) -> None:
    pieces = tuple(event.replace(b"\n", b"\r\n") if crlf else event for event in (first, *events))
    whole = b"".join(pieces)
    assert told((whole,)) == told(pieces) == told(tuple(whole[at : at + 1] for at in range(len(whole))))


@steady
@given(events=st.lists(st.sampled_from([START, BLOCK, *DELTAS, END, FLAT, COMMENT]), max_size=7))
def test_without_message_stop_nothing_has_ended(events: list[bytes]) -> None:
    assert not told((b"".join(events),)).ended


# ---------------------------------------------------------------- plain answers


@pytest.mark.parametrize(
    ("body", "repaired", "usage", "stop_reason"),
    [
        (
            b'{"id":"x","model":"/srv/q.gguf","usage":{"input_tokens":5,"cache_read_input_tokens":0,"output_tokens":3},'
            b'"stop_reason":"end_turn","content":[]}',
            b'{"id":"x","model":"m","usage":{"input_tokens":5,"cache_read_input_tokens":0,"output_tokens":3},'
            b'"stop_reason":"end_turn","content":[]}',
            Usage(5, 0, 3),
            "end_turn",
        ),
        (b'{"content":[]}', b'{"content":[],"model":"m"}', Usage(), ""),
        (b'{"id":"x","model":null,"usage":null,"stop_reason":null,"content":[]}',
         b'{"id":"x","model":"m","usage":null,"stop_reason":null,"content":[]}', Usage(), ""),
        (b' {"mod\\u0065l" : "q" , "n": [ 1.0e5, 12345678901234567890123, "\\u00e9\\/" ], "content":[] } ',
         b'{"model":"m","n":[ 1.0e5, 12345678901234567890123, "\\u00e9\\/" ],"content":[]}', Usage(), ""),
        ('{"content":[{"text":"Grüße"}],"model":"q"}'.encode(),
         '{"content":[{"text":"Grüße"}],"model":"m"}'.encode(), Usage(), ""),
    ],
)  # fmt: skip
def test_a_plain_answer_names_the_clients_model_and_keeps_the_rest(
    body: bytes, repaired: bytes, usage: Usage, stop_reason: str
) -> None:
    assert (repaired, usage, stop_reason) == repair_message(body, model="m")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"{}", b'{"error":{}}', b"[]", b"null", b'"x"', b"oops", b'{"usage":[]}',
        b'{"usage":{"output_tokens":"3"}}',
        b'{"stop_reason":"\xff"}', b'{"x":%b}' % (b"[" * 100_000 + b"]" * 100_000),
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)  # fmt: skip
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        repair_message(body, model="m")


_raw_values = st.sampled_from(
    [
        b"1",
        b"-0",
        b"1e5",
        b"1.50",
        b"9" * 30,
        b'"\\u00e9"',
        '"é"'.encode(),
        b'"\\/"',
        b"[ 1 , 2 ]",
        b'{"model" : "x"}',
        b"null",
    ]
)
_keys = st.text(max_size=6).filter(lambda key: key not in {"model", "usage", "stop_reason", "max_tokens"})
_objects = st.dictionaries(_keys, _raw_values, max_size=5)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def written(fields: dict[str, bytes]) -> bytes:
    return b" {%b } " % b" ,".join(msgspec.json.encode(key) + b": " + value for key, value in fields.items())


def read(body: bytes) -> dict[str, bytes]:
    return {key: bytes(value) for key, value in _fields.decode(body).items()}


@steady
@given(fields=_objects, model=st.text(max_size=8))
def test_every_other_value_keeps_its_bytes_and_its_place(fields: dict[str, bytes], model: str) -> None:
    body = written({"content": b"[]", "model": b'"q"'} | fields)
    expected = {"content": b"[]", "model": msgspec.json.encode(model)} | fields
    assert list(expected.items()) == list(read(repair_message(body, model=model)[0]).items())
    assert list(expected.items()) == list(read(with_model(body, model)).items())


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"m"}', b'{"model":"m","max_tokens":8}'),
        (b'{"model":"m"}\n', b'{"model":"m","max_tokens":8}'),
        (b'{"model":"m" \r\n\t} \r\n\t', b'{"model":"m" \r\n\t,"max_tokens":8}'),
        (b'{"a":{"b":{}}}', b'{"a":{"b":{}},"max_tokens":8}'),
        (b'{"a":{"b":{} } }  ', b'{"a":{"b":{} } ,"max_tokens":8}'),
        (b'{"a":"}"}', b'{"a":"}","max_tokens":8}'),
        (b'{"a":"} "} ', b'{"a":"} ","max_tokens":8}'),
        (b'{"a":[{}]}', b'{"a":[{}],"max_tokens":8}'),
        (b'{"a":"\\\\1"}', b'{"a":"\\\\1","max_tokens":8}'),
    ],
)
def test_a_default_is_added_at_the_end_of_the_body(body: bytes, expected: bytes) -> None:
    assert expected == with_max_tokens(body, 8)


@steady
@given(fields=_objects, max_tokens=st.integers(1, 10**9), tail=st.sampled_from([b"", b" ", b"\n", b"\r\n\t "]))
def test_a_default_changes_nothing_but_itself(fields: dict[str, bytes], max_tokens: int, tail: bytes) -> None:
    body = written({"model": b'"m"'} | fields) + tail
    assert read(body) | {"max_tokens": b"%d" % max_tokens} == read(with_max_tokens(body, max_tokens))


def test_a_default_replaces_a_null() -> None:
    assert {"model": "m", "max_tokens": 8} == json.loads(with_max_tokens(b'{"max_tokens":null,"model":"m"}', 8))
