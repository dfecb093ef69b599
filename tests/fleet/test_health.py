import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.fleet.health import (
    ABSENCES_UNTIL_GONE,
    BACK_OFF_S,
    FAILURES_UNTIL_EJECTED,
    FORGIVEN_AFTER_S,
    MAX_BACK_OFF_S,
    SOFT,
    TIMEOUTS_UNTIL_EJECTED,
    TIMEOUTS_UNTIL_LAST_EJECTED,
    Event,
    Health,
    State,
    step,
)
from tests.fleet import sample

steady = settings(derandomize=True, max_examples=300, deadline=None)

# From the state on the left, by the event above, to the state in the field; "." stays. A timeout and a failed call are
# the first in a row, and the back-off is over.
TABLE = """
state     answered  sleeps    loading refused timed_out broke   stuck   call_began call_failed swapped   drain    resume
unknown   serving   sleeping  loading ejected .         ejected .       .          .           misplaced draining .
loading   serving   sleeping  .       ejected .         ejected .       .          .           misplaced draining .
serving   .         sleeping  loading ejected .         ejected ejected .          .           misplaced draining .
sleeping  serving   .         loading ejected .         ejected ejected .          .           misplaced draining .
probation .         .         loading ejected .         ejected ejected serving    ejected     misplaced draining .
ejected   probation probation loading .       .         .       .       .          .           misplaced draining .
misplaced serving   sleeping  loading ejected .         .       .       .          .           .         draining unknown
draining  .         .         .       .       .         .       .       .          .           .         .        unknown
"""  # noqa: E501
(_, *_EVENTS), *_ROWS = [line.split() for line in TABLE.strip().splitlines()]
MOVES = [
    (row[0], event, row[0] if after == "." else after)
    for row in _ROWS
    for event, after in zip(_EVENTS, row[1:], strict=True)
]
IN = (State.SERVING, State.SLEEPING, State.PROBATION)


def test_the_table_has_every_state_and_every_event() -> None:
    assert {(state.value, event.value) for state in State for event in Event} == {move[:2] for move in MOVES}


@pytest.mark.parametrize(("before", "event", "after"), MOVES)
def test_an_event_leads_where_the_table_says(before: str, event: str, after: str) -> None:
    assert State(after) is step(Health(state=State(before)), Event(event), 1.0).state


@pytest.mark.parametrize("state", State)
def test_calls_are_taken_where_they_may_go_well_and_waited_for_where_they_soon_may(state: State) -> None:
    takes = {State.SERVING, State.SLEEPING, State.PROBATION}
    soon = {State.UNKNOWN, State.LOADING, State.EJECTED}
    assert (state in takes, state in soon) == (Health(state=state).takes_calls, Health(state=state).hopeful)


# ---------------------------------------------------------------- counted events


def after(*events: Event, state: State = State.SERVING, last: bool = False) -> Health:
    health = Health(state=state)
    for now_s, event in enumerate(events, 1):
        health = step(health, event, float(now_s), last=last)
    return health


@pytest.mark.parametrize("state", [State.UNKNOWN, State.LOADING, *IN])
def test_two_timeouts_in_a_row_eject(state: State) -> None:
    once = after(Event.TIMED_OUT, state=state)
    assert (state, 1) == (once.state, once.timeouts)
    assert State.EJECTED is after(*[Event.TIMED_OUT] * TIMEOUTS_UNTIL_EJECTED, state=state).state


@pytest.mark.parametrize("event", [Event.ANSWERED, Event.SLEEPS, Event.LOADING])
def test_a_look_that_came_between_two_timeouts_begins_the_count_anew(event: Event) -> None:
    health = after(Event.TIMED_OUT, event, Event.TIMED_OUT)
    assert (1, False) == (health.timeouts, health.state is State.EJECTED)


@pytest.mark.parametrize("event", [Event.CALL_BEGAN, Event.CALL_FAILED, Event.STUCK])
def test_what_calls_see_does_not_make_looks_forget(event: Event) -> None:
    """Probation is kept by a timeout, and neither a call that began nor one that failed is a look that was answered."""
    assert State.EJECTED is after(Event.TIMED_OUT, event, Event.TIMED_OUT).state


def test_three_failed_calls_in_a_row_eject_and_one_that_began_is_a_new_beginning() -> None:
    failures = [Event.CALL_FAILED] * (FAILURES_UNTIL_EJECTED - 1)
    assert State.SERVING is after(*failures).state
    assert State.EJECTED is after(*failures, Event.CALL_FAILED).state
    assert State.SERVING is after(*failures, Event.CALL_BEGAN, *failures).state
    assert State.EJECTED is after(*failures, Event.ANSWERED, Event.CALL_FAILED).state  # a look is no call


def test_on_probation_one_failed_call_is_enough_and_one_that_began_ends_it() -> None:
    assert State.EJECTED is after(Event.CALL_FAILED, state=State.PROBATION).state
    assert State.SERVING is after(Event.CALL_BEGAN, state=State.PROBATION).state
    assert State.PROBATION is after(Event.ANSWERED, Event.ANSWERED, state=State.PROBATION).state


# ---------------------------------------------------------------- the last of a pool


@pytest.mark.parametrize("event", sorted(SOFT - {Event.TIMED_OUT}, key=str))
@pytest.mark.parametrize("state", IN)
def test_the_last_of_a_pool_stays_through_what_a_slow_one_does(state: State, event: Event) -> None:
    assert state is after(*[event] * 20, state=state, last=True).state


@pytest.mark.parametrize("state", IN)
def test_the_last_of_a_pool_goes_when_it_is_dead(state: State) -> None:
    assert State.EJECTED is after(Event.REFUSED, state=state, last=True).state
    assert State.EJECTED is after(*[Event.TIMED_OUT] * TIMEOUTS_UNTIL_LAST_EJECTED, state=state, last=True).state
    assert state is after(*[Event.TIMED_OUT] * (TIMEOUTS_UNTIL_LAST_EJECTED - 1), state=state, last=True).state


def test_what_the_last_one_did_counts_when_it_is_not_the_last_any_more() -> None:
    health = after(*[Event.CALL_FAILED] * 5, last=True)
    assert State.EJECTED is step(health, Event.CALL_FAILED, 9.0).state


# ---------------------------------------------------------------- out, and back


def ejected(times: int, *, well_s: float = 1.0) -> tuple[Health, float]:
    """Put out so many times, and well for so long in between."""
    health, now_s = Health(state=State.SERVING), 0.0
    for _ in range(times):
        if health.state is State.EJECTED:
            now_s = health.back_at_s
            health = step(step(health, Event.ANSWERED, now_s), Event.CALL_BEGAN, now_s)
        assert State.SERVING is health.state
        now_s += well_s
        health = step(health, Event.REFUSED, now_s)
    return health, now_s


def test_back_off_doubles_up_to_half_a_minute() -> None:
    waits = []
    for times in range(1, 9):
        health, now_s = ejected(times)
        waits.append(health.back_at_s - now_s)
    assert [BACK_OFF_S * it for it in (1, 2, 4, 8, 16)] + [MAX_BACK_OFF_S] * 3 == waits


@pytest.mark.parametrize(("well_s", "wait_s"), [(FORGIVEN_AFTER_S - 0.001, 8.0), (FORGIVEN_AFTER_S, 1.0)])
def test_who_was_well_for_long_is_forgiven(well_s: float, wait_s: float) -> None:
    health, now_s = ejected(4, well_s=well_s)
    assert math.isclose(wait_s * BACK_OFF_S, health.back_at_s - now_s, abs_tol=1e-6)


def test_nobody_comes_back_before_its_time() -> None:
    health, _ = ejected(3)
    assert State.EJECTED is step(health, Event.ANSWERED, health.back_at_s - 0.001).state
    assert State.PROBATION is step(health, Event.ANSWERED, health.back_at_s).state


def test_who_is_away_for_long_is_not_waited_for_any_more_until_it_shows_itself() -> None:
    health = Health(state=State.EJECTED, back_at_s=math.inf)
    for looks in range(ABSENCES_UNTIL_GONE):
        assert (looks, True) == (health.absences, health.hopeful)
        health = step(health, [Event.REFUSED, Event.TIMED_OUT, Event.BROKE][looks % 3], 1.0)
    assert not health.hopeful
    assert step(health, Event.ANSWERED, 2.0).hopeful


# What one that has been out does instead, until a call has gone well there.
ON_TRIAL = [
    (state, event)
    for state in (State.UNKNOWN, State.LOADING, State.MISPLACED, State.EJECTED)
    for event in (Event.ANSWERED, Event.SLEEPS)
]


@pytest.mark.parametrize(("state", "event"), ON_TRIAL)
def test_on_trial_every_way_back_goes_through_probation_and_not_before_its_time(state: State, event: Event) -> None:
    health = Health(state=state, on_trial=True, back_at_s=5.0)
    assert state is step(health, event, 4.999).state
    assert State.PROBATION is step(health, event, 5.0).state


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_the_trial_moves_nothing_but_the_way_back(state: State, event: Event) -> None:
    if (state, event) not in ON_TRIAL:
        free, tried = (step(Health(state=state, on_trial=trial), event, 1.0) for trial in (False, True))
        assert free.state is tried.state


def test_the_trial_ends_with_a_call_that_goes_well_or_by_the_operator() -> None:
    out = after(Event.REFUSED)
    assert (State.EJECTED, True) == (out.state, out.on_trial)
    loaded = step(step(out, Event.LOADING, 2.0), Event.ANSWERED, 3.0)
    assert (State.PROBATION, True) == (loaded.state, loaded.on_trial)
    asleep = step(loaded, Event.SLEEPS, 4.0)
    assert loaded is asleep, "asleep or not, it takes one call at a time"
    well = step(asleep, Event.CALL_BEGAN, 5.0)
    assert (State.SERVING, False) == (well.state, well.on_trial)
    resumed = step(step(out, Event.DRAIN, 2.0), Event.RESUME, 3.0)
    assert State.SERVING is step(resumed, Event.ANSWERED, 4.0).state


def test_an_instance_that_falls_over_again_and_again_while_it_loads_waits_longer_each_time() -> None:
    health, waits = Health(state=State.SERVING), []
    for _ in range(4):
        now_s = health.back_at_s + 0.5
        health = step(step(health, Event.LOADING, now_s), Event.REFUSED, now_s)
        waits.append(health.back_at_s - now_s)
        assert State.LOADING is step(step(health, Event.LOADING, now_s), Event.ANSWERED, now_s + 0.5).state
    assert [1.0, 2.0, 4.0, 8.0] == waits


def test_a_first_restart_is_over_after_the_shortest_back_off() -> None:
    health = step(after(Event.REFUSED), Event.LOADING, 1.5)
    assert State.PROBATION is step(health, Event.ANSWERED, 1.0 + BACK_OFF_S).state


def test_an_operators_will_outlives_everything_but_the_operator() -> None:
    everything = [event for event in Event if event is not Event.RESUME]
    assert State.DRAINING is after(Event.DRAIN, *everything).state
    resumed = after(Event.TIMED_OUT, Event.CALL_FAILED, Event.DRAIN, Event.RESUME)
    assert (State.UNKNOWN, 0, 0, 0) == (resumed.state, resumed.timeouts, resumed.failures, resumed.absences)


@pytest.mark.parametrize(
    ("busy", "closing", "carried", "free"),
    [(0, 0, 0, 1), (1, 0, 0, 0), (0, 1, 0, 0), (3, 0, 3, 1), (2, 1, 3, 1), (2, 1, 2, 0), (3, 1, 4, 0), (3, 1, 3, 0)],
)
def test_on_probation_it_takes_one_call_at_a_time_beside_those_from_before(
    busy: int, closing: int, carried: int, free: int
) -> None:
    row = sample.row("a", slots=4, busy=busy, closing=closing, carried=carried, state=State.PROBATION)
    assert free == row.free


# ---------------------------------------------------------------- values


def test_the_time_of_the_last_change_is_kept_and_not_that_of_the_last_event() -> None:
    health = Health()
    moments = []
    for now_s, event in enumerate([Event.ANSWERED, Event.ANSWERED, Event.TIMED_OUT, Event.TIMED_OUT, Event.REFUSED], 1):
        health = step(health, event, float(now_s))
        moments.append((health.state.value, health.since_s))
    assert [("serving", 1.0), ("serving", 1.0), ("serving", 1.0), ("ejected", 4.0), ("ejected", 4.0)] == moments


@pytest.mark.parametrize("event", [Event.ANSWERED, Event.CALL_BEGAN, Event.RESUME])
def test_nothing_new_is_the_same_object(event: Event) -> None:
    serving = step(Health(), Event.ANSWERED, 1.0)
    assert serving is step(serving, event, 2.0)


# ---------------------------------------------------------------- any events

_seen = st.lists(st.tuples(st.sampled_from(Event), st.sampled_from([0.1, 1.0, 40.0]), st.booleans()), max_size=20)
Seen = list[tuple[Event, float, bool]]


def run(seen: Seen) -> list[tuple[Health, float]]:
    health, now_s = Health(), 0.0
    states = [(health, now_s)]
    for event, pause_s, last in seen:
        now_s += pause_s
        health = step(health, event, now_s, last=last)
        states.append((health, now_s))
    return states


@steady
@given(seen=_seen)
def test_the_same_events_give_the_same_states(seen: Seen) -> None:
    assert run(seen) == run(seen)


@steady
@given(seen=_seen)
def test_whatever_was_seen_these_hold(seen: Seen) -> None:
    states = run(seen)
    for (before, _), (health, now_s), (event, _, last) in zip(states, states[1:], seen, strict=False):
        moved = health.state is not before.state
        assert (now_s if moved else before.since_s) == health.since_s
        if before.state is State.DRAINING and moved:
            assert Event.RESUME is event
        if health.state is State.PROBATION and moved:
            assert before.on_trial
            assert event in {Event.ANSWERED, Event.SLEEPS}
            assert now_s >= before.back_at_s
        if health.state is State.EJECTED and moved:
            assert BACK_OFF_S <= health.back_at_s - now_s + 1e-9 <= MAX_BACK_OFF_S + 2e-9
            assert health.ejections in {1, before.ejections + 1}
            assert (0, 0, 0) == (health.timeouts, health.failures, health.absences)
            assert not (last and event in SOFT - {Event.TIMED_OUT})
        if before.state is State.PROBATION and health.state is State.SERVING:
            assert Event.CALL_BEGAN is event
        if before.on_trial and health.state in {State.SERVING, State.SLEEPING}:
            assert (State.PROBATION, Event.CALL_BEGAN) == (before.state, event)
        assert (health.state in {State.SERVING, State.SLEEPING}) <= (not health.on_trial)
        assert (health.state in {State.EJECTED, State.PROBATION}) <= health.on_trial


@steady
@given(seen=_seen)
def test_from_everywhere_there_is_a_way_back(seen: Seen) -> None:
    health, now_s = run(seen)[-1]
    for event in (Event.RESUME, Event.ANSWERED, Event.CALL_BEGAN):
        now_s += MAX_BACK_OFF_S
        health = step(health, event, now_s)
    assert State.SERVING is health.state


@steady
@given(seen=_seen)
def test_a_look_at_something_sound_wakes_every_hope(seen: Seen) -> None:
    health, now_s = run(seen)[-1]
    assert 0 == step(health, Event.ANSWERED, now_s + 1.0).absences


def test_an_instance_that_calls_found_failing_and_a_look_found_dead_is_worth_waiting_for() -> None:
    health = Health(state=State.SERVING)
    for _ in range(3):
        health = step(health, Event.CALL_FAILED, 1.0)
    assert (health.state, health.hopeful) == (State.EJECTED, False)
    assert step(health, Event.REFUSED, 1.1).hopeful
