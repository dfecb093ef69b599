import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.wire.reading import bad_utf8_at, check_utf8, read

steady = settings(derandomize=True, max_examples=300, deadline=None)


class Shape(msgspec.Struct, frozen=True):
    a: str = ""
    b: msgspec.Raw = msgspec.Raw(b"null")


_decoder = msgspec.json.Decoder(Shape)
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("data", [b'{"a":"x","more":[]}', msgspec.Raw(b' {"a":"x"} ')])
def test_what_is_well_is_read(data: bytes | msgspec.Raw) -> None:
    assert Shape(a="x") == read(_decoder, data)


@pytest.mark.parametrize("data", [b"[]", b"null", b'{"a":1}', b'{"a":null}'])
def test_another_shape_is_told_from_what_is_no_json(data: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(_decoder, data)


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"{}{}", "malformed"),
        (b'{"a":"\xff"}', "invalid UTF-8"),
        (b'{"a":"\\ud800 is half"}', "surrogate"),
        (DEEP, "array"),  # refused for its shape, before its depth is seen
        (b'{"b":%b}' % DEEP, "nested too deeply"),
        (b'{"c":%b}' % DEEP, "nested too deeply"),
        (msgspec.Raw(b'{"c":%b}' % DEEP), "nested too deeply"),
    ],
    ids=[
        "nothing",
        "cut",
        "twice",
        "bad UTF-8",
        "half a letter",
        "deep",
        "deep raw",
        "deep unknown",
        "deep, raw itself",
    ],
)
def test_whatever_is_wrong_is_one_kind_of_error(data: bytes | msgspec.Raw, phrase: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=phrase):
        read(_decoder, data)


@steady
@given(data=st.binary(max_size=60) | st.binary(max_size=20).map(lambda text: b'{"a":"%b","b":%b}' % (text, text)))
def test_any_bytes_are_read_or_raise_that_error(data: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        assert isinstance(read(_decoder, data), Shape)


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b"", None), (b"plain", None), ("grün 🦙".encode(), None), (b"x\xff", 1), (b"\xc3", 0), (b"ab\xc3(", 2),
        (b"\xed\xa0\x80", 0), (b"\xc0\xaf", 0), ("🦙".encode()[:3], 0),
    ],
)  # fmt: skip
def test_the_first_byte_that_is_no_utf8_is_found(data: bytes, at: int | None) -> None:
    assert at == bad_utf8_at(data)
    if at is None:
        assert check_utf8(data) is data
    else:
        with pytest.raises(msgspec.DecodeError, match=rf"invalid UTF-8 \(byte {at}\)"):
            check_utf8(data)


def test_it_looks_into_what_the_decoder_skips() -> None:
    skipped = b'{"b":"\xff","c":"\xff"}'
    assert Shape(b=msgspec.Raw(b'"\xff"')) == read(_decoder, skipped)
    assert 6 == bad_utf8_at(skipped)
