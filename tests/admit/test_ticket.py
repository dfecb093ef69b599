import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.admit.ticket import Ticket
from router.balance.call import Call

steady = settings(derandomize=True, max_examples=300, deadline=None)


def ticket(arrived_s: float = 100.0, patience_s: float = 120.0) -> Ticket:
    call = Call(pool="m", session=7)
    return Ticket(number=3, call=call, arrived_s=arrived_s, deadline_s=arrived_s + patience_s, size_bytes=9)


@pytest.mark.parametrize(
    ("granted_s", "left_s"), [(100.0, 120.0), (102.0, 118.0), (220.0, 0.0), (220.5, 0.0)]
)  # the last: its task woke late
def test_a_call_that_comes_back_has_what_it_did_not_wait_whatever_the_attempt_took(
    granted_s: float, left_s: float
) -> None:
    back = ticket().moved("a", granted_s=granted_s, now_s=900.0)
    assert (900.0, 900.0 + left_s, left_s) == (back.arrived_s, back.deadline_s, back.patience_s)


def test_it_keeps_its_number_its_size_and_its_call_but_for_the_instance_that_failed_it() -> None:
    back = ticket().moved("a", granted_s=101.0, now_s=102.0).moved("b", granted_s=103.0, now_s=104.0)
    assert (3, 9, Call(pool="m", session=7, excluded=frozenset({"a", "b"}))) == (
        back.number,
        back.size_bytes,
        back.call,
    )


@steady
@given(
    moves=st.lists(st.tuples(st.floats(0.0, 60.0), st.floats(0.0, 3600.0)), max_size=4), patience_s=st.floats(1.0, 120)
)
def test_however_often_it_moves_it_waits_no_longer_in_all_than_its_patience(
    moves: list[tuple[float, float]], patience_s: float
) -> None:
    one, waited_s = ticket(patience_s=patience_s), 0.0
    for wait_s, attempt_s in moves:
        wait_s = min(wait_s, one.patience_s)
        waited_s += wait_s
        granted_s = one.arrived_s + wait_s
        one = one.moved("a", granted_s=granted_s, now_s=granted_s + attempt_s)
        assert waited_s + one.patience_s == pytest.approx(patience_s, abs=1e-6)
