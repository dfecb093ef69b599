import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.wire.sse import MAX_EVENT_BYTES, EventSplitter, EventTooLarge, event_data, event_name, make_event
from tests.wire.every_way import every_way

steady = settings(derandomize=True, max_examples=300, deadline=None)

# What comes, the events in it, and what is kept of the next one.
TRANSCRIPTS = {
    "nothing": (b"", [], b""),
    "one event": (b"event: a\ndata: 1\n\n", [b"event: a\ndata: 1\n\n"], b""),
    "data alone": (b"data: 1\n\n", [b"data: 1\n\n"], b""),
    "two at once": (b"data: 1\n\ndata: 2\n\n", [b"data: 1\n\n", b"data: 2\n\n"], b""),
    "one and a half": (b"data: 1\n\ndata: ", [b"data: 1\n\n"], b"data: "),
    "half a blank line": (b"data: 1\n", [], b"data: 1\n"),
    "several data lines": (b"data: 1\ndata: 2\n\n", [b"data: 1\ndata: 2\n\n"], b""),
    "a comment": (b":\n\ndata: 1\n\n", [b":\n\n", b"data: 1\n\n"], b""),
    "a comment inside an event": (b": x\ndata: 1\n\n", [b": x\ndata: 1\n\n"], b""),
    "escapes that look like line ends": (b'data: "\\n\\n\\r"\n\n', [b'data: "\\n\\n\\r"\n\n'], b""),
    "letters of several bytes": ("data: ä€😀\n\n".encode(), ["data: ä€😀\n\n".encode()], b""),
    "CR LF": (b"event: a\r\ndata: 1\r\n\r\n", [b"event: a\ndata: 1\n\n"], b""),
    "CR LF, two at once": (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [b"data: 1\n\n", b"data: 2\n\n"], b""),
    "CR": (b"event: a\rdata: 1\r\r:", [b"event: a\ndata: 1\n\n"], b":"),
    "LF, then CR LF": (b"data: 1\n\ndata: 2\r\n\r\n", [b"data: 1\n\n", b"data: 2\n\n"], b""),
    "CR LF, then LF": (b"data: 1\r\n\r\ndata: 2\n\n", [b"data: 1\n\n", b"data: 2\n\n"], b""),
    "a line end of each kind": (b"data: 1\r\n\ndata: 2\n\r\n", [b"data: 1\n\n", b"data: 2\n\n"], b""),
    "blank lines and nothing else": (b"\n\n\n\n", [], b""),
    "blank lines in front": (b"\n\ndata: 1\n\n", [b"data: 1\n\n"], b""),
    "blank lines in front, CR LF": (b"\r\n\r\ndata: 1\r\n\r\n", [b"data: 1\n\n"], b""),
}


def split(pieces: tuple[bytes, ...]) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter()
    return [event for piece in pieces for event in splitter.feed(piece)], splitter.pending


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_events_are_the_same_however_the_bytes_come(name: str) -> None:
    data, events, pending = TRANSCRIPTS[name]
    for pieces in every_way(data):
        assert (events, pending) == split(pieces), pieces


_lines = st.lists(
    st.sampled_from([b"data: 1", b"event: a", b":", b": c", b"data: x: y", b"id: 7"]), min_size=1, max_size=3
)


@steady
@given(events=st.lists(_lines, max_size=4), line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_what_was_framed_comes_back_whatever_its_line_ends(events: list[list[bytes]], line_end: bytes) -> None:
    data = b"".join(line_end.join(lines) + line_end * 2 for lines in events) + b":"
    expected = [b"\n".join(lines) + b"\n\n" for lines in events]
    for pieces in every_way(data):
        assert (expected, b":") == split(pieces)


@steady
@given(data=st.lists(st.sampled_from([b"\n", b"\r", b"a", b":", b"\n\n", b"\r\n\r\n"]), max_size=8).map(b"".join))
def test_a_cut_changes_nothing_in_any_mixture_of_line_ends(data: bytes) -> None:
    whole = split((data,))
    for pieces in every_way(data):
        assert whole == split(pieces)


@steady
@given(data=st.binary(max_size=200))
def test_no_byte_but_line_ends_is_lost_or_made_up(data: bytes) -> None:
    events, pending = split((data,))
    kept = b"".join([*events, pending])
    assert data.replace(b"\r", b"").replace(b"\n", b"") == kept.replace(b"\r", b"").replace(b"\n", b"")


def test_an_event_without_end_is_given_up_beyond_the_cap() -> None:
    splitter = EventSplitter()
    assert [] == splitter.feed(b"x" * MAX_EVENT_BYTES)
    with pytest.raises(EventTooLarge, match=str(MAX_EVENT_BYTES)):
        splitter.feed(b"x")


def test_its_repr_tells_how_much_waits_and_not_what() -> None:
    splitter = EventSplitter()
    splitter.feed(b"data: secret")
    assert "EventSplitter(12 bytes wait)" == repr(splitter)


@pytest.mark.parametrize(
    ("event", "name", "data"),
    [
        (b"event: a\ndata: 1\n\n", b"a", b"1"),
        (b"event:a\ndata:1\n\n", b"a", b"1"),
        (b"data: 1\nevent: a\n\n", b"a", b"1"),
        (b"data: 1\n\n", b"", b"1"),
        (b"event: a\n\n", b"a", b""),
        (b"data: 1\ndata: 2\n\n", b"", b"1\n2"),
        (b"data:  1\n\n", b"", b" 1"),
        (b"data\n\n", b"", b""),
        (b": event: a\n\n", b"", b""),
        (b": c\nevent: a\ndata: 1\n\n", b"a", b"1"),
        (b'data: {"event: b"}\n\n', b"", b'{"event: b"}'),
    ],
)
def test_name_and_data_are_read_by_their_lines(event: bytes, name: bytes, data: bytes) -> None:
    assert (name, data) == (event_name(event), event_data(event))


def test_an_event_that_is_made_is_read_back() -> None:
    event = make_event(b"ping", b'{"type": "ping"}')
    assert b'event: ping\ndata: {"type": "ping"}\n\n' == event
    assert ([event], b"") == split((event,))
    assert (b"ping", b'{"type": "ping"}') == (event_name(event), event_data(event))
