import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.admit.retries import MOST, PER_CALL, RetryBudget

steady = settings(derandomize=True, max_examples=300, deadline=None)


def taken(budget: RetryBudget, pool: str = "m", tries: int = 100) -> int:
    return sum(budget.take(pool) for _ in range(tries))


def test_a_quiet_pool_has_its_whole_budget_for_a_short_run_of_bad_luck() -> None:
    assert MOST == taken(RetryBudget())


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
    assert "RetryBudget[m 20.0, n 19.0]" == repr(budget)


@steady
@given(steps=st.lists(st.booleans(), max_size=300))
def test_attempts_are_never_more_than_the_first_budget_and_what_the_calls_paid_in(steps: list[bool]) -> None:
    budget = RetryBudget()
    calls = attempts = 0
    for is_call in steps:
        if is_call:
            budget.pay_in("m")
            calls += 1
        else:
            attempts += budget.take("m")
    assert attempts <= MOST + PER_CALL * calls + 1e-6


@pytest.mark.parametrize("calls", [100, 1000])
def test_when_every_attempt_fails_the_fleet_sees_a_fifth_more_and_no_stampede(calls: int) -> None:
    budget = RetryBudget()
    further = 0
    for _ in range(calls):
        budget.pay_in("m")
        further += taken(budget, tries=2)  # two more attempts for each call, if it were for the calls
    assert further == pytest.approx(MOST + PER_CALL * calls, abs=1)
