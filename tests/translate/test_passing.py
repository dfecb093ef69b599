"""Answers of routes that are only passed on: what is changed in them, what ends them, and what is never believed."""

import json
from collections.abc import Callable, Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.translate.answer import AnswerStream, Usage
from router.translate.passing import PassStream, passed
from router.wire.sse import EventTooLarge
from tests.wire.every_way import every_way

steady = settings(derandomize=True, max_examples=300, deadline=None)
DONE = b"data: [DONE]\n\n"


def stream(model: str = "ours") -> PassStream:
    return PassStream(model=model, instance_id="one")


def data(value: object, name: str = "") -> bytes:
    line = f"data: {json.dumps(value, separators=(',', ':'))}\n\n"
    return (f"event: {name}\n{line}" if name else line).encode()


COMPLETIONS = [
    data({"id": "c", "choices": [{"index": 0, "text": "a", "finish_reason": None}], "model": "theirs"}),
    b": still here\n\n",
    data({"choices": [{"text": '"model":"theirs"', "finish_reason": "stop"}], "model": "theirs"}),
    data({"choices": [], "model": "theirs", "usage": {"prompt_tokens": 7, "completion_tokens": 2}}),
    DONE,
]
RESPONSES = [
    data({"type": "response.created", "response": {"model": "theirs", "status": "in_progress"}}, "response.created"),
    data({"type": "response.output_text.delta", "delta": "hi"}, "response.output_text.delta"),
    data(
        {
            "type": "response.completed",
            "response": {"model": "theirs", "usage": {"input_tokens": 7, "output_tokens": 2}},
        },
        "response.completed",
    ),
]
INFILL = [
    data({"index": 0, "content": "a", "stop": False}),
    data({"content": "", "stop": True, "model": "theirs", "stop_type": "eos"}),
]
WHOLE = {"completions": COMPLETIONS, "responses": RESPONSES, "infill": INFILL}
each = pytest.mark.parametrize("frames", WHOLE.values(), ids=WHOLE)


def played(made: AnswerStream, fed: Iterable[bytes]) -> bytes:
    return b"".join([made.feed(piece) for piece in fed]) + made.finish()


@each
def test_a_whole_stream_differs_in_the_models_name_alone(frames: list[bytes]) -> None:
    raw = b"".join(frames)
    made = stream()
    told = raw.replace(b": still here\n\n", b"").replace(b'"model":"theirs"', b'"model":"ours"')
    assert told == played(made, [raw])
    assert (made.committed, made.ended, made.error) == (True, True, None)


@each
def test_it_is_the_same_however_it_is_cut(frames: list[bytes]) -> None:
    raw = b"".join(frames)
    whole = stream()
    said = played(whole, [raw])
    for fed in every_way(raw):
        made = stream()
        assert said == played(made, fed)
        assert (whole.ended, whole.events, whole.usage) == (made.ended, made.events, made.usage)


@each
def test_without_its_last_event_it_is_not_whole(frames: list[bytes]) -> None:
    for kept in range(len(frames)):
        made = stream()
        played(made, frames[:kept])
        assert not made.ended
        assert made.committed == (kept > 0)


@pytest.mark.parametrize("name", ["response.incomplete", "response.failed", "response.completed"])
def test_each_way_in_which_a_response_ends_is_an_end(name: str) -> None:
    made = stream()
    played(made, [data({"response": {"model": "theirs"}}, name)])
    assert made.ended


def test_the_usage_of_either_kind_is_read() -> None:
    for frames in (COMPLETIONS, RESPONSES):
        made = stream()
        played(made, frames)
        assert made.usage == Usage(input_tokens=7, output_tokens=2)


def test_a_text_that_looks_like_the_models_name_stays() -> None:
    made = stream()
    said = played(made, COMPLETIONS)
    assert [json.loads(line[6:])["choices"][0]["text"] for line in said.split(b"\n\n")[:2]] == ["a", '"model":"theirs"']


def test_a_client_that_named_no_model_reads_the_instances() -> None:
    made = stream(model="")
    assert b"".join(INFILL) == played(made, INFILL)
    assert (b'{"model":"theirs"}', Usage(), "") == passed(b'{"model":"theirs"}', model="")


ERRORS: dict[str, Callable[[], bytes]] = {
    "named": lambda: data({"code": 500, "message": "broke"}, "error"),
    "an object": lambda: data({"error": {"code": 500, "message": "broke"}}),
    "a word": lambda: data({"error": "broke"}),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("before", [0, 1])
def test_an_error_in_the_stream_ends_it_unsaid(name: str, before: int) -> None:
    made = stream()
    said = played(made, [*COMPLETIONS[:before], ERRORS[name](), *COMPLETIONS])
    assert made.error is not None
    assert "broke" in made.error.message
    assert (made.ended, made.committed) == (False, before > 0)
    assert said == stream().feed(b"".join(COMPLETIONS[:before]))


def test_no_error_is_no_error() -> None:
    made = stream()
    played(made, [data({"error": None, "choices": []}), DONE])
    assert (made.ended, made.error) == (True, None)


def test_an_end_without_a_beginning_is_no_answer() -> None:
    made = stream()
    assert played(made, [DONE]) == b""
    assert (made.ended, made.committed) == (False, False)


def test_after_the_end_nothing_is_said() -> None:
    made = stream()
    played(made, COMPLETIONS)
    assert made.feed(COMPLETIONS[0]) == b""


def test_no_event_goes_past_the_stream() -> None:
    assert stream().through(data({"choices": []}), 0) is None


def test_what_is_not_json_is_not_forwarded() -> None:
    with pytest.raises(msgspec.DecodeError):
        stream().feed(b"data: <html>\n\n")


@pytest.mark.parametrize(
    ("body", "told", "usage"),
    [
        (b'{"model":"theirs","data":[]}', b'{"model":"ours","data":[]}', Usage()),
        (b'{"model": "theirs"}', b'{"model": "ours"}', Usage()),
        (b'{"tokens":[1,2]}', b'{"tokens":[1,2]}', Usage()),
        (b'[{"index":0,"score":1.5}]', b'[{"index":0,"score":1.5}]', Usage()),
        (
            b'{"usage":{"prompt_tokens":3,"total_tokens":3}}',
            b'{"usage":{"prompt_tokens":3,"total_tokens":3}}',
            Usage(input_tokens=3),
        ),
        (
            b'{"model":"theirs","usage":{"input_tokens":3,"output_tokens":0}}',
            b'{"model":"ours","usage":{"input_tokens":3,"output_tokens":0}}',
            Usage(input_tokens=3, output_tokens=0),
        ),
    ],
)
def test_a_plain_answer_gets_our_name_and_is_counted(body: bytes, told: bytes, usage: Usage) -> None:
    assert (told, usage, "") == passed(body, model="ours")


def test_a_name_with_quotes_is_written_as_json() -> None:
    body, _, _ = passed(b'{"model":"a\\"b"}', model='c"d')
    assert json.loads(body) == {"model": 'c"d'}


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"model":', b'{"model":1}', b"[1,", b"\xff"])
def test_what_is_no_answer_raises(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        passed(body, model="ours")


@steady
@given(fed=st.lists(st.sampled_from([*COMPLETIONS, *RESPONSES, *INFILL]) | st.binary(max_size=20), max_size=6))
def test_arbitrary_bytes_end_whole_only_after_a_last_event(fed: list[bytes]) -> None:
    made = stream()
    try:
        said = played(made, fed)
    except (msgspec.DecodeError, EventTooLarge):
        assert not made.ended
        return
    last = (b"[DONE]", b"response.completed", b'"stop":true')
    assert not made.ended or any(mark in said.split(b"\n\n")[-2] for mark in last)
    assert bool(said) == made.committed
