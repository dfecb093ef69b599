import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.fleet.health import TIMEOUTS_UNTIL_EJECTED, Event, Health, State, step

steady = settings(derandomize=True, max_examples=300, deadline=None)

# From the state on the left, by the event above, to the state in the field; a timeout is the first in a row.
TABLE = """
             answered   loading   refused   timed_out  broke
    unknown  serving    loading   ejected   unknown    ejected
    loading  serving    loading   ejected   loading    ejected
    serving  serving    loading   ejected   serving    ejected
    ejected  serving    loading   ejected   ejected    ejected
"""
_EVENTS, *_ROWS = [line.split() for line in TABLE.strip().splitlines()]
MOVES = [(row[0], event, after) for row in _ROWS for event, after in zip(_EVENTS, row[1:], strict=True)]


def test_the_table_has_every_state_and_every_event() -> None:
    assert {(state.value, event.value) for state in State for event in Event} == {move[:2] for move in MOVES}


@pytest.mark.parametrize(("before", "event", "after"), MOVES)
def test_an_event_leads_where_the_table_says(before: str, event: str, after: str) -> None:
    assert State(after) is step(Health(state=State(before)), Event(event), 1.0).state


@pytest.mark.parametrize("state", State)
def test_two_timeouts_in_a_row_eject_from_every_state(state: State) -> None:
    once = step(Health(state=state), Event.TIMED_OUT, 1.0)
    assert (state, 1) == (once.state, once.timeouts)
    assert State.EJECTED is step(once, Event.TIMED_OUT, 2.0).state


@pytest.mark.parametrize("event", [event for event in Event if event is not Event.TIMED_OUT])
def test_any_other_event_between_two_timeouts_begins_the_count_anew(event: Event) -> None:
    health = step(step(Health(state=State.SERVING), Event.TIMED_OUT, 1.0), event, 2.0)
    assert 0 == health.timeouts
    assert health.state is step(health, Event.TIMED_OUT, 3.0).state


def test_the_time_of_the_last_change_is_kept_and_not_that_of_the_last_event() -> None:
    health = Health()
    moments = []
    for now_s, event in enumerate([Event.ANSWERED, Event.ANSWERED, Event.TIMED_OUT, Event.TIMED_OUT, Event.REFUSED], 1):
        health = step(health, event, float(now_s))
        moments.append((health.state.value, health.since_s))
    assert [("serving", 1.0), ("serving", 1.0), ("serving", 1.0), ("ejected", 4.0), ("ejected", 4.0)] == moments


def test_nothing_new_is_the_same_object() -> None:
    serving = step(Health(), Event.ANSWERED, 1.0)
    assert serving is step(serving, Event.ANSWERED, 2.0)


def run(events: list[Event]) -> list[Health]:
    health = Health()
    return [health := step(health, event, float(now_s)) for now_s, event in enumerate(events, 1)]


@steady
@given(events=st.lists(st.sampled_from(Event), max_size=12))
def test_the_same_events_give_the_same_states(events: list[Event]) -> None:
    assert run(events) == run(events)


@steady
@given(events=st.lists(st.sampled_from(Event), min_size=1, max_size=12))
def test_what_it_was_before_is_soon_forgotten(events: list[Event]) -> None:
    """The state follows from the last event that is no timeout and from the timeouts since then."""
    timeouts = 0
    while events[-1 - timeouts] is Event.TIMED_OUT and timeouts + 1 < len(events):
        timeouts += 1
    last = events[-1 - timeouts]
    if last is Event.TIMED_OUT:  # nothing but timeouts
        expected = State.EJECTED if len(events) >= TIMEOUTS_UNTIL_EJECTED else State.UNKNOWN
    else:
        after = step(Health(), last, 0.0).state
        expected = State.EJECTED if timeouts >= TIMEOUTS_UNTIL_EJECTED else after
    assert expected is run(events)[-1].state
