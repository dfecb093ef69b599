from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.chain import HEAD_BYTES, LONGEST_UNIT_BYTES, PIECE_BYTES, Chain, chain, common, opaque

steady = settings(derandomize=True, max_examples=200, deadline=None)
# Few and short, so that two lists often begin alike; some empty, some longer than a piece.
units = st.lists(st.sampled_from([b"", b"a", b"b", b"ab", b"a" * 16, b"a" * 17, b"c" * 5000]), max_size=12)
SEED = 7


def naive(one: Sequence[int], other: Sequence[int]) -> int:
    """One unit after the other."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def pieces(given_units: Sequence[bytes]) -> list[bytes]:
    """As the module's words have it, by other means."""
    out: list[bytes] = []
    for unit in given_units:
        while len(unit) > LONGEST_UNIT_BYTES:
            cut = range(0, len(unit), PIECE_BYTES)
            out += [unit[start : start + PIECE_BYTES] for start in cut[:-1]]
            unit = unit[cut[-1] :]
        out.append(unit)
    return out


@steady
@given(units)
def test_each_unit_has_an_id_an_end_and_a_head(given_units: list[bytes]) -> None:
    made = chain(SEED, given_units)
    cut = pieces(given_units)
    assert len(made) == len(made.ids) == len(made.ends) == len(cut)
    assert [sum(map(len, cut[: count + 1])) for count in range(len(cut))] == list(made.ends)
    assert HEAD_BYTES * len(cut) == len(made.heads)
    for place, piece in enumerate(cut):
        head = made.heads[HEAD_BYTES * place : HEAD_BYTES * (place + 1)]
        assert head == (piece[:HEAD_BYTES] + bytes(HEAD_BYTES))[:HEAD_BYTES]


@steady
@given(units, units)
def test_ids_are_equal_as_far_as_all_before_is_equal_and_no_further(one: list[bytes], other: list[bytes]) -> None:
    mine, theirs = chain(SEED, one), chain(SEED, other)
    alike = 0
    for a, b in zip(pieces(one), pieces(other), strict=False):
        if a != b:
            break
        alike += 1
    assert [a == b for a, b in zip(mine.ids, theirs.ids, strict=False)] == [
        place < alike for place in range(min(len(mine), len(theirs)))
    ]


@steady
@given(units, units, st.integers(min_value=0, max_value=60))
def test_the_binary_search_finds_what_the_plain_one_finds_wherever_it_looks_first(
    one: list[bytes], other: list[bytes], hint: int
) -> None:
    mine, theirs = chain(SEED, one), chain(SEED, other)
    assert naive(mine.ids, theirs.ids) == common(mine, theirs) == common(mine, theirs, hint) == common(theirs, mine)


@pytest.mark.parametrize("length", range(1, 20))
def test_every_place_of_difference_is_found_from_every_hint(length: int) -> None:
    whole = chain(SEED, [b"%d" % place for place in range(length)])
    for alike in range(length + 1):
        other = chain(SEED, [b"%d" % place if place < alike else b"x" for place in range(length)])
        assert {common(whole, other, hint) for hint in range(-1, length + 3)} == {alike}


@steady
@given(units, st.integers(min_value=0, max_value=40))
def test_a_chain_cut_anywhere_is_the_chain_of_what_is_left(given_units: list[bytes], count: int) -> None:
    cut = pieces(given_units)[:count]
    assert chain(SEED, given_units).first(count) == chain(SEED, cut)


def test_a_unit_is_cut_from_the_first_byte_too_many() -> None:
    assert len(chain(SEED, [b"a" * LONGEST_UNIT_BYTES])) == 1
    over = chain(SEED, [b"a" * (LONGEST_UNIT_BYTES + 1)])
    assert [PIECE_BYTES, 2 * PIECE_BYTES, 2 * PIECE_BYTES + 1] == list(over.ends)


def test_long_units_that_begin_alike_share_their_first_pieces() -> None:
    one, other = bytearray(b"a" * 10_000), bytearray(b"a" * 10_000)
    other[5_000] = 0
    assert common(chain(SEED, [bytes(one)]), chain(SEED, [bytes(other)])) == 5_000 // PIECE_BYTES


def test_where_a_unit_ends_matters() -> None:
    assert common(chain(SEED, [b"ab", b"c"]), chain(SEED, [b"a", b"bc"])) == 0
    assert common(chain(SEED, [b"a"]), chain(SEED, [b"", b"a"])) == 0


def test_another_seed_shares_nothing() -> None:
    assert common(chain(1, [b"a", b"b"]), chain(2, [b"a", b"b"])) == 0


# Replicas and the next release must agree.
def test_ids_are_the_same_everywhere_and_for_ever() -> None:
    expected = [9588405409926169189, 17222349796465907834, 15302399812790861474]
    assert expected == list(chain(SEED, [b"system", b"tool", b"hello"]).ids)


def test_an_opaque_chain_equals_itself_alone() -> None:
    assert opaque(5) == opaque(5)
    assert common(opaque(5), opaque(5)) == 1
    known = [chain(SEED, [b"a"]), chain(0, [b"a"]), opaque(6)]
    assert {common(opaque(5), other) for other in known} == {0}
    assert len({opaque(number).ids[0] for number in range(1000)}) == 1000
    assert opaque(2**64 - 1).size_bytes == 0
    assert len(opaque(5).heads) == HEAD_BYTES


def test_an_empty_chain_has_nothing_in_common() -> None:
    nothing = chain(SEED, [])
    assert nothing == Chain(array("Q"), array("Q"), b"")
    assert nothing.size_bytes == 0
    assert common(nothing, chain(SEED, [b"a"])) == 0 == common(nothing, nothing)


def test_a_chain_is_small_in_a_log_line() -> None:
    assert repr(chain(SEED, [b"ab", b"c"])) == "Chain[2 units, 3 bytes]"
