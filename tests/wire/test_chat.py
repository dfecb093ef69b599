import json
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid
from router.wire.chat import CONTEXT_EXCEEDED, DONE_EVENT, chat_error_body, chat_error_event, chat_words, decode_chat
from tests.captures.reading import captured
from tests.rig.legality_chat import check_chat
from tests.rig.openai_sdk import sdk_chunks, sdk_completion

steady = settings(derandomize=True, max_examples=300, deadline=None)
USER = {"role": "user", "content": "hi"}
GOOD: dict[str, Any] = {"model": "m", "messages": [USER]}


def body(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


def test_what_routing_needs_is_read_and_the_rest_stays_raw() -> None:
    head = decode_chat(
        b'{"model":"m","stream":true,"stream_options":{"include_usage":true,"new":1},"max_completion_tokens":9,'
        b'"prompt_cache_key":"k","user":"u","tools": [ 1 ],"seed":1,'
        b'"messages":[{"role":"system","content":[ ]},{"role":"assistant","tool_calls":[1]},'
        b'{"role":"user","content":  "h\\u00e9" },{"role":"ipython","content":null}]}'
    )
    assert ("m", True, True, 9, "k", "u") == (
        head.model, head.stream, head.usage_asked, head.answer_tokens, head.prompt_cache_key, head.user,
    )  # fmt: skip
    assert [("system", b"[ ]"), ("assistant", b""), ("user", b'"h\\u00e9"'), ("ipython", b"null")] == [
        (message.role, bytes(message.content)) for message in head.messages
    ]
    assert b"[ 1 ]" == bytes(head.tools)


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, False),
        ({"stream": True}, False),
        ({"stream": True, "stream_options": None}, False),
        ({"stream": True, "stream_options": {"include_usage": None}}, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True),
        ({"stream": False, "stream_options": {"include_usage": True}}, False),
    ],
)
def test_usage_is_asked_for_by_a_stream(changes: dict[str, Any], asked: bool) -> None:
    assert asked == decode_chat(body(**changes)).usage_asked


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"n_predict": -1}, -1),
    ],
)
def test_the_answers_limit_has_three_names(changes: dict[str, Any], tokens: int | None) -> None:
    assert tokens == decode_chat(body(**changes)).answer_tokens


def test_what_the_sdk_sends_is_read() -> None:
    heads = [decode_chat(it.body) for it in captured("/v1/chat/completions")]
    assert [(False, False), (True, True), (True, False)] == [(bool(it.stream), it.usage_asked) for it in heads]


BAD: list[tuple[bytes, str]] = [
    (b"", "The request has no body; send a JSON object with 'model' and 'messages'."),
    (b"{", "We could not parse the JSON body of your request: "),
    (body() + b"x", "We could not parse the JSON body of your request: trailing characters"),
    (b'{"model":%b}' % (b"[" * 100_000), "Invalid type for 'model': expected str, got array."),
    (b'{"x":%b}' % (b"[" * 100_000), "We could not parse the JSON body of your request: "),
    (b'{"model":"\xff"}', "The body is not valid UTF-8 at byte 10; encode the JSON as UTF-8."),
    (b"[]", "The body must be a JSON object: expected object, got array."),
    (b"{}", "Missing required parameter: 'model'."),
    (without("messages"), "Missing required parameter: 'messages'."),
    (body(model=7), "Invalid type for 'model': expected str, got int."),
    (body(model=""), "Invalid 'model': empty string."),
    (body(messages=[]), "Invalid 'messages': empty array."),
    (body(messages={}), "Invalid type for 'messages': expected array, got object."),
    (body(messages=[USER, {"content": "x"}]), "Missing required parameter: 'messages[1].role'."),
    (body(messages=[USER, {"role": 7}]), "Invalid type for 'messages[1].role': expected str, got int."),
    (body(messages=["x"]), "Invalid type for 'messages[0]': expected object, got str."),
    (body(messages=[{"role": "user", "content": 7}]), "Invalid type for 'messages[0].content': expected a string or"),
    (body(stream="yes"), "Invalid type for 'stream': expected bool | null, got str."),
    (body(stream_options=[]), "Invalid type for 'stream_options': expected object | null, got array."),
    (body(max_tokens=-1), "Invalid 'max_tokens': expected 0 or more tokens, but got -1."),
    (body(max_completion_tokens=-2), "Invalid 'max_completion_tokens': expected 0 or more tokens, but got -2."),
    (body(max_tokens="many"), "Invalid type for 'max_tokens': expected int | null, got str."),
]  # fmt: skip


@pytest.mark.parametrize(("data", "words"), BAD, ids=[words[:60] for _, words in BAD])
def test_a_refusal_names_the_field_as_openai_does(data: bytes, words: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        decode_chat(data)
    assert refused.value.message.startswith(words)
    assert len(refused.value.message) < 500


@steady
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RequestInvalid):
        decode_chat(data)


# ---------------------------------------------------------------- what is sent


@pytest.mark.parametrize(
    ("status", "type_", "code", "kind", "retried"),
    [
        (400, "invalid_request_error", None, openai.BadRequestError, False),
        (401, "invalid_request_error", "invalid_api_key", openai.AuthenticationError, False),
        (403, "invalid_request_error", "permission_denied", openai.PermissionDeniedError, False),
        (404, "invalid_request_error", "model_not_found", openai.NotFoundError, False),
        (405, "invalid_request_error", None, openai.APIStatusError, False),
        (408, "invalid_request_error", "request_timeout", openai.APIStatusError, True),
        (413, "invalid_request_error", "request_too_large", openai.APIStatusError, False),
        (429, "rate_limit_error", "rate_limit_exceeded", openai.RateLimitError, True),
        (500, "server_error", None, openai.InternalServerError, True),
        (502, "server_error", None, openai.InternalServerError, True),
        (503, "server_error", "overloaded", openai.InternalServerError, True),
        (504, "server_error", "timeout", openai.InternalServerError, True),
        (529, "server_error", "overloaded", openai.InternalServerError, True),
    ],
)
def test_the_sdk_knows_our_errors_and_what_to_try_again(
    status: int, type_: str, code: str | None, kind: type[openai.APIStatusError], retried: bool
) -> None:
    assert (type_, code) == chat_words(status)
    with pytest.raises(kind, match="told you") as raised:
        sdk_completion(chat_error_body(type_, "told you", code), status)
    assert (status, type_, code) == (raised.value.status_code, raised.value.type, raised.value.code)
    client = openai.OpenAI(api_key="k", base_url="http://router")
    assert retried == client._should_retry(httpx2.Response(status))


def test_an_error_has_openais_four_fields() -> None:
    expected = {"message": "x", "type": "invalid_request_error", "param": "messages", "code": CONTEXT_EXCEEDED}
    said = chat_error_body("invalid_request_error", "x", CONTEXT_EXCEEDED, "messages")
    assert {"error": expected} == json.loads(said)
    assert {"error": {"message": "x", "type": "t", "param": None, "code": None}} == json.loads(
        chat_error_body("t", "x")
    )


def test_an_error_event_ends_a_stream() -> None:
    event = chat_error_event("server_error", "two\nlines", "overloaded")
    assert check_chat(event).error == {
        "message": "two\nlines", "type": "server_error", "param": None, "code": "overloaded",
    }  # fmt: skip
    with pytest.raises(openai.APIError, match="two\nlines"):
        sdk_chunks(event)
    assert b"data: [DONE]\n\n" == DONE_EVENT
    assert [] == sdk_chunks(DONE_EVENT)
