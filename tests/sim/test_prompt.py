from array import array

from hypothesis import given
from hypothesis import strategies as st

from router.sim.prompt import chained, common

runs = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=6)


def blocks(made: list[tuple[int, int]]) -> list[int]:
    return [number for first, count in made for number in range(first, first + count)]


@given(runs, st.integers(0, 2**63))
def test_a_chain_has_an_id_for_each_block(made: list[tuple[int, int]], key: int) -> None:
    ids = chained(made, key)
    assert len(blocks(made)) == len(ids)
    assert len(set(ids)) == len(ids)


@given(runs, st.integers(1, 9), st.integers(0, 50))
def test_a_run_that_grows_and_a_run_that_is_added_keep_what_is_before(
    made: list[tuple[int, int]], more: int, other: int
) -> None:
    one = chained(made, 1)
    added = chained([*made, (other, more)], 1)
    assert len(one) == common(one, added)
    if made:
        first, count = made[-1]
        grown = chained([*made[:-1], (first, count + more)], 1)
        assert len(one) == common(one, grown)


def test_prompts_are_alike_up_to_the_first_run_that_differs() -> None:
    before = chained([(1, 347), (353, 12)], 5)
    assert 347 == common(before, chained([(1, 352)], 5))
    assert 359 == common(before, chained([(1, 347), (353, 71)], 5))
    assert 155 == common(before, chained([(1, 155), (7749, 1855)], 5))


def test_prompts_of_different_keys_have_nothing_in_common() -> None:
    assert 0 == common(chained([(1, 347)], 5), chained([(1, 347)], 6))


def test_the_same_blocks_at_another_place_are_other_blocks() -> None:
    one, other = chained([(1, 2), (7, 5)], 5), chained([(1, 3), (7, 5)], 5)
    assert 2 == common(one, other)
    assert set() == set(one[2:]) & set(other[3:])


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_the_search_finds_where_two_chains_part(same: int, mine: int, theirs: int) -> None:
    one = array("Q", [*range(same), *range(1000, 1000 + mine)])
    other = array("Q", [*range(same), *range(2000, 2000 + theirs)])
    assert same == common(one, other) == common(other, one)
