import base64
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.signature import MAX_BYTES, PREFIX, seal, unseal


@given(
    st.one_of(st.text(min_size=1), st.builds(lambda it, times: it * times, st.text(min_size=1), st.integers(1, 2000)))
)
def test_what_was_sealed_is_restored(thinking: str) -> None:
    assert thinking == unseal(seal(thinking))


@given(st.one_of(st.text(), st.text().map(PREFIX.__add__), st.binary().map(lambda b: PREFIX + b.hex())))
def test_any_other_signature_is_read_as_nothing_or_as_a_text(signature: str) -> None:
    found = unseal(signature)
    assert found is None or signature.startswith(PREFIX)


def test_an_empty_text_has_no_signature() -> None:
    assert "" == seal("")


def test_a_signature_is_no_longer_than_the_text_needs() -> None:
    words = ["the", "file", "that", "I", "read", "says", "where", "each", "test", "goes", "and", "why", "not"]
    prose = " ".join(random.Random(1).choices(words, k=2000))
    assert len(seal(prose)) < len(prose) / 2
    assert prose == unseal(seal(prose))


def test_what_repeats_itself_is_sealed_all_the_same() -> None:
    assert "again and " * 5000 == unseal(seal("again and " * 5000))


def test_text_over_the_limit_is_not_sealed_and_the_longest_is() -> None:
    assert "a" * MAX_BYTES == unseal(seal("a" * MAX_BYTES))
    assert "" == seal("a" * (MAX_BYTES + 1))


def _packed(data: bytes) -> str:
    return PREFIX + base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "signature",
    [
        "",
        PREFIX,
        "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk",
        PREFIX + "not base64!",
        PREFIX + "é",
        _packed(b"not zlib"),
        _packed(zlib.compress(b"cut short")[:-3]),
        _packed(zlib.compress(b"more after") + b"x"),
        _packed(zlib.compress(b"\xff\xfe not text")),
        _packed(zlib.compress(b"a" * 10_000)),
        _packed(zlib.compress(b"a" * (MAX_BYTES + 1), 0)),
        _packed(zlib.compress(b"a" * (64 * MAX_BYTES))),
    ],
)
def test_damaged_foreign_or_swelling_signatures_restore_nothing(signature: str) -> None:
    assert unseal(signature) is None
