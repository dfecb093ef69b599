import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.admit.line import Line
from router.admit.ticket import Ticket
from router.balance.call import Call

steady = settings(derandomize=True, max_examples=300, deadline=None)


def ticket(number: int, *excluded: str) -> Ticket:
    call = Call(pool="m", session=0, excluded=frozenset(excluded))
    return Ticket(number=number, call=call, arrived_s=0.0, deadline_s=9.0)


def heads(line: Line, count: int = 1) -> list[int]:
    return [one.number for one in line.heads(count)]


def test_there_is_one_head_for_each_set_of_instances_that_is_left_out() -> None:
    line = Line()
    for one in (ticket(4), ticket(5, "a"), ticket(6), ticket(2, "a"), ticket(7, "a", "b"), ticket(8, "b", "a")):
        line.insert(one)
    assert ([2, 4, 7], "Line[6 in 3 rows]") == (sorted(heads(line)), repr(line))
    line.remove(ticket(4))
    line.remove(ticket(7, "a", "b"))
    assert ([2, 6, 8], 4) == (sorted(heads(line)), len(line))


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, [2, 4, 5]), (3, [2, 4, 5]), (4, [2, 4, 5, 6]), (6, [2, 4, 5, 6, 7, 8]), (9, [2, 4, 5, 6, 7, 8])],
)
def test_more_heads_are_those_that_have_waited_longest_of_all_rows(count: int, expected: list[int]) -> None:
    line = Line()
    for one in (ticket(4), ticket(5, "a"), ticket(6), ticket(2, "a"), ticket(7, "a", "b"), ticket(8, "b", "a")):
        line.insert(one)
    assert expected == heads(line, count)


def test_an_empty_line_has_no_rows() -> None:
    line = Line()
    line.insert(ticket(1, "a"))
    line.remove(ticket(1, "a"))
    assert ("Line[0 in 0 rows]", 0, [], []) == (repr(line), line.ahead_of(5), heads(line), heads(line, 5))


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
        rows: dict[frozenset[str], list[int]] = {}
        for other in sorted(known):
            rows.setdefault(known[other].call.excluded, []).append(other)
        assert sorted(row[0] for row in rows.values()) == sorted(heads(line))
        for count in (2, 5, 24):
            firsts = sorted(other for row in rows.values() for other in row[:count])
            assert firsts[: max(count, len(rows))] == heads(line, count)
