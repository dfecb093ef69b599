import hashlib

import pytest

from router.config.keys import KeyEntry
from router.edge.auth import ANYBODY, Keys
from router.errors import Unauthorized
from router.relay.exchange import Caller


def entry(id_: str, key: bytes, team: str = "") -> KeyEntry:
    return KeyEntry(id=id_, sha256=hashlib.sha256(key).hexdigest(), team=team)


KEYS = Keys([entry("alice", b"sk-alice", "red"), entry("bob", b"sk-bob")])
ALICE, BOB = Caller(key_id="alice", team="red"), Caller(key_id="bob")


def x(value: bytes) -> tuple[bytes, bytes]:
    return b"x-api-key", value


def bearer(value: bytes) -> tuple[bytes, bytes]:
    return b"authorization", value


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ([x(b"sk-alice")], ALICE),
        ([x(b" sk-bob\t")], BOB),
        ([bearer(b"Bearer sk-alice")], ALICE),
        ([bearer(b"bearer sk-alice")], ALICE),
        ([bearer(b"BEARER   sk-alice ")], ALICE),
        ([x(b"sk-alice"), bearer(b"Bearer sk-bob")], ALICE),
        ([bearer(b"Bearer sk-bob"), x(b"sk-alice")], ALICE),
        ([x(b"sk-alice"), bearer(b"Basic YTpi")], ALICE),
        ([x(b"sk-alice"), bearer(b"")], ALICE),
        ([x(b""), bearer(b"Bearer sk-bob")], BOB),
        ([x(b"  "), bearer(b"Bearer sk-bob")], BOB),
        ([(b"content-type", b"x"), x(b"sk-alice")], ALICE),
    ],
)
def test_a_key_that_is_known_is_a_caller_and_x_api_key_wins(headers: list[tuple[bytes, bytes]], caller: Caller) -> None:
    assert caller == KEYS.caller(headers)


@pytest.mark.parametrize(
    ("headers", "phrase"),
    [
        ([], "no key came; send it as `x-api-key: KEY` or `Authorization: Bearer KEY`"),
        ([(b"api-key", b"sk-alice")], "no key came"),
        ([(b"cookie", b"x-api-key=sk-alice")], "no key came"),
        ([x(b"")], "no key came"),
        ([x(b" \t")], "no key came"),
        ([x(b"sk-carol")], "not known here"),
        ([x(b"sk-alice,sk-bob")], "not known here"),
        ([x(b"SK-ALICE")], "not known here"),
        ([x(b"sk-alic")], "not known here"),
        ([x(b"\xff\xfe")], "not known here"),
        ([x(hashlib.sha256(b"sk-alice").hexdigest().encode())], "not known here"),
        ([bearer(b"Bearer sk-carol")], "not known here"),
        ([x(b"sk-carol"), bearer(b"Bearer sk-alice")], "not known here"),
        ([bearer(b"")], "must be `Bearer KEY`"),
        ([bearer(b"Bearer")], "must be `Bearer KEY`"),
        ([bearer(b"Bearer  ")], "must be `Bearer KEY`"),
        ([bearer(b"sk-alice")], "must be `Bearer KEY`"),
        ([bearer(b"Basic sk-alice")], "must be `Bearer KEY`"),
        ([bearer(b"Bearer\tsk-alice")], "must be `Bearer KEY`"),
        ([x(b"sk-alice"), x(b"sk-bob")], "came twice"),
        ([x(b"sk-alice"), x(b"sk-alice")], "came twice"),
        ([x(b""), x(b"sk-alice")], "came twice"),
        ([bearer(b"Bearer sk-alice"), bearer(b"Bearer sk-bob")], "came twice"),
        ([x(b"sk-alice"), bearer(b"Bearer a"), bearer(b"Bearer b")], "came twice"),
    ],
)
def test_whoever_shows_no_good_key_is_told_why_and_the_key_is_not_repeated(
    headers: list[tuple[bytes, bytes]], phrase: str
) -> None:
    with pytest.raises(Unauthorized) as refused:
        KEYS.caller(headers)
    assert phrase in refused.value.message
    assert "sk-" not in refused.value.message


@pytest.mark.parametrize("headers", [[], [x(b"sk-carol")], [bearer(b"nonsense")], [x(b"a"), x(b"b")]])
def test_where_no_keys_are_configured_nobody_is_asked(headers: list[tuple[bytes, bytes]]) -> None:
    assert (ANYBODY, Caller(key_id="", team="")) == (Keys(None).caller(headers), ANYBODY)


def test_a_keys_file_without_keys_lets_nobody_in() -> None:
    with pytest.raises(Unauthorized):
        Keys([]).caller([x(b"sk-alice")])


def test_a_sum_in_capitals_is_the_same_sum() -> None:
    loud = KeyEntry(id="alice", sha256=hashlib.sha256(b"sk-alice").hexdigest().upper())
    assert Caller(key_id="alice") == Keys([loud]).caller([x(b"sk-alice")])


def test_keys_whose_sums_begin_alike_are_told_apart() -> None:
    known = hashlib.sha256(b"sk-alice").hexdigest()
    twin = KeyEntry(id="twin", sha256=known[:16] + "0" * 48)
    for keys in (Keys([twin, entry("alice", b"sk-alice")]), Keys([entry("alice", b"sk-alice"), twin])):
        assert "alice" == keys.caller([x(b"sk-alice")]).key_id
    with pytest.raises(Unauthorized):
        Keys([twin]).caller([x(b"sk-alice")])


def test_a_repr_counts_keys_and_shows_none() -> None:
    assert ("Keys[2 keys]", "Keys[nobody is asked]") == (repr(KEYS), repr(Keys(None)))
