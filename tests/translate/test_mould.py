import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.translate.mould import Mould, framed, key_of
from router.wire.openai import chunk_decoder

KEY = b'"content":'
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a\\"b"}}],"created":7,"model":"m"}\n\n'


def cast(event: bytes = EVENT, key: bytes = KEY) -> Mould:
    mould = Mould()
    assert mould.cast(event, key)
    return mould


def test_what_stands_around_the_text_is_kept() -> None:
    mould = cast()
    assert mould.head == b'data: {"choices":[{"index":0,"delta":{"content":'
    assert mould.tail == b'}}],"created":7,"model":"m"}\n\n'


@given(text=st.text(min_size=1))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_the_same_with_any_other_text_fits(text: str) -> None:
    literal = json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")
    frame = framed(EVENT.replace(b'"a\\"b"', literal))
    found = cast().text(frame, frame.index(b"data"))
    try:
        msgspec.json.decode(literal, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        assert found is None
    else:
        assert found == literal


@pytest.mark.parametrize(
    "event",
    [
        EVENT.replace(b'"a\\"b"', b'""'),  # nothing said
        EVENT.replace(b'"a\\"b"', b"null"),
        EVENT.replace(b'"a\\"b"', b'"a","tool_calls":"b"'),  # more than a text
        EVENT.replace(b'"a\\"b"', b'"a\nb"'),
        EVENT.replace(b'"a\\"b"', b'"\xff"'),
        EVENT.replace(b'"created":7', b'"created":8'),
        EVENT.replace(b'"index":0', b'"index":1'),
        EVENT + EVENT,
        EVENT[:-1],
        b": x\n" + EVENT,
    ],
)
def test_whatever_else_differs_does_not_fit(event: bytes) -> None:
    frame = framed(event)
    assert cast().text(frame, frame.index(b"\r\n") + 2) is None


@pytest.mark.parametrize(
    "event",
    [
        EVENT.replace(b'"content"', b'"text"'),
        EVENT.replace(b'"content":', b'"content": '),
        EVENT.replace(b'"model":"m"', b'"content":"m"'),  # which of the two is it
        EVENT[:-1],
        b"",
    ],
)
def test_an_event_without_one_plain_text_gives_no_mould(event: bytes) -> None:
    mould = cast()
    assert not mould.cast(event, KEY)
    frame = framed(EVENT)
    assert mould.text(frame, frame.index(b"data")) is None


@pytest.mark.parametrize(
    ("delta", "more", "key"),
    [
        ({"content": "a"}, {}, KEY),
        ({"role": "assistant", "content": "a"}, {}, KEY),
        ({"content": None, "reasoning_content": "a"}, {}, b'"reasoning_content":'),
        ({"reasoning": "a"}, {}, b'"reasoning":'),
        ({"reasoning": "a", "content": "b"}, {}, b""),
        ({"content": "a", "tool_calls": [{"index": 0}]}, {}, b""),
        ({"content": "a", "refusal": "no"}, {}, b""),
        ({}, {}, b""),
        ({"content": "a"}, {"usage": {"prompt_tokens": 1}}, b""),
        ({"content": "a"}, {"finish_reason": "stop"}, b""),
        ({"content": "a"}, {"index": 1}, b""),
    ],
)
def test_the_key_is_that_of_the_only_thing_said(delta: object, more: dict[str, object], key: bytes) -> None:
    choice = {"index": more.pop("index", 0), "delta": delta, "finish_reason": more.pop("finish_reason", None)}
    assert key_of(chunk_decoder.decode(json.dumps({"choices": [choice], **more}))) == key
