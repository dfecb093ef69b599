from hypothesis import given
from hypothesis import strategies as st

from router.sim.dice import Dice, mix


def test_the_numbers_are_the_same_everywhere_and_for_ever() -> None:
    # The first number of SplitMix64 from the seeds 0 and 1, as it is published.
    assert [0xE220A8397B1DCDAF, 10451216379200822465] == [mix(0), mix(1)]
    dice = Dice(1)
    assert [17405687883870564846, 834844254806117752, 14341179868655528873] == [dice.bits() for _ in range(3)]


def test_the_order_of_the_numbers_matters() -> None:
    assert mix(1, 2) != mix(2, 1)
    assert mix(1) != mix(1, 0)


@given(st.integers(0, 2**64 - 1), st.integers(1, 1000))
def test_draws_stay_within_their_bounds(seed: int, bound: int) -> None:
    dice = Dice(seed)
    assert all(0 <= dice.below(bound) < bound for _ in range(20))
    assert all(0.0 <= dice.uniform() < 1.0 for _ in range(20))


@given(st.integers(0, 2**64 - 1), st.lists(st.integers()))
def test_shuffling_loses_and_changes_nothing(seed: int, items: list[int]) -> None:
    before = list(items)
    assert sorted(before) == sorted(Dice(seed).shuffled(items))
    assert before == items


def test_uniform_draws_are_spread_evenly() -> None:
    dice = Dice(7)
    tenths = [0] * 10
    for _ in range(10_000):
        tenths[int(dice.uniform() * 10)] += 1
    assert max(abs(count - 1000) for count in tenths) < 150


def test_every_place_of_a_shuffled_list_is_as_likely_as_the_others() -> None:
    dice = Dice(3)
    firsts = [0] * 5
    for _ in range(5000):
        firsts[dice.shuffled(range(5)).index(0)] += 1
    assert max(abs(count - 1000) for count in firsts) < 150
