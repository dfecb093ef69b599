import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.reuse import BINS, FORGOTTEN_S, Reuse

steady = settings(derandomize=True, max_examples=100, deadline=None)
ages_s = st.floats(0.0, 4000.0)


def after(reuse: Reuse, *gaps_s: float, start_s: float = 0.0, first: int = 0) -> float:
    """Conversations that go on after these times, one each, and then leave; returns when all is over."""
    now_s = start_s
    for session, gap_s in enumerate(gaps_s, first):
        reuse.ended(session, now_s)
        now_s += gap_s
        reuse.came_back(session, now_s)
    return now_s


def test_before_anything_was_seen_fresh_ones_are_likely_to_go_on_and_old_ones_are_not() -> None:
    chances = [Reuse().probability(age_s, 0.0) for age_s in (0.0, 1.0, 10.0, 100.0, 1000.0)]
    assert sorted(chances, reverse=True) == chances
    assert 0.6 < chances[0] < 1.0
    assert chances[-1] < 0.05


@pytest.mark.parametrize("gap_s", [0.5, 1.5, 6.0, 100.0])
def test_it_rises_at_the_age_at_which_conversations_are_seen_to_go_on(gap_s: float) -> None:
    reuse = Reuse()
    before = reuse.probability(gap_s * 0.9, 0.0)
    now_s = after(reuse, *[gap_s] * 20)
    assert reuse.probability(gap_s * 0.9, now_s + 10.0) > before
    # Those that got that old without going on are none: one that is younger will go on.
    assert reuse.probability(0.0, now_s + 10.0) > 0.9


def test_it_falls_at_the_ages_that_those_got_to_who_never_went_on() -> None:
    reuse = Reuse()
    before = reuse.probability(5.0, 0.0)
    for session in range(30):
        reuse.ended(session, 0.0)
    assert reuse.probability(5.0, 100.0) < before / 3
    # They count although nothing has happened since: time alone does it.
    assert reuse.probability(5.0, 1000.0) < reuse.probability(5.0, 0.0) + before


def test_one_that_is_still_silent_says_nothing_yet_of_the_age_that_it_is_at() -> None:
    young, old = Reuse(), Reuse()
    for reuse in (young, old):
        for session in range(30):
            reuse.ended(session, 0.0)
    assert young.probability(2.5, 3.0) == pytest.approx(Reuse().probability(2.5, 3.0))
    assert old.probability(2.5, 5.0) < young.probability(2.5, 3.0) - 0.1


def test_going_on_twice_counts_once() -> None:
    once, twice = Reuse(), Reuse()
    for reuse, times in ((once, 1), (twice, 2)):
        reuse.ended(1, 0.0)
        for _ in range(times):
            reuse.came_back(1, 3.0)
    assert once.probability(2.0, 10.0) == twice.probability(2.0, 10.0)


def test_it_is_known_since_when_one_is_silent_and_that_it_is_not() -> None:
    reuse = Reuse()
    assert reuse.since_s(1) is None
    reuse.ended(1, 3.0)
    reuse.ended(1, 5.0)
    assert 5.0 == reuse.since_s(1)
    reuse.came_back(1, 6.0)
    assert reuse.since_s(1) is None


@pytest.mark.parametrize("forgets", [True, False])
def test_one_that_threw_away_what_it_said_is_no_longer_waited_for(forgets: bool) -> None:
    reuse = Reuse()
    reuse.ended(1, 0.0)
    if forgets:
        reuse.forget(1)
        reuse.forget(1)
    reuse.came_back(1, 3.0)
    assert forgets is (reuse.probability(2.0, 10.0) == Reuse().probability(2.0, 10.0))
    assert repr(reuse).startswith("Reuse[0 silent, ")


def test_those_silent_for_too_long_are_forgotten_and_held_against_every_age() -> None:
    reuse = Reuse()
    for session in range(100):
        reuse.ended(session, 0.0)
    reuse.ended(1000, FORGOTTEN_S + 1.0)
    assert repr(reuse).startswith("Reuse[1 silent")
    assert reuse.probability(0.0, FORGOTTEN_S + 10.0) < 0.05


def test_what_was_learned_long_ago_counts_less() -> None:
    reuse = Reuse()
    now_s = after(reuse, *[100.0] * 50)
    early = reuse.probability(90.0, now_s + 10.0)
    for number in range(10_000):  # each counts every age below its own as survived, so none at all
        reuse.ended(number, now_s)
        reuse.forget(number)
    assert reuse._at[0] < 10.0
    assert reuse.probability(90.0, now_s + 20.0) == pytest.approx(early, abs=0.02)  # the share stays, its weight goes
    later = after(reuse, *[0.1] * 3, *[300.0] * 8, start_s=now_s + 20.0, first=20_000)
    assert reuse.probability(90.0, later + 10.0, within_s=38.0) < 0.75 * early


@steady
@given(
    gaps_s=st.lists(st.floats(0.0, 3000.0), max_size=30),
    age_s=ages_s,
    within_s=st.lists(st.floats(0.0, 3000.0), min_size=2, max_size=2),
)
def test_whatever_was_seen_a_chance_is_one_and_grows_with_the_time_that_is_given(
    gaps_s: list[float], age_s: float, within_s: list[float]
) -> None:
    reuse = Reuse()
    now_s = after(reuse, *gaps_s)
    short_s, long_s = sorted(within_s)
    chances = [reuse.probability(age_s, now_s, within_s=one_s) for one_s in (0.0, short_s, long_s)]
    chances.append(reuse.probability(age_s, now_s))
    assert all(0.0 <= chance <= 1.0 for chance in chances)
    assert chances[1] <= chances[2] + 1e-9
    if age_s + long_s < 2.0 ** (BINS - 2):
        assert chances[0] == pytest.approx(0.0, abs=1e-9)
        assert chances[2] <= chances[3] + 1e-9


@steady
@given(gaps_s=st.lists(st.floats(0.0, 3000.0), max_size=20), ages=st.lists(ages_s, min_size=2, max_size=2))
def test_one_more_that_goes_on_at_an_age_never_lowers_the_chance_at_that_age(
    gaps_s: list[float], ages: list[float]
) -> None:
    one, other = Reuse(), Reuse()
    now_s = after(one, *gaps_s)
    after(other, *gaps_s)
    age_s = ages[0]
    other.ended(999, now_s)
    other.came_back(999, now_s + age_s)
    one.ended(999, now_s)
    one.forget(999)
    at_s = now_s + age_s + 10.0
    assert other.probability(age_s, at_s) >= one.probability(age_s, at_s) - 1e-9
