from hypothesis import given, settings
from hypothesis import strategies as st

from router.admit.line import Line, first_come
from router.admit.ticket import Ticket
from router.balance.policy import Call

steady = settings(derandomize=True, max_examples=300, deadline=None)


def ticket(number: int, *excluded: str) -> Ticket:
    call = Call(pool="m", affinity=0, excluded=frozenset(excluded))
    return Ticket(number=number, call=call, arrived_s=0.0, deadline_s=9.0)


def heads(line: Line) -> list[int]:
    return sorted(one.number for one in line.heads(first_come, 0.0))


def test_there_is_one_head_for_each_set_of_instances_that_is_left_out() -> None:
    line = Line()
    for one in (ticket(4), ticket(5, "a"), ticket(6), ticket(2, "a"), ticket(7, "a", "b"), ticket(8, "b", "a")):
        line.insert(one)
    assert ([2, 4, 7], "Line[6 in 3 rows]") == (heads(line), repr(line))
    line.remove(ticket(4))
    line.remove(ticket(7, "a", "b"))
    assert ([2, 6, 8], 4) == (heads(line), len(line))


def test_another_key_makes_another_head_and_equals_go_by_arrival() -> None:
    line = Line()
    for number in (1, 2, 3, 4):
        line.insert(ticket(number))
    assert [2] == [one.number for one in line.heads(lambda one, _now_s: one.number % 2, 0.0)]


def test_an_empty_line_has_no_rows() -> None:
    line = Line()
    line.insert(ticket(1, "a"))
    line.remove(ticket(1, "a"))
    assert ("Line[0 in 0 rows]", 0, []) == (repr(line), line.ahead_of(5), heads(line))


@steady
@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.integers(0, 20), st.sampled_from([(), ("a",), ("b",), ("a", "b")])), max_size=60
    )
)
def test_it_is_what_a_sorted_list_would_be(steps: list[tuple[bool, int, tuple[str, ...]]]) -> None:
    line = Line()
    known: dict[int, Ticket] = {}
    for comes, number, excluded in steps:
        if comes and number not in known:
            known[number] = ticket(number, *excluded)
            line.insert(known[number])
        elif not comes and number in known:
            line.remove(known.pop(number))
        assert len(known) == len(line)
        for asked in range(-1, 22):
            assert sum(other < asked for other in known) == line.ahead_of(asked)
        firsts: dict[frozenset[str], int] = {}
        for other in sorted(known):
            firsts.setdefault(known[other].call.excluded, other)
        assert sorted(firsts.values()) == heads(line)
