import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.translate.chat_chunk import Naming, is_token, read_chunk, role_for
from router.wire import openai

steady = settings(derandomize=True, max_examples=300, deadline=None)
PATH = "/srv/models/q.gguf"


def exact(data: bytes, ours: str = "m", *, without: str = "") -> bytes:
    return Naming(ours).exact(data, read_chunk(data), without=without)


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (b'{"model":"/srv/models/q.gguf","id":"1"}', b'{"model":"m","id":"1"}'),
        (b'{"id":"1","model":"/srv/models/q.gguf"}', b'{"id":"1","model":"m"}'),
        (b'{"model": "/srv/models/q.gguf"}', b'{"model":"m"}'),
        (b'{"model":"\\/srv\\/models\\/q.gguf"}', b'{"model":"m"}'),
        (b'{"mod\\u0065l":"/srv/models/q.gguf"}', b'{"model":"m"}'),
        (b'{"model":null}', b'{"model":"m"}'),
        (b'{"id":"1"}', b'{"id":"1","model":"m"}'),
        (b'{"model":"/else","model":"/srv/models/q.gguf"}', b'{"model":"m"}'),
        # in nested objects too, and in the long path
        (b'{"model":"/q","x":{"model":"/q","y":[{"model":"/q"}]}}',
         b'{"model":"m","x":{"model":"m","y":[{"model":"m"}]}}'),
        (b'{"model": "/q","x":{"model":"/q"}}', b'{"model":"m","x":{"model":"m"}}'),
        # and never in what was said
        (
            b'{"choices":[{"delta":{"content":"{\\"model\\":\\"/q\\"}"}}],"model":"/q"}',
            b'{"choices":[{"delta":{"content":"{\\"model\\":\\"/q\\"}"}}],"model":"m"}',
        ),
        (
            b'{"choices":[{"delta":{"content":"\\"model"}}],"model":"/q"}',
            b'{"choices":[{"delta":{"content":"\\"model"}}],"model":"m"}',
        ),
    ],
)  # fmt: skip
def test_the_model_is_called_by_the_clients_name(said: bytes, sent: bytes) -> None:
    assert sent == exact(said)


def test_a_chunk_that_has_the_clients_name_is_not_copied() -> None:
    data = b'{"model":"m","created":7,"x":1}'
    naming = Naming("m")
    for _ in range(2):
        assert data is naming.exact(data, read_chunk(data))
    assert "Naming('m' -> 'm')" == repr(naming)


@pytest.mark.parametrize(
    ("later", "sent"),
    [
        (b'{"created":8,"model":"q"}', b'{"created":7,"model":"m"}'),
        (b'{"created": 8,"model":"q"}', b'{"created":7,"model":"m"}'),
        (b'{"model":"q","created":8}', b'{"model":"m","created":7}'),
        (b'{"model":"q"}', b'{"model":"m","created":7}'),
        (b'{"created":8,"x":{"created":8,"y":1},"model":"q"}', b'{"created":7,"x":{"created":8,"y":1},"model":"m"}'),
        (b'{"created":7,"model":"q"}', b'{"created":7,"model":"m"}'),
    ],
)
def test_all_chunks_have_the_time_of_the_first(later: bytes, sent: bytes) -> None:
    naming = Naming("m")
    for data in (b'{"model":"q"}', b'{"created":7,"model":"q"}'):
        naming.exact(data, read_chunk(data))
    assert sent == naming.exact(later, read_chunk(later))


def test_a_field_can_be_left_out() -> None:
    assert b'{"model":"m","x":[ 1.0 ]}' == exact(
        b'{"model":"q","usage":{"prompt_tokens":1},"x":[ 1.0 ]}', without="usage"
    )


_texts = st.text(alphabet='"\\model:{}x', max_size=12)
_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(_texts, st.just("q"), st.none(), st.integers(0, 9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.just("model"), _texts), inner, max_size=3)
    ),
    max_leaves=8,
)


def renamed(value: Any, key: str, *, top: bool = False) -> Any:
    """The claim: a value changes only where its key is `model`, or ends as one would in JSON text."""
    if isinstance(value, dict):
        return {name: renamed(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [renamed(one, "") for one in value]
    return "m" if value == "q" and (key == "model" or key.endswith('"model')) else value


@steady
@given(more=st.dictionaries(_texts.filter(lambda name: name != "model"), _values, max_size=4))
def test_renaming_by_bytes_changes_the_models_name_and_nothing_else(more: dict[str, Any]) -> None:
    for name in ("choices", "usage", "error", "created"):
        more.pop(name, None)
    data = msgspec.json.encode({**more, "model": "q"})
    assert {**renamed(more, ""), "model": "m"} == json.loads(exact(data))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"7", b'{"x":"\xff"}', b'{"x":"\\ud800"}', b'{"model":7}', b'{"choices":{}}',
        b'{"choices":[7]}', b'{"choices":[{"delta":{"content":7}}]}', b'{"created":"now"}',
        b'{"x":%b}' % (b"[" * 100_000),
    ],
    ids=lambda data: data[:24].decode("latin-1"),
)  # fmt: skip
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read_chunk(data)


@pytest.mark.parametrize(
    ("error", "failed"),
    [(b"null", False), (b"{}", False), (b'""', False), (b"false", False), (b'{"message":"x"}', True), (b'"x"', True)],
)
def test_an_error_field_counts_when_it_says_something(error: bytes, failed: bool) -> None:
    assert failed == read_chunk(b'{"error":%b}' % error).failed
    assert not read_chunk(b"{}").failed


@pytest.mark.parametrize(
    ("delta", "token"),
    [
        ({}, False),
        ({"content": ""}, False),
        ({"content": None}, False),
        ({"tool_calls": []}, False),
        ({"content": "x"}, True),
        ({"reasoning_content": "x"}, True),
        ({"reasoning": "x"}, True),
        ({"refusal": "x"}, True),
        ({"tool_calls": [{"index": 0, "function": {}}]}, True),
        ({"function_call": {"name": "f"}}, True),
    ],
)
def test_a_token_is_what_brings_something_of_the_answer(delta: object, token: bool) -> None:
    assert token == is_token(msgspec.convert(delta, openai.Delta))


def test_a_role_is_made_for_a_stream_that_starts_without_it() -> None:
    start = b'"choices":[{"index":0,"delta":{"content":"x"}}],"created":7,"id":"1","model":"m","timings":{}'
    assert (
        b'{"id":"1","created":7,"model":"m",'
        b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}'
    ) == role_for(b"{" + start + b"}")
    assert role_for(b'{"choices":[{"delta":{"role":"assistant"}}]}') is None
