from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from router.errors import NotFound
from router.fleet.closing import (
    ARRIVES_S,
    LONGEST_CLOSING_S,
    MUTE_CLOSING_S,
    UNBEGUN_IDLE_S,
    UNBEGUN_S,
)
from router.fleet.fleet import Asked, Fleet, Lease
from router.fleet.health import Event, State
from router.fleet.instance import Facts
from router.fleet.registry import Registry
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


@pytest.mark.parametrize("use", [lambda fleet: fleet.lease("gone"), lambda fleet: fleet.settle_closing("gone", 9.0)])
def test_an_instance_that_is_not_there_has_no_slots(use: Callable[[Fleet], object]) -> None:
    assert not use(sample.fleet({"m": ["a"]}))


def test_what_is_seen_of_an_instance_that_a_reload_took_away_changes_nothing() -> None:
    fleet = sample.fleet({"m": ["a"]})
    assert (State.UNKNOWN, State.UNKNOWN) == fleet.observe("gone", Event.ANSWERED, 1.0)
    assert Event.ANSWERED is fleet.learn("gone", Facts(slots=1))
    assert ["a"] == list(fleet.view.rows)


# ---------------------------------------------------------------- closing slots


def leased(fleet: Fleet, id_: str = "a", *, begun: bool = True) -> Lease:
    lease = fleet.lease(id_)
    assert lease is not None
    if begun:
        lease.begin()
    return lease


def counts(fleet: Fleet, id_: str = "a") -> tuple[int, int, int]:
    row = fleet.view.rows[id_]
    return row.busy, row.closing, row.free


def says(fleet: Fleet, processing: int, now_s: float, *, decodes: int | None = None) -> bool:
    return fleet.settle_closing("a", now_s, asked=fleet.asking("a", now_s), processing=processing, decodes=decodes)


def test_a_slot_that_is_closing_is_not_free_until_the_instance_says_so() -> None:
    fleet = sample.fleet({"m": ["a"]})
    lease = leased(fleet)
    lease.close(1.0)
    assert ((0, 1, 0), ["a"]) == (counts(fleet), fleet.closing())
    lease.give_back()
    lease.close(1.0)
    assert (0, 1, 0) == counts(fleet), "a lease ends once"
    assert not says(fleet, 1, 1.1)
    assert (0, 1, 0) == counts(fleet)
    assert says(fleet, 0, 1.2)
    assert ((0, 0, 1), []) == (counts(fleet), fleet.closing())


@pytest.mark.parametrize(("mute", "longest_s"), [(True, MUTE_CLOSING_S), (False, LONGEST_CLOSING_S)])
def test_a_slot_does_not_close_for_ever(mute: bool, longest_s: float) -> None:
    fleet = sample.fleet({"m": ["a"]})
    leased(fleet).close(1.0)
    assert not fleet.settle_closing("a", 1.0 + longest_s - 0.01, mute=mute)
    assert fleet.settle_closing("a", 1.0 + longest_s, mute=mute)
    assert (0, 0, 1) == counts(fleet)


def test_calls_of_ours_that_run_are_taken_off_what_the_instance_says() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=3)
    leased(fleet)
    leased(fleet)
    leased(fleet).close(1.0)
    assert not says(fleet, 3, 1.1)
    assert says(fleet, 2, 1.2)
    assert (2, 0, 1) == counts(fleet)


def test_a_call_that_was_over_when_the_answer_came_is_not_taken_off() -> None:
    """Of two that ran when it was asked and one that was still counted, it may be the one that was closed."""
    fleet = sample.fleet({"m": ["a"]}, slots=2)
    other, gone = leased(fleet), leased(fleet)
    gone.close(1.0)
    asked = fleet.asking("a", 1.1)
    other.give_back()
    assert not fleet.settle_closing("a", 1.2, asked=asked, processing=1)


def test_a_call_that_began_after_the_question_is_not_taken_off() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=2)
    leased(fleet).close(1.0)
    asked = fleet.asking("a", 1.1)
    leased(fleet)
    assert not fleet.settle_closing("a", 1.2, asked=asked, processing=1)


@pytest.mark.parametrize("read_again", [False, True])
def test_a_call_that_was_not_read_is_not_taken_off(read_again: bool) -> None:
    """It may be over at the instance, its end still on the way to us."""
    fleet = sample.fleet({"m": ["a"]}, slots=2)
    slow, gone = leased(fleet), leased(fleet)
    gone.close(1.0)
    slow.reading(False)
    slow.reading(False)
    if read_again:
        slow.reading(True)
    assert not says(fleet, 1, 1.1)
    slow.give_back()
    assert says(fleet, 0, 1.2)


def test_a_call_that_had_not_begun_may_still_begin_for_a_while() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=2)
    leased(fleet, begun=False).close(1.0)
    other = leased(fleet)
    assert not says(fleet, 1, 1.0 + UNBEGUN_S - 0.01)
    assert says(fleet, 1, 1.0 + UNBEGUN_S)
    other.give_back()


def test_a_call_that_had_not_begun_is_counted_once_the_second_decode_since_it_arrived_has_begun() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=2)
    gone = leased(fleet, begun=False)
    gone.sent(1.0)
    gone.close(1.5)
    other = leased(fleet)
    told = [says(fleet, 1, now_s, decodes=decodes) for now_s, decodes in ((1.9, 5), (1.99, 50), (2.0, 60), (2.2, 61))]
    assert ([False] * 4, (1, 1, 0)) == (told, counts(fleet))
    assert says(fleet, 1, 2.4, decodes=62)
    assert (1, 0, 1) == counts(fleet)
    other.give_back()


def test_a_call_that_an_instance_has_not_surely_counted_is_not_taken_off() -> None:
    """What it counts may be the one that was closed, and this one still sits in its queue."""
    fleet = sample.fleet({"m": ["a"]}, slots=2)
    leased(fleet).close(1.0)
    unbegun = leased(fleet, begun=False)
    unbegun.sent(1.0)
    told = [says(fleet, 1, now_s, decodes=decodes) for now_s, decodes in ((1.1, 5), (2.0, 50), (2.2, 51), (9.0, 51))]
    assert ([False] * 4, (1, 1, 0)) == (told, counts(fleet))
    assert says(fleet, 1, 9.5, decodes=52)
    assert (1, 0, 1) == counts(fleet)


def test_a_call_that_began_between_the_question_and_its_answer_is_not_taken_off() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=2)
    leased(fleet).close(1.0)
    late = leased(fleet, begun=False)
    asked = fleet.asking("a", 1.1)
    late.sent(0.0)
    late.begin()
    assert not fleet.settle_closing("a", 1.3, asked=asked, processing=1, decodes=9)
    assert says(fleet, 1, 1.4, decodes=9)


def test_a_server_that_was_started_anew_counts_its_decodes_from_the_beginning() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=2)
    gone = leased(fleet, begun=False)
    gone.sent(1.0)
    gone.close(1.5)
    other = leased(fleet)
    told = [says(fleet, 1, now_s, decodes=decodes) for now_s, decodes in ((2.0, 60), (2.2, 7), (2.4, 8), (2.6, 9))]
    assert [False, False, False, True] == told
    other.give_back()


def test_an_idle_instance_would_have_begun_it_by_now() -> None:
    fleet = sample.fleet({"m": ["a"]})
    leased(fleet, begun=False).close(1.0)
    assert not says(fleet, 0, 1.0 + UNBEGUN_IDLE_S - 0.01)
    assert says(fleet, 0, 1.0 + UNBEGUN_IDLE_S)


def test_a_call_that_may_still_begin_does_not_free_one_that_runs() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=2)
    runs, unbegun = leased(fleet), leased(fleet, begun=False)
    runs.close(1.0)
    unbegun.close(1.0)
    assert not says(fleet, 1, 1.2)
    assert (0, 2, 0) == counts(fleet)
    assert says(fleet, 0, 1.3)
    assert (0, 1, 1) == counts(fleet)


def test_while_an_instance_is_out_no_slot_of_it_is_taken_for_free_by_the_clock() -> None:
    """A process that was suspended goes on with what it had."""
    fleet = sample.fleet({"m": ["a"]})
    leased(fleet).close(1.0)
    for now_s in range(5):
        fleet.observe("a", Event.TIMED_OUT, 2.0 + now_s)
    assert State.EJECTED is fleet.view.rows["a"].health.state
    assert not fleet.settle_closing("a", 100.0)
    fleet.observe("a", Event.ANSWERED, 100.0)
    assert not fleet.settle_closing("a", 100.0 + LONGEST_CLOSING_S - 0.01)
    assert fleet.settle_closing("a", 100.0 + LONGEST_CLOSING_S)


def test_a_process_that_is_gone_has_nothing_that_closes() -> None:
    fleet = sample.fleet({"m": ["a"]})
    leased(fleet).close(1.0)
    fleet.observe("a", Event.REFUSED, 1.1)
    assert (0, 0, 0) == counts(fleet)
    fleet.observe("a", Event.ANSWERED, 9.0)
    assert (0, 0, 1) == counts(fleet)


# ---------------------------------------------------------------- the last of a pool


def test_the_last_that_serves_in_one_of_its_pools_is_kept_and_a_dead_one_is_not() -> None:
    fleet = sample.fleet({"m": ["a", "b"], "n": ["b"]})
    assert State.EJECTED is fleet.observe("a", Event.BROKE, 1.0)[1], "b serves m"
    assert State.SERVING is fleet.observe("b", Event.BROKE, 1.0)[1], "nobody else serves n"
    assert State.EJECTED is fleet.observe("b", Event.REFUSED, 1.0)[1]


# ---------------------------------------------------------------- models


def test_an_instance_whose_model_was_swapped_moves_to_the_pool_of_that_model_and_back() -> None:
    fleet = sample.fleet({"m": ["a", "b"], "n": ["c"]}, slots=None)
    for id_, model in (("a", "x"), ("b", "x"), ("c", "y")):
        assert Event.ANSWERED is fleet.learn(id_, Facts(slots=1, model=model))
    told = [fleet.learn("a", Facts(slots=1, model=model)) for model in ("y", "n", "z", "x")]
    assert [Event.ANSWERED, Event.ANSWERED, Event.SWAPPED, Event.ANSWERED] == told
    fleet.learn("a", Facts(slots=1, model="y"))
    assert {"m": ("b",), "n": ("c", "a")} == dict(fleet.view.members)
    fleet.learn("a", Facts(slots=1, model=None))
    assert {"m": ("a", "b"), "n": ("c",)} == dict(fleet.view.members)


def misplaced() -> Fleet:
    fleet = sample.fleet({"m": ["a", "b"]}, slots=None)
    fleet.learn("a", Facts(slots=1, model="x"))
    event = fleet.learn("a", Facts(slots=1, model="new"))
    assert fleet.observe("a", event, 1.0)[1] is State.MISPLACED
    return fleet


def test_a_misplaced_instance_that_is_resumed_is_meant_to_serve_what_it_serves() -> None:
    fleet = misplaced()
    assert fleet.observe("a", Event.RESUME, 2.0)[1] is State.UNKNOWN
    assert fleet.learn("a", Facts(slots=1, model="new")) is Event.ANSWERED
    assert fleet.observe("a", Event.ANSWERED, 3.0)[1] is State.SERVING


def test_a_misplaced_instance_that_is_listed_elsewhere_is_looked_at_anew() -> None:
    fleet = misplaced()
    fleet.adopt(sample.registry({"m": ["b"], "other": ["a"]}, slots=None))
    assert fleet.view.rows["a"].health.state is State.UNKNOWN
    assert fleet.learn("a", Facts(slots=1, model="new")) is Event.ANSWERED


def test_an_instance_that_sleeps_says_so_whatever_its_pool() -> None:
    fleet = sample.fleet({"m": ["a"], "n": ["c"]}, slots=None)
    fleet.learn("a", Facts(slots=1, model="x"))
    assert Event.SLEEPS is fleet.learn("a", Facts(slots=1, model="x", sleeping=True))
    assert Event.SLEEPS is fleet.learn("a", Facts(slots=1, model="n", sleeping=True))


# ---------------------------------------------------------------- by name


def test_an_operator_means_an_instance_or_all_of_a_host() -> None:
    known = sample.registry({"m": ["a", "b", "c"]}, 1)
    hosts = {"a": "rig", "b": "rig", "c": "a"}
    instances = {id_: replace(one, host=hosts[id_]) for id_, one in known.instances.items()}
    fleet = Fleet(replace(known, instances=instances))
    assert [["a"], ["a", "b"]] == [fleet.named(name) for name in ("a", "rig")]
    with pytest.raises(NotFound, match="no instance and no host 'nobody'"):
        fleet.named("nobody")


# ---------------------------------------------------------------- reloads


def seats(slots: int = 2, **addresses: str) -> Registry:
    """One pool of these ids at these addresses."""
    known = sample.registry({"m": list(addresses)}, slots)
    return replace(known, instances={id_: sample.instance(id_, slots, at=at) for id_, at in addresses.items()})


def test_a_reload_says_what_is_new_and_what_is_gone_and_keeps_what_stayed() -> None:
    fleet = Fleet(seats(a="one", b="two", c="three"))
    for id_ in "abc":
        fleet.observe(id_, Event.ANSWERED, 1.0)
    new, gone = fleet.adopt(seats(a="one", b="elsewhere", d="three"))
    assert (["b", "d"], ["b", "c"]) == (sorted(one.id for one in new), sorted(gone))
    states = {id_: row.health.state.value for id_, row in fleet.view.rows.items()}
    assert {"a": "serving", "b": "unknown", "d": "serving"} == states
    assert ([], []) == fleet.adopt(seats(a="one", b="elsewhere", d="three"))


def test_calls_that_run_where_a_reload_took_the_instance_away_end_well_and_count_when_it_is_back() -> None:
    fleet = Fleet(seats(a="one"))
    fleet.observe("a", Event.ANSWERED, 1.0)
    first, second = leased(fleet), leased(fleet)
    fleet.adopt(seats(b="two"))
    first.give_back()
    fleet.adopt(seats(c="one"))
    assert (1, 0, 1) == counts(fleet, "c")
    second.close(2.0)
    assert (0, 1, 1) == counts(fleet, "c")
    assert ["c"] == fleet.closing()


def test_an_id_that_gets_another_process_has_nothing_of_the_old_one() -> None:
    fleet = Fleet(seats(a="one"))
    fleet.observe("a", Event.ANSWERED, 1.0)
    old = leased(fleet)
    fleet.adopt(seats(a="two"))
    fleet.observe("a", Event.ANSWERED, 2.0)
    leased(fleet)
    old.give_back()
    assert (1, 0, 1) == counts(fleet)


def test_a_process_is_known_by_its_place_whatever_it_is_called() -> None:
    fleet = Fleet(seats(a="one", b="two"))
    one, two = (fleet.view.rows[id_].instance for id_ in "ab")
    fleet.adopt(seats(a="two", c="three"))
    assert (None, "a") == (fleet.id_of(one), fleet.id_of(two))


def test_who_was_taken_away_is_shown_while_calls_run_there_and_then_forgotten() -> None:
    fleet = Fleet(seats(a="one", b="two"))
    for id_ in "ab":
        fleet.observe(id_, Event.ANSWERED, 1.0)
    first, second = leased(fleet), leased(fleet)
    leased(fleet, "b").close(1.0)
    fleet.adopt(seats(c="three"))
    assert [("a", 2)] == [(row.instance.id, row.busy) for row in fleet.departed()]
    first.give_back()
    second.close(2.0)
    assert ([], 2) == (fleet.departed(), len(fleet._departed))
    fleet.forget_departed(2.0 + LONGEST_CLOSING_S - 0.01)
    assert 1 == len(fleet._departed)
    fleet.forget_departed(2.0 + LONGEST_CLOSING_S)
    assert [] == fleet._departed


def test_who_has_moved_stays_with_its_model_under_another_name_and_is_asked_anew_when_its_pool_is_gone() -> None:
    def registry(names: str, *pools: str) -> Registry:
        known = sample.registry({pool: (names if pool == "m" else ["c"]) for pool in pools}, 1)
        return replace(
            known,
            instances={id_: replace(one, address="c" if id_ == "c" else "x") for id_, one in known.instances.items()},
        )

    fleet = Fleet(registry("a", "m", "n"))
    for id_, model in (("a", "x"), ("c", "y"), ("a", "y")):
        fleet.observe(id_, fleet.learn(id_, Facts(slots=1, model=model)), 1.0)
    assert {"m": (), "n": ("c", "a")} == dict(fleet.view.members)
    fleet.adopt(registry("b", "m", "n"))
    assert {"m": (), "n": ("c", "b")} == dict(fleet.view.members)
    fleet.adopt(registry("b", "m"))
    assert (("b",), State.UNKNOWN) == (fleet.view.members["m"], fleet.view.rows["b"].health.state)
    fleet.observe("b", fleet.learn("b", Facts(slots=1, model="y")), 2.0)
    assert State.MISPLACED is fleet.view.rows["b"].health.state


def test_what_is_on_probation_takes_one_call_beside_those_that_still_run_from_before() -> None:
    fleet = sample.fleet({"m": ["a"]}, slots=4)
    ends, cut, goes_on = leased(fleet), leased(fleet), leased(fleet)
    for now_s in range(5):
        fleet.observe("a", Event.TIMED_OUT, 1.0 + now_s)
    fleet.observe("a", Event.ANSWERED, 100.0)
    assert (3, 0, 1) == counts(fleet)
    new = leased(fleet)
    ends.give_back()
    cut.close(101.0)
    assert (2, 1, 0) == counts(fleet), "they make no room"
    new.give_back()
    assert (1, 1, 1) == counts(fleet)
    leased(fleet).close(102.0)
    assert (1, 2, 0) == counts(fleet), "its slot may still be busy"
    fleet.observe("a", Event.CALL_BEGAN, 103.0)
    assert (1, 2, 1) == counts(fleet)
    goes_on.give_back()
    assert (0, 2, 2) == counts(fleet)


def test_two_that_change_places_keep_each_its_own() -> None:
    fleet = Fleet(seats(a="one", b="two"))
    for id_ in "ab":
        fleet.observe(id_, Event.ANSWERED, 1.0)
    at_one = leased(fleet)
    fleet.adopt(seats(a="two", b="one"))
    assert ((0, 0, 2), (1, 0, 1)) == (counts(fleet, "a"), counts(fleet, "b"))
    at_one.give_back()
    assert (0, 0, 2) == counts(fleet, "b")


# ---------------------------------------------------------------- any history


class Sent:
    """A call of ours as its instance sees it."""

    def __init__(self, lease: Lease, process: str, sent_s: float) -> None:
        self.lease = lease
        self.process = process
        self.sent_s = sent_s
        self.state = "sent"  # then "queued", where no count has it, "runs" and "over"
        self.next_up = False  # the queue is emptied at the end of the decode that is under way
        self.closed = self.old = False

    @property
    def inside(self) -> bool:
        return self.state != "over"


SLOTS = 3
TELLS_NO_DECODES = "two.example"
# How many calls it has, how often it has decoded, and which of ours were over by then, their end not read yet.
Told = tuple[int, int | None, list[Sent]]
REGISTRIES = (
    seats(SLOTS, a="one", b="two"),
    seats(SLOTS, a="one"),
    seats(SLOTS, b="two"),
    seats(SLOTS, a="two", b="one"),
    seats(SLOTS, c="one", b="two"),
    seats(SLOTS, a="three", b="two"),
)
HOW_FAR = ("sent", "runs", "begun", "begun")
PAUSES_S = (0.15, 0.5, 1.1)
WELL = (Event.ANSWERED, Event.CALL_BEGAN, Event.RESUME)
ANYTHING = tuple(event for event in Event if event is not Event.REFUSED)
MODELS = ("x", "m", "n")
VERBS = {
    "lease": 10, "arrives": 3, "decodes": 8, "head": 1, "ends": 4, "fails": 2, "pause": 5, "resume": 1, "cut": 6,
    "notices": 2, "ask": 5, "counts": 4, "tells": 4, "tells at once": 8, "later": 5, "well": 3, "anything": 1,
    "dies": 1, "learn": 1, "reload": 1,
}  # fmt: skip
_steps = st.tuples(
    st.sampled_from([verb for verb, often in VERBS.items() for _ in range(often)]),
    st.sampled_from(["a", "a", "a", "a", "a", "a", "b", "c"]),
    st.integers(0, 59),
)
Step = tuple[str, str, int]


class World:
    """The fleet on one side, and on the other what really happens in the processes that it counts."""

    def __init__(self) -> None:
        self.fleet = Fleet(REGISTRIES[0])
        self.now_s = 0.0
        self.calls: list[Sent] = []
        self.decodes = dict.fromkeys(("one.example", "two.example", "three.example"), 0)
        self.asked: dict[str, tuple[str, Asked, Told | None]] = {}
        for id_ in self.fleet.view.rows:
            self.observe(id_, Event.ANSWERED)

    def process(self, id_: str) -> str | None:
        row = self.fleet.view.rows.get(id_)
        return row.instance.address if row else None

    def pick(self, at: int, *states: str, held: bool | None = None) -> Sent | None:
        some = [it for it in self.calls if it.state in states and (held is None or it.lease.held is held)]
        return some[at % len(some)] if some else None

    def running(self, process: str | None) -> int:
        return sum(it.process == process and it.state == "runs" for it in self.calls)

    def happen(self, step: Step) -> None:
        verb, id_, at = step
        match verb:
            case "later":
                # Never so late that the clock alone frees a slot.
                self.now_s = min(self.now_s + PAUSES_S[at % 3], LONGEST_CLOSING_S - 0.01)
                self.pass_time()
            case "decodes":
                self.decode(self.process(id_))
            case "reload":
                self.fleet.adopt(REGISTRIES[at % len(REGISTRIES)])
            case "lease":
                self.lease(id_, HOW_FAR[at % 4])
            case "well" | "anything" | "learn" | "dies":
                self.see(verb, id_, at)
            case "ask" | "counts" | "tells":
                self.talk(verb, id_)
            case "tells at once":
                self.talk("ask", id_)
                self.talk("tells", id_)
            case _:
                self.to_call(verb, at)

    def lease(self, id_: str, how_far: str) -> None:
        row, process = self.fleet.view.rows.get(id_), self.process(id_)
        lease = self.fleet.lease(id_)
        assert (row is not None and row.free > 0) == (lease is not None)
        if lease is None or process is None:
            return
        call = Sent(lease, process, self.now_s)
        self.calls.append(call)
        lease.sent(self.now_s)
        if how_far != "sent":
            call.state = "runs"
        if how_far == "begun":
            lease.begin()

    # What a process does by itself. One that tells no decodes takes what comes within the time allowed.

    def pass_time(self) -> None:
        for it in self.calls:
            if it.state == "sent" and it.sent_s + min(ARRIVES_S, UNBEGUN_IDLE_S) <= self.now_s:
                it.state = "queued"
            if it.state == "queued" and it.process == TELLS_NO_DECODES and it.sent_s + UNBEGUN_S <= self.now_s:
                it.state = "runs"
        self.take_idly()

    def decode(self, process: str | None) -> None:
        if process is None or not self.running(process):
            return
        self.decodes[process] += 1
        for it in self.calls:
            if it.process == process and it.state == "queued":
                it.state, it.next_up = ("runs" if it.next_up else "queued"), True

    def take_idly(self) -> None:
        for process in self.decodes:
            if not self.running(process):
                for it in self.calls:
                    if it.process == process and it.state == "queued":
                        it.state = "runs"

    def observe(self, id_: str, event: Event) -> None:
        before, after = self.fleet.observe(id_, event, self.now_s)
        if after is State.PROBATION is not before:
            for it in self.calls:
                it.old |= it.process == self.process(id_)

    def see(self, verb: str, id_: str, at: int) -> None:
        match verb:
            case "well":
                self.observe(id_, WELL[at % len(WELL)])
            case "anything":
                self.observe(id_, ANYTHING[at % len(ANYTHING)])
            case "learn":
                self.fleet.learn(id_, Facts(slots=SLOTS, model=MODELS[at % len(MODELS)]))
            case _:
                for it in self.calls:
                    if it.process == self.process(id_):
                        it.state = "over"
                self.asked.pop(id_, None)
                self.observe(id_, Event.REFUSED)

    def talk(self, verb: str, id_: str) -> None:
        """Ask an instance how much it processes; it counts, and later its answer comes."""
        process = self.process(id_)
        if verb == "ask" and process is not None:
            self.asked[id_] = process, self.fleet.asking(id_, self.now_s), None
        elif verb == "counts" and id_ in self.asked:
            self.asked[id_] = *self.asked[id_][:2], self.count(self.asked[id_][0])
        elif verb == "tells" and id_ in self.asked:
            was, asked, told = self.asked.pop(id_)
            if was != process:
                return  # a loop that asks is bound to one process
            processing, decodes, over = told or self.count(was)
            for it in over:  # an answer is weighed when what ended before it has been read
                if not it.lease.unread:
                    it.lease.give_back()
            before = [row.closing for row in self.fleet.view.rows.values()]
            freed = self.fleet.settle_closing(id_, self.now_s, asked=asked, processing=processing, decodes=decodes)
            assert freed == (before != [row.closing for row in self.fleet.view.rows.values()])

    def count(self, process: str) -> Told:
        over = [it for it in self.calls if it.process == process and not it.inside and it.lease.held]
        return self.running(process), None if process == TELLS_NO_DECODES else self.decodes[process], over

    def to_call(self, verb: str, at: int) -> None:
        match verb:
            case "arrives":
                if it := self.pick(at, "sent"):
                    it.state = "queued"
                    self.take_idly()
            case "head":
                if it := self.pick(at, "runs", held=True):
                    it.lease.begin()
            case "ends":
                if it := self.pick(at, "runs"):
                    it.state = "over"
                    if at % 2 and it.lease.held and not it.lease.unread:
                        it.lease.give_back()  # the others' ends are still on their way
                    self.take_idly()
            case "fails":  # its end, or a failure, is read at last
                if it := self.pick(at, "over", held=True):
                    it.lease.give_back()
            case "cut":
                if it := self.pick(at, "sent", "queued", "runs", "over", held=True):
                    it.closed = True
                    it.lease.close(self.now_s)
            case "notices":
                if it := self.pick(at, "sent", "queued", "runs", held=False):
                    it.state = "over"
                    self.take_idly()
            case "pause" | "resume":
                if it := self.pick(at, "runs", "over", held=True):
                    it.lease.reading(verb == "resume")

    def check(self) -> None:
        fleet = self.fleet
        for row in fleet.view.rows.values():
            process = row.instance.address
            mine = [it for it in self.calls if it.process == process]
            assert row.busy == sum(it.lease.held for it in mine), "a lease was lost, or counted twice"
            assert row.busy + row.closing <= SLOTS
            closing = [it for it in mine if not it.lease.held and it.closed]
            assert sum(it.inside for it in closing) <= row.closing, (
                "a slot was freed in which a call runs, or may begin"
            )
            if row.health.state is State.PROBATION:
                assert sum(it.lease.held and not it.old for it in mine) <= 1, "more than one call on probation"
        for process in {it.process for it in self.calls}:
            assert sum(it.process == process and it.inside for it in self.calls) <= SLOTS, "more calls than slots"
        assert all(row.busy for row in fleet.departed())
        shown = {id_: row.instance.id for id_, row in fleet.view.rows.items()}
        assert all(id_ == told for id_, told in shown.items())
        assert {id_ for ids in fleet.view.members.values() for id_ in ids} <= set(shown)


@settings(steady, max_examples=1500)
@given(steps=st.lists(_steps, min_size=15, max_size=50))
def test_whatever_happens_no_process_has_more_calls_than_slots(steps: list[Step]) -> None:
    world = World()
    for what in steps:
        world.happen(what)
        world.check()


@steady
@given(steps=st.lists(_steps, min_size=15, max_size=50))
def test_whatever_happened_every_slot_is_free_in_the_end(steps: list[Step]) -> None:
    world = World()
    for what in steps:
        world.happen(what)
    for it in world.calls:
        it.lease.give_back()
        it.lease.give_back()
    fleet = world.fleet
    fleet.adopt(REGISTRIES[0])
    late_s = 100.0
    for id_ in fleet.view.rows:
        for event in (Event.RESUME, Event.ANSWERED, Event.CALL_BEGAN):
            fleet.observe(id_, event, late_s)
        fleet.learn(id_, Facts(slots=SLOTS))
        fleet.observe(id_, Event.ANSWERED, late_s)
        fleet.settle_closing(id_, late_s + LONGEST_CLOSING_S)
    assert [(0, 0, SLOTS)] * 2 == [counts(fleet, id_) for id_ in fleet.view.rows]
    assert fleet.closing() == []


@steady
@given(steps=st.lists(_steps, min_size=15, max_size=50))
def test_the_same_history_gives_the_same_fleet(steps: list[Step]) -> None:
    first, second = World(), World()
    for what in steps:
        first.happen(what)
        second.happen(what)
    assert (repr(first.fleet), dict(first.fleet.view.rows)) == (repr(second.fleet), dict(second.fleet.view.rows))
