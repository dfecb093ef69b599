from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.fleet.fleet import Fleet, Lease
from router.fleet.health import Event, State
from router.fleet.instance import Facts
from tests.fleet import sample

steady = settings(derandomize=True, max_examples=300, deadline=None)


def test_slots_are_leased_until_none_is_free() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=2)
    assert [True, True, False] == [fleet.lease("a") is not None for _ in range(3)]
    assert (2, 0) == (fleet.view.rows["a"].busy, fleet.view.rows["a"].free)


def test_a_lease_that_is_given_back_is_free_for_the_next() -> None:
    fleet = sample.fleet({"m": ["a"]})
    lease = fleet.lease("a")
    assert lease is not None
    lease.give_back()
    assert fleet.lease("a") is not None


def test_giving_back_twice_frees_one_slot() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=2)
    first, second = fleet.lease("a"), fleet.lease("a")
    assert first is not None
    assert second is not None
    first.give_back()
    first.give_back()
    assert 1 == fleet.view.rows["a"].busy
    assert ("Lease(a, given back)", "Lease(a, held)") == (repr(first), repr(second))


def test_nothing_is_leased_on_an_instance_that_is_not_ours() -> None:
    assert sample.fleet({"m": ["a"]}).lease("b") is None


@pytest.mark.parametrize("event", [Event.LOADING, Event.REFUSED, Event.SWAPPED, Event.DRAIN])
def test_nothing_is_leased_on_an_instance_that_does_not_serve(event: Event) -> None:
    fleet = sample.fleet({"m": ["a"]})
    fleet.observe("a", event, 1.0)
    assert fleet.lease("a") is None


def test_a_lease_outlives_the_health_of_its_instance() -> None:
    fleet = sample.fleet({"m": ["a"]})
    lease = fleet.lease("a")
    assert lease is not None
    fleet.observe("a", Event.REFUSED, 1.0)
    fleet.observe("a", Event.ANSWERED, 2.0)
    assert State.PROBATION is fleet.view.rows["a"].health.state
    assert fleet.lease("a") is None
    lease.give_back()
    assert fleet.lease("a") is not None


def test_observe_tells_the_state_before_and_after() -> None:
    fleet = Fleet(sample.registry({"m": ["a", "b"]}, slots=1))
    fleet.observe("b", Event.ANSWERED, 1.0)
    assert (State.UNKNOWN, State.SERVING) == fleet.observe("a", Event.ANSWERED, 1.0)
    assert (State.SERVING, State.SERVING) == fleet.observe("a", Event.TIMED_OUT, 2.0)
    assert (State.SERVING, State.EJECTED) == fleet.observe("a", Event.TIMED_OUT, 3.0)


@pytest.mark.parametrize(("configured", "told", "slots"), [(None, 4, 4), (2, 4, 2), (8, 4, 8)])
def test_the_registrys_slots_win_over_what_the_instance_says(configured: int | None, told: int, slots: int) -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=configured)
    fleet.learn("a", Facts(slots=told))
    assert slots == fleet.view.rows["a"].slots


def test_until_its_slots_are_known_an_instance_takes_no_call() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=None)
    assert fleet.lease("a") is None
    fleet.learn("a", Facts(slots=1))
    assert fleet.lease("a") is not None


def test_fewer_slots_than_leases_take_nothing_away_and_give_nothing_new() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=None)
    fleet.learn("a", Facts(slots=3))
    leases = [fleet.lease("a") for _ in range(3)]
    fleet.learn("a", Facts(slots=1))
    free = [fleet.view.rows["a"].free]
    for lease in leases:
        assert lease is not None
        lease.give_back()
        free.append(fleet.view.rows["a"].free)
    assert [0, 0, 0, 1] == free


def test_an_instance_in_two_pools_has_its_slots_once() -> None:
    fleet = sample.fleet({"m": ["a"], "n": ["a"]})
    fleet.lease("a")
    assert (0, 0) == (fleet.view.pool_rows("m")[0].free, fleet.view.pool_rows("n")[0].free)


def test_the_view_is_live_and_a_row_that_was_read_is_not() -> None:
    fleet = sample.fleet({"m": ["a"]})
    view = fleet.view
    row = view.rows["a"]
    fleet.lease("a")
    assert (0, 1) == (row.busy, view.rows["a"].busy)


def test_a_lease_changes_nothing_but_how_busy_a_row_is() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=3)
    fleet.learn("a", Facts(slots=5, ctx_tokens=4096))
    before = fleet.view.rows["a"]
    lease = fleet.lease("a")
    assert lease is not None
    lease.give_back()
    assert before == fleet.view.rows["a"]


def test_its_repr_is_a_line_for_an_operator() -> None:
    fleet = sample.fleet({"m": ["a", "b"]}, slots=2)
    fleet.lease("a")
    fleet.observe("b", Event.REFUSED, 1.0)
    assert "Fleet[a serving 1/2, b ejected 0/2]" == repr(fleet)


_ids = st.sampled_from(["a", "b", "stranger"])
_ours = st.sampled_from(["a", "b"])
_steps = st.one_of(
    st.tuples(st.just("lease"), _ids),
    st.tuples(st.just("give_back"), st.integers(0, 30)),
    st.tuples(st.just("observe"), _ours, st.sampled_from(Event)),
    st.tuples(st.just("learn"), _ours, st.integers(1, 3)),
)


@steady
@given(steps=st.lists(_steps, max_size=40), slots=st.none() | st.integers(1, 3))
def test_whatever_happens_no_slot_is_leased_twice_and_every_lease_comes_back(
    steps: list[tuple[object, ...]], slots: int | None
) -> None:
    fleet = Fleet(sample.registry({"m": ["a", "b"]}, slots))
    granted: list[Lease] = []
    held: list[Lease] = []
    for now_s, what in enumerate(steps):
        match what:
            case ("lease", str(id_)):
                row = fleet.view.rows.get(id_)
                lease = fleet.lease(id_)
                assert (row is not None and row.serving and row.busy < row.slots) == (lease is not None)
                if lease is not None:
                    granted.append(lease)
                    held.append(lease)
            case ("give_back", int(at)) if granted:
                lease = granted[at % len(granted)]  # some of them for the second time
                lease.give_back()
                held = [other for other in held if other is not lease]
            case ("observe", str(id_), Event() as event):
                fleet.observe(id_, event, float(now_s))
            case ("learn", str(id_), int(told)):
                fleet.learn(id_, Facts(slots=told))
        assert {id_: row.busy for id_, row in fleet.view.rows.items() if row.busy} == Counter(
            lease.instance_id for lease in held
        )
    for lease in held:
        lease.give_back()
    assert [0, 0] == [row.busy for row in fleet.view.rows.values()]


@pytest.mark.parametrize(
    "use",
    [
        lambda fleet: fleet.observe("gone", Event.ANSWERED, 1.0),
        lambda fleet: fleet.learn("gone", Facts(slots=1)),
    ],
    ids=["observe", "learn"],
)
def test_nobody_tells_of_an_instance_that_is_not_there(use: Callable[[Fleet], object]) -> None:
    with pytest.raises(KeyError):
        use(sample.fleet({"m": ["a"]}))
