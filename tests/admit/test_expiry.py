from hypothesis import given, settings
from hypothesis import strategies as st

from router.admit.expiry import Expiry
from router.admit.ticket import Ticket
from router.balance.call import Call

steady = settings(derandomize=True, max_examples=300, deadline=None)


def ticket(number: int, deadline_s: float) -> Ticket:
    return Ticket(number=number, call=Call(pool="m", session=0), arrived_s=0.0, deadline_s=deadline_s)


class Desked:
    """An expiry over a mapping, which the test fills and empties."""

    def __init__(self) -> None:
        self.waits: dict[int, Ticket] = {}
        self.expiry = Expiry(self.waits)

    def comes(self, number: int, deadline_s: float) -> None:
        self.waits[number] = ticket(number, deadline_s)
        self.expiry.add(self.waits[number])


def test_the_earliest_deadline_is_told_first_and_none_before_its_time() -> None:
    desked = Desked()
    for number, deadline_s in ((1, 9.0), (2, 3.0), (3, 6.0)):
        desked.comes(number, deadline_s)
    assert desked.expiry.overdue(2.9) is None
    assert ticket(2, 3.0) == desked.expiry.overdue(9.0)
    assert ticket(2, 3.0) == desked.expiry.overdue(3.0)  # until it has left
    del desked.waits[2]
    assert ticket(3, 6.0) == desked.expiry.overdue(9.0)


def test_where_nobody_waits_nothing_is_overdue() -> None:
    assert Desked().expiry.overdue(1e9) is None


def test_a_deadline_that_was_taken_back_is_not_told() -> None:
    desked = Desked()
    desked.comes(1, 3.0)
    desked.comes(1, 50.0)
    assert desked.expiry.overdue(40.0) is None
    assert ticket(1, 50.0) == desked.expiry.overdue(50.0)


def test_those_who_have_left_take_up_no_more_room_than_those_who_wait() -> None:
    desked = Desked()
    desked.comes(0, 1e6)
    for number in range(1, 10_000):
        desked.comes(number, 1e3 + number)
        del desked.waits[number]
    assert len(desked.expiry._heap) < 100
    assert repr(desked.expiry).endswith(" deadlines of 1 tickets]")


@steady
@given(steps=st.lists(st.tuples(st.sampled_from(["comes", "leaves", "later"]), st.integers(1, 12), st.integers(0, 20))))
def test_whoever_waits_past_its_deadline_is_told_and_nobody_else(steps: list[tuple[str, int, int]]) -> None:
    desked, now_s = Desked(), 0.0
    for what, number, time_s in steps:
        if what == "comes":
            desked.comes(number, now_s + time_s)
        elif what == "leaves":
            desked.waits.pop(number, None)
        else:
            now_s += time_s
        expected = {it.number for it in desked.waits.values() if it.deadline_s <= now_s}
        told = []
        while (late := desked.expiry.overdue(now_s)) is not None:
            told.append((late.deadline_s, late.number))
            del desked.waits[late.number]
        assert expected == {number for _, number in told}
        assert sorted(told) == told
