import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid
from router.wire.anthropic import PING_EVENT, decode_messages, error_body, error_event
from router.wire.sse import event_data, event_name

steady = settings(derandomize=True, max_examples=300, deadline=None)

USER = {"role": "user", "content": "hi"}
GOOD: dict[str, Any] = {"model": "m", "max_tokens": 8, "messages": [USER]}


def body(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def without(*names: str) -> bytes:
    return json.dumps({name: value for name, value in GOOD.items() if name not in names}).encode()


def test_what_routing_needs_is_read_and_the_rest_stays_raw() -> None:
    head = decode_messages(
        b'{"model":"m","max_tokens":8,"stream":true,"system": [ {"type":"text", "text":"s"} ],'
        b'"metadata":{"user_id":"u","more":1},"thinking":{"type":"enabled"},'
        b'"messages":[{"role":"user","content":  "h\\u00e9" },{"role":"assistant","content":[ ]}]}'
    )
    assert ("m", 8, True) == (head.model, head.max_tokens, head.stream)
    assert b'[ {"type":"text", "text":"s"} ]' == bytes(head.system)
    assert [("user", "h\u00e9"), ("assistant", ())] == [(it.role, it.content) for it in head.messages]
    assert head.metadata is not None
    assert "u" == head.metadata.user_id


@pytest.mark.parametrize("name", ["max_tokens", "stream", "system", "metadata"])
def test_what_may_be_left_out_may_also_be_null(name: str) -> None:
    left_out, null = decode_messages(without(name)), decode_messages(body(**{name: None}))
    for head in (left_out, null):
        assert (None, b"null", None) == (
            head.max_tokens if name == "max_tokens" else None,
            bytes(head.system),
            head.metadata,
        )
        assert not head.stream


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_a_turn_may_be_of_three_roles(role: str) -> None:
    assert role == decode_messages(body(messages=[{"role": role, "content": []}])).messages[0].role


def test_unknown_fields_are_tolerated_everywhere() -> None:
    assert "m" == decode_messages(body(messages=[USER | {"new": {"x": [1]}}], newer=None)).model


BAD: list[tuple[bytes, list[str]]] = [
    (b"", ["no body", "send a JSON object with model, max_tokens and messages"]),
    (b"{", ["not valid JSON"]),
    (b'{"model":"m",}', ["not valid JSON", "byte 13"]),
    (b"model=m", ["not valid JSON", "byte 0"]),
    (body() + b" {}", ["not valid JSON"]),
    (b'{"model":"\xff"}', ["not valid UTF-8 at byte 10", "encode the JSON as UTF-8"]),
    ('{"model":"ä"}'.encode("latin-1"), ["not valid UTF-8", "encode the JSON as UTF-8"]),
    (json.dumps(GOOD | {"model": "ä"}, ensure_ascii=False).encode("utf-16"), ["not valid UTF-8"]),
    (b'{"model":"\\ud800","messages":[{"role":"user","content":""}]}', ["not valid JSON", "surrogate"]),
    (b"[]", ["the body must be a JSON object, not an array"]),
    (b"null", ["the body must be a JSON object, not null"]),
    (b'"hi"', ["the body must be a JSON object, not a string"]),
    (b"{}", ["model: field required", "GET /v1/models"]),
    (without("model"), ["model: field required", "GET /v1/models"]),
    (body(model=None), ["model: must be a string, not null", "GET /v1/models"]),
    (body(model=7), ["model: must be a string, not an integer", "GET /v1/models"]),
    (body(model=""), ["model: must not be empty", "GET /v1/models"]),
    (without("messages"), ["messages: field required", "send at least one message"]),
    (body(messages=None), ["messages: must be an array, not null", "send at least one message"]),
    (body(messages="hi"), ["messages: must be an array, not a string", "send at least one message"]),
    (body(messages=[]), ["messages: at least one message is required"]),
    (body(messages=["hi"]), ["messages.0: must be an object, not a string"]),
    (body(messages=[USER, None]), ["messages.1: must be an object, not null"]),
    (body(messages=[{"content": "hi"}]), ["messages.0.role: field required", '"user", "assistant", "system"']),
    (
        body(messages=[USER, {"role": "tool", "content": ""}]),
        ["messages.1.role: must not be 'tool'; one of ", '"user", "assistant", "system"'],
    ),
    (body(messages=[{"role": 1, "content": ""}]), ["messages.0.role: ", '"user", "assistant", "system"']),
    (body(messages=[{"role": "user"}]), ["messages.0.content: field required", "a string, or an array of content"]),
    (body(messages=[USER | {"content": None}]), ["messages.0.content: must be a string or an array", "not null"]),
    (body(messages=[USER, USER | {"content": {}}]), ["messages.1.content: must be a string or an array", "an object"]),
    (body(messages=[USER | {"content": 5}]), ["messages.0.content: must be a string or an array", "not an integer"]),
    (body(messages=[USER | {"content": -5}]), ["messages.0.content: must be a string or an array", "not an integer"]),
    (body(messages=[USER | {"content": True}]), ["messages.0.content: must be a string or an array", "not a boolean"]),
    (body(messages=[USER | {"content": False}]), ["messages.0.content: must be a string or an array", "not a boolean"]),
    (body(max_tokens="8"), ["max_tokens: must be an integer, not a string", "for example 1024"]),
    (body(max_tokens=1.5), ["max_tokens: must be an integer, not a number with a fraction", "for example 1024"]),
    (body(max_tokens=-1), ["max_tokens: must be an integer of 0 or more", "for example 1024"]),
    (body(max_tokens=True), ["max_tokens: must be an integer, not a boolean", "for example 1024"]),
    (body().replace(b"8", b"9" * 5000), ["max_tokens: ", "out of range", "for example 1024"]),
    (body(stream="yes"), ["stream: must be true or false, not a string", "true or false"]),
    (body(stream=1), ["stream: must be true or false, not an integer", "true or false"]),
    (body(system=5), ["system: must be a string or an array of text blocks", "not a number"]),
    (body(system={"text": "x"}), ["system: must be a string or an array of text blocks", "not an object"]),
    (body(system=True), ["system: must be a string or an array of text blocks", "not true"]),
    (body(metadata="u"), ["metadata: must be an object, not a string"]),
    (body(metadata={"user_id": 5}), ["metadata.user_id: must be a string, not an integer"]),
]


@pytest.mark.parametrize(("bad", "phrases"), BAD, ids=[bad[:60].decode("latin-1") for bad, _ in BAD])
def test_a_wrong_body_is_refused_with_the_field_and_the_fix(bad: bytes, phrases: list[str]) -> None:
    with pytest.raises(RequestInvalid) as refused:
        decode_messages(bad)
    for phrase in phrases:
        assert phrase in refused.value.message
    assert not re.search(r"[`|]|\b(expected|got|str|int|bool|float)\b", refused.value.message)  # a client writes JSON
    assert "$" not in refused.value.message


NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "deep",
    [
        NESTED,
        b'{"model":"m","messages":[{"role":"user","content":%b}]}' % NESTED,
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"system":%b}' % NESTED,
        b'{"unknown":%b,"model":"m","messages":[{"role":"user","content":"x"}]}' % NESTED,
    ],
    ids=["the body", "content", "system", "an unknown field"],
)
def test_a_body_nested_without_measure_is_a_bad_request(deep: bytes) -> None:
    with pytest.raises(RequestInvalid):
        decode_messages(deep)


def refusal(data: bytes) -> str | None:
    """Why the body is refused; None where it is read."""
    try:
        head = decode_messages(data)
    except RequestInvalid as refused:
        return refused.message
    return None if head.model and head.messages else "read, and empty"


def read(data: bytes) -> None:
    assert refusal(data) not in {"", "read, and empty"}


@steady
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    read(data)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@steady
@given(value=_json, field=st.sampled_from(["model", "messages", "max_tokens", "stream", "system", "metadata", "x"]))
def test_any_value_in_any_field_is_read_or_refused_by_that_fields_name(value: object, field: str) -> None:
    why = refusal(json.dumps(GOOD | {field: value}).encode())
    assert why is None or why.startswith((field, "the body is not valid JSON"))


@steady
@given(turns=st.lists(_json | st.fixed_dictionaries({}, optional={"role": _json, "content": _json}), max_size=3))
def test_any_turns_are_read_or_refused(turns: list[object]) -> None:
    read(json.dumps(GOOD | {"messages": turns}).encode())


@steady
@given(cut=st.integers(0, len(body())))
def test_a_body_that_ends_too_early_is_refused(cut: int) -> None:
    whole = body()
    if cut < len(whole):
        with pytest.raises(RequestInvalid):
            decode_messages(whole[:cut])


def test_the_error_envelope_is_the_messages_apis() -> None:
    assert (
        b'{"type":"error","error":{"type":"api_error","message":"say \\"hi\\"\\n"},"request_id":"req_1"}'
        == error_body("api_error", 'say "hi"\n', "req_1")
    )  # fmt: skip


def test_the_error_event_carries_the_same_envelope_on_one_line() -> None:
    event = error_event("overloaded_error", "a\nb", "req_1")
    assert (b"error", error_body("overloaded_error", "a\nb", "req_1")) == (event_name(event), event_data(event))
    assert (2, True) == (event.rstrip().count(b"\n") + 1, event.endswith(b"\n\n"))


def test_the_ping_is_an_event_of_its_own_type() -> None:
    assert {"type": "ping"} == msgspec.json.decode(event_data(PING_EVENT))
    assert (b"ping", True) == (event_name(PING_EVENT), PING_EVENT.endswith(b"\n\n"))
