import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.translate.splice import with_max_tokens, with_model

steady = settings(derandomize=True, max_examples=200, deadline=None)


_raw_values = st.sampled_from(
    [b"1", b"-0", b"1e5", b"1.50", b"9" * 30, b'"\\u00e9"', '"é"'.encode(), b'"\\/"', b"[ 1 , 2 ]", b'{"model" : "x"}',
     b"null"]
)  # fmt: skip
_keys = st.text(max_size=6).filter(lambda key: key not in {"model", "max_tokens"})
_objects = st.dictionaries(_keys, _raw_values, max_size=5)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def written(fields: dict[str, bytes]) -> bytes:
    return b" {%b } " % b" ,".join(msgspec.json.encode(key) + b": " + value for key, value in fields.items())


def read(body: bytes) -> dict[str, bytes]:
    return {key: bytes(value) for key, value in _fields.decode(body).items()}


@steady
@given(fields=_objects, model=st.text(max_size=8))
def test_every_value_but_the_models_name_keeps_its_bytes_and_its_place(fields: dict[str, bytes], model: str) -> None:
    body = written({"content": b"[]", "model": b'"q"'} | fields)
    expected = {"content": b"[]", "model": msgspec.json.encode(model)} | fields
    assert list(expected.items()) == list(read(with_model(body, model)).items())


def test_a_model_is_named_where_none_was() -> None:
    assert b'{"x":1,"model":"m"}' == with_model(b'{"x":1}', "m")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":%b}' % (b"[" * 100_000 + b"]" * 100_000)])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        with_model(body, "m")


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
