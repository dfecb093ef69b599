"""When a closing slot is free: what a count covers, and from when on it covers a call that had not begun."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.fleet.closing import (
    ARRIVES_S,
    DECODES_UNTIL_COUNTED,
    LONGEST_CLOSING_S,
    MUTE_CLOSING_S,
    UNBEGUN_IDLE_S,
    UNBEGUN_S,
    Arrival,
    Closing,
    in_time,
    not_freed,
)

steady = settings(derandomize=True, max_examples=300, deadline=None)


def begun() -> Arrival:
    arrival = Arrival()
    arrival.counted = True
    return arrival


def sent(at_s: float) -> Arrival:
    arrival = Arrival()
    arrival.sent(at_s)
    return arrival


def test_a_call_is_counted_once_enough_decodes_have_passed_since_it_surely_arrived() -> None:
    arrival = sent(1.0)
    assert not arrival.look(1.0 + ARRIVES_S - 0.01, 3), "it may still be on its way, and this says nothing"
    assert not arrival.look(1.0 + ARRIVES_S, 10)
    assert not arrival.look(9.0, 10 + DECODES_UNTIL_COUNTED - 1)
    assert arrival.look(9.1, 10 + DECODES_UNTIL_COUNTED)
    assert (True, False) == (arrival.counted, arrival.look(9.2, 99))


def test_without_a_count_of_decodes_the_time_alone_tells() -> None:
    arrival = sent(1.0)
    assert [False, True] == [arrival.look(1.0 + UNBEGUN_S + late_s, None) for late_s in (-0.01, 0.0)]


def test_a_call_that_was_never_sent_is_never_counted() -> None:
    arrival = Arrival()
    assert not any(arrival.look(100.0 * turn, decodes) for turn, decodes in enumerate((None, 1, 9, 99)))
    assert "Arrival(on its way)" == repr(arrival)


def test_a_request_that_was_sent_again_arrives_anew() -> None:
    arrival = sent(1.0)
    arrival.look(3.0, 10)
    arrival.sent(3.0)
    assert [False, False, True] == [arrival.look(at_s, decodes) for at_s, decodes in ((3.5, 90), (4.0, 91), (4.1, 93))]


def test_what_was_sent_is_not_sent_later_because_it_is_closed() -> None:
    arrival = sent(1.0)
    arrival.sent(7.0, again=False)
    assert arrival.look(1.0 + UNBEGUN_S, None)
    arrival = Arrival()
    arrival.sent(7.0, again=False)
    assert not arrival.look(6.9 + UNBEGUN_S, None)


@pytest.mark.parametrize(
    ("arrival", "asked_s", "idle", "spoken_of"),
    [
        (begun(), 4.99, True, False),
        (begun(), 5.0, False, True),
        (sent(1.0), 5.0 + UNBEGUN_IDLE_S - 0.01, True, False),
        (sent(1.0), 5.0 + UNBEGUN_IDLE_S, True, True),
        (sent(1.0), 9.0, False, False),
    ],
)
def test_an_answer_covers_a_slot_that_was_closing_when_it_was_asked_for(
    arrival: Arrival, asked_s: float, *, idle: bool, spoken_of: bool
) -> None:
    assert spoken_of is Closing(5.0, arrival).is_spoken_of(asked_s, idle=idle)


@pytest.mark.parametrize(("mute", "longest_s"), [(True, MUTE_CLOSING_S), (False, LONGEST_CLOSING_S)])
def test_each_slot_has_its_time(mute: bool, longest_s: float) -> None:
    early, late = Closing(1.0, begun()), Closing(2.0, begun())
    assert [early, late] == in_time([early, late], 1.0 + longest_s - 0.01, mute=mute)
    assert [late] == in_time([early, late], 1.0 + longest_s, mute=mute)
    assert [] == in_time([early, late], 2.0 + longest_s, mute=mute)


@pytest.mark.parametrize(
    ("processing", "surely_ours", "left"),
    [(0, 0, 1), (0, 3, 1), (1, 0, 2), (1, 1, 1), (2, 0, 3), (3, 1, 3), (5, 0, 4), (9, 0, 4), (9, 9, 1)],
)
def test_as_many_are_freed_as_the_count_cannot_hold(processing: int, surely_ours: int, left: int) -> None:
    """Three that it speaks of, and one that may still begin."""
    closing = [*(Closing(1.0, begun()) for _ in range(3)), Closing(2.0, sent(1.5))]
    after = not_freed(closing, 2.5, processing=processing, surely_ours=surely_ours)
    assert (left, closing[-1]) == (len(after), after[-1])


@steady
@given(looks=st.lists(st.tuples(st.sampled_from([0.1, 0.4, 2.0]), st.integers(0, 2)), max_size=30))
def test_nothing_is_counted_before_two_decodes_began_after_its_arrival(looks: list[tuple[float, int]]) -> None:
    arrival, now_s, decodes = sent(0.0), 0.0, 0
    since: int | None = None
    for pause_s, more in looks:
        now_s, decodes = now_s + pause_s, decodes + more
        arrival.look(now_s, decodes)
        if since is None and now_s >= ARRIVES_S:
            since = decodes
        assert arrival.counted is (since is not None and decodes >= since + DECODES_UNTIL_COUNTED)
