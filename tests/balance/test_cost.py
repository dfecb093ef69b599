import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance import cost
from router.balance.cost import Terms

steady = settings(derandomize=True, max_examples=100, deadline=None)
times_s = st.floats(0.0, 1000.0)


def test_the_sum_has_every_term_and_the_first_token_only_what_the_call_itself_waits_for() -> None:
    terms = Terms(wait_s=1.0, read_s=2.0, behind_s=4.0, lost_s=8.0, stall_s=16.0, moved_s=32.0)
    assert (63.0, 35.0) == (terms.total_s, terms.ttft_s)
    assert (0.0, 0.0) == (Terms().total_s, Terms().ttft_s)


@pytest.mark.parametrize(("busy", "expected"), [(0.0, 0.0), (0.5, 1.0), (1.0, 2.0)])
def test_who_comes_behind_waits_the_longer_the_busier_the_instance_is(busy: float, expected: float) -> None:
    assert expected == cost.behind_s(2.0, busy)


@pytest.mark.parametrize(("runs", "expected"), [(0, 0.0), (1, 1.5 + 0.08), (3, 4.5 + 0.24)])
def test_each_answer_that_is_being_written_is_held_up(runs: int, expected: float) -> None:
    assert expected == pytest.approx(cost.stall_s(10.0, 0.02, 100.0, runs))


def test_copies_take_their_time() -> None:
    assert (0.0, 1.0) == (cost.moved_s(0.0), cost.moved_s(cost.COPIED_TOKENS_PER_S))


@pytest.mark.parametrize(
    ("left_s", "taken", "slots", "wait_s"),
    [
        ([], 0, 2, 0.0),
        ([9.0], 1, 2, 0.0),
        ([9.0, 4.0], 2, 2, 4.0),
        ([9.0, 4.0, 6.0], 3, 2, 6.0),
        ([9.0, 4.0], 5, 2, 9.0),  # more are there than anybody knows of
        ([], 2, 2, 0.0),
    ],
)
def test_the_wait_for_a_slot_is_until_so_many_have_gone_as_there_are_too_many(
    left_s: list[float], taken: int, slots: int, wait_s: float
) -> None:
    assert wait_s == cost.slot_wait_s(iter(left_s), taken, slots)


@pytest.mark.parametrize(("since_s", "left_s"), [(0.0, 10.0), (4.0, 6.0), (7.5, 2.5), (9.0, 2.5), (100.0, 2.5)])
def test_an_answer_that_is_longer_than_usual_still_goes_on_for_a_while(since_s: float, left_s: float) -> None:
    assert left_s == cost.answer_left_s(100.0, 0.1, since_s)


@steady
@given(
    read_s=times_s, written_s=times_s, answer=st.floats(0.0, 10_000.0), runs=st.integers(0, 64), busy=st.floats(0, 1)
)
def test_no_term_is_a_gain(read_s: float, written_s: float, answer: float, runs: int, busy: float) -> None:
    assert 0.0 <= cost.behind_s(read_s, busy) <= read_s
    assert cost.stall_s(read_s, written_s, answer, runs) <= cost.stall_s(read_s, written_s, answer, runs + 1)
    assert 0.0 <= cost.answer_left_s(answer, written_s, read_s) <= answer * written_s


# Other processes, replicas and the next release must agree on these, or every conversation moves at once.
@pytest.mark.parametrize(
    ("affinity", "id_", "expected"),
    [
        (0, "rig1-gpu0", 214787050991132631),
        (0, "rig1-gpu1", 3232234989124146535),
        (0, "rig2", 10116815342496073142),
        (1, "rig1-gpu0", 4648423561432835778),
        (1, "rig2", 8351775765747229894),
        (2**64 - 1, "rig1-gpu0", 17514796298682581219),
        (2**64 - 1, "rig2", 11123743511950129942),
    ],
)
def test_the_rendezvous_number_is_the_same_everywhere_and_for_ever(affinity: int, id_: str, expected: int) -> None:
    assert expected == cost.rendezvous(affinity, id_)
