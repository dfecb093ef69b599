import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.admit.retries import MOST, PER_CALL, RetryBudget

steady = settings(derandomize=True, max_examples=300, deadline=None)


def taken(budget: RetryBudget, pool: str = "m", tries: int = 1000, slots: int = 0) -> int:
    return sum(budget.take(pool, slots=slots) for _ in range(tries))


def test_a_quiet_pool_has_its_whole_budget_for_a_short_run_of_bad_luck() -> None:
    assert MOST == taken(RetryBudget())


@pytest.mark.parametrize(("slots", "most"), [(1, 20), (20, 20), (21, 21), (64, 64), (256, 256)])
def test_a_quiet_pool_has_an_attempt_for_each_of_its_slots(slots: int, most: int) -> None:
    assert most == taken(RetryBudget(), slots=slots)


def test_every_call_of_an_instance_that_dies_may_move_and_so_may_those_of_the_next_and_the_next() -> None:
    budget, slots = RetryBudget(), 64
    assert [slots] * 3 == [taken(budget, tries=slots, slots=4 * slots) for _ in range(3)]


def test_a_pool_that_a_reload_has_made_smaller_pays_off_what_it_took_before_it_takes_more() -> None:
    budget = RetryBudget()
    assert 64 == taken(budget, slots=64)
    assert not budget.take("m", slots=8)
    for _ in range(5 * (64 - 20)):
        budget.pay_in("m")
    assert not budget.take("m", slots=8)
    for _ in range(5):
        budget.pay_in("m")
    assert [True, False] == [budget.take("m", slots=8) for _ in range(2)]


def test_an_empty_budget_fills_with_the_calls_that_come_one_attempt_for_five() -> None:
    budget = RetryBudget()
    taken(budget)
    granted = []
    for _ in range(11):
        budget.pay_in("m")
        granted.append(budget.take("m"))
    assert [5, 10] == [number for number, more in enumerate(granted, start=1) if more]


def test_a_budget_is_never_more_than_full() -> None:
    budget = RetryBudget()
    for _ in range(1000):
        budget.pay_in("m")
    assert MOST == taken(budget)


def test_a_pool_that_is_failing_takes_nothing_from_another() -> None:
    budget = RetryBudget()
    taken(budget, "m")
    assert (0, MOST) == (taken(budget, "m"), taken(budget, "n"))


def test_its_repr_is_a_line_for_an_operator() -> None:
    budget = RetryBudget()
    budget.pay_in("m")
    budget.take("n")
    assert "RetryBudget[m 0.0 spent, n 1.0 spent]" == repr(budget)


@steady
@given(steps=st.lists(st.booleans(), max_size=300), slots=st.integers(0, 64))
def test_attempts_are_never_more_than_the_first_budget_and_what_the_calls_paid_in(
    steps: list[bool], slots: int
) -> None:
    budget = RetryBudget()
    calls = attempts = 0
    for is_call in steps:
        if is_call:
            budget.pay_in("m")
            calls += 1
        else:
            attempts += budget.take("m", slots=slots)
    assert attempts <= max(MOST, slots) + PER_CALL * calls + 1e-3


@pytest.mark.parametrize("slots", [2, 64])
@pytest.mark.parametrize("calls", [100, 1000])
def test_when_every_attempt_fails_the_fleet_sees_a_fifth_more_and_no_stampede(calls: int, slots: int) -> None:
    budget = RetryBudget()
    further = 0
    for _ in range(calls):
        budget.pay_in("m")
        further += taken(budget, tries=2, slots=slots)  # two more attempts for each call, if it were for the calls
    assert further == pytest.approx(max(MOST, slots) + PER_CALL * calls, abs=1)
