import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.admit.desk import WAITING_PER_SLOT, Desk, Held, Rejected, Start
from router.admit.ticket import Ticket
from router.balance.call import Call
from router.balance.cost import Terms
from router.balance.policy import BESIDES_S, Choose, Decision, Place, Refuse, Wait, least
from router.fleet.fleet import Fleet, Lease
from router.fleet.health import ABSENCES_UNTIL_GONE, Event
from router.fleet.instance import Facts
from router.fleet.view import FleetView
from tests.fleet import sample

steady = settings(derandomize=True, max_examples=300, deadline=None)

PATIENCE_S = 10.0


def ticket(number: int, *excluded: str, pool: str = "m", arrived_s: float = 0.0, size_bytes: int = 0) -> Ticket:
    call = Call(pool=pool, session=number, excluded=frozenset(excluded), arrived_s=arrived_s)
    deadline_s = arrived_s + PATIENCE_S
    return Ticket(number=number, call=call, arrived_s=arrived_s, deadline_s=deadline_s, size_bytes=size_bytes)


def desk(max_waiting: int | None = None) -> Desk:
    return Desk(choose=least, max_waiting=max_waiting)


def lease(fleet: Fleet, id_: str = "a") -> Lease:
    taken = fleet.lease(id_)
    assert taken is not None
    return taken


def place(effect: Start | Held | Rejected | None) -> str:
    assert isinstance(effect, Start)
    assert isinstance(effect.decision.verdict, Place)
    return effect.decision.verdict.instance_id


# ---------------------------------------------------------------- one by one


def test_a_call_starts_at_once_where_a_slot_is_free() -> None:
    waiting = desk()
    effect = waiting.arrive(ticket(1), sample.fleet({"m": ["a"]}).view, 0.0)
    assert ("a", "Desk[nobody waits]") == (place(effect), repr(waiting))


def test_a_call_that_finds_every_slot_taken_waits_and_is_told_how_many_came_before() -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    lease(fleet)
    assert [Held(ticket(1), 0, None), Held(ticket(2), 1, None)] == [
        waiting.arrive(ticket(n), fleet.view, 0.0) for n in (1, 2)
    ]
    assert (2, "Desk[m 2]") == (waiting.waiting("m"), repr(waiting))


def test_a_slot_that_comes_free_goes_to_who_waits_longest() -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    taken = lease(fleet)
    for number in (1, 2):
        waiting.arrive(ticket(number), fleet.view, 0.0)
    assert waiting.next(fleet.view, 1.0) is None
    taken.give_back()
    effect = waiting.next(fleet.view, 1.0)
    assert isinstance(effect, Start)
    assert 1 == effect.ticket.number
    lease(fleet)
    assert waiting.next(fleet.view, 1.0) is None
    assert 1 == waiting.waiting("m")


def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    taken = lease(fleet)
    waiting.arrive(ticket(1), fleet.view, 0.0)
    taken.give_back()
    assert Held(ticket(2), 1, None) == waiting.arrive(ticket(2), fleet.view, 0.0)
    effect = waiting.next(fleet.view, 1.0)
    assert isinstance(effect, Start)
    assert 1 == effect.ticket.number


def test_the_line_of_one_model_does_not_hold_up_another() -> None:
    fleet, waiting = sample.fleet({"m": ["a"], "n": ["b"]}), desk()
    lease(fleet)
    waiting.arrive(ticket(1), fleet.view, 0.0)
    assert "b" == place(waiting.arrive(ticket(2, pool="n"), fleet.view, 0.0))


def test_two_models_on_one_instance_are_served_in_the_order_of_arrival() -> None:
    fleet, waiting = sample.fleet({"m": ["a"], "n": ["a"]}), desk()
    taken = lease(fleet)
    for number, pool in ((1, "n"), (2, "m"), (3, "n")):
        waiting.arrive(ticket(number, pool=pool), fleet.view, 0.0)
    served = []
    for _ in range(3):
        taken.give_back()
        effect = waiting.next(fleet.view, 1.0)
        assert isinstance(effect, Start)
        served.append(effect.ticket.number)
        taken = lease(fleet)
    assert [1, 2, 3] == served


@pytest.mark.parametrize(("max_waiting", "room"), [(0, 0), (1, 1), (3, 3)])
def test_the_line_is_as_long_as_configured_and_no_longer(max_waiting: int, room: int) -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk(max_waiting)
    lease(fleet)
    effects = [waiting.arrive(ticket(number), fleet.view, 0.0) for number in range(1, room + 2)]
    assert [*[Held] * room, Rejected] == [type(effect) for effect in effects]
    assert Rejected(ticket(room + 1), "queue_full") == effects[-1]


@pytest.mark.parametrize(("slots", "room"), [(1, WAITING_PER_SLOT), (3, 3 * WAITING_PER_SLOT)])
def test_by_itself_the_line_is_as_long_as_the_pool_is_strong(slots: int, room: int) -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}, slots=slots), desk()
    for _ in range(slots):
        lease(fleet)
    effects = [waiting.arrive(ticket(number), fleet.view, 0.0) for number in range(room + 1)]
    assert [room] == [at for at, effect in enumerate(effects) if isinstance(effect, Rejected)]


def test_a_line_of_no_length_still_lets_a_call_start() -> None:
    assert "a" == place(desk(0).arrive(ticket(1), sample.fleet({"m": ["a"]}).view, 0.0))


@pytest.mark.parametrize(
    ("excluded", "event", "reason"),
    [((), Event.DRAIN, "no_instance"), ((), Event.SWAPPED, "no_instance"), (("a",), Event.ANSWERED, "all_failed")],
)
def test_a_call_that_nobody_can_serve_is_refused_at_once(excluded: tuple[str, ...], event: Event, reason: str) -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    fleet.observe("a", event, 1.0)
    asked = ticket(1, *excluded)
    assert (asked, reason) == rejected(waiting.arrive(asked, fleet.view, 0.0))
    assert 0 == waiting.waiting("m")


@pytest.mark.parametrize("event", [Event.REFUSED, Event.LOADING])
def test_a_call_waits_for_an_instance_that_may_soon_be_back(event: Event) -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    fleet.observe("a", event, 1.0)
    assert Held(ticket(1), 0, None) == waiting.arrive(ticket(1), fleet.view, 0.0)
    assert waiting.next(fleet.view, 1.0) is None
    fleet.observe("a", Event.ANSWERED, 3.0)
    assert "a" == place(waiting.next(fleet.view, 3.0))


def rejected(effect: object) -> tuple[Ticket, str]:
    assert isinstance(effect, Rejected)
    return effect.ticket, effect.reason


def test_those_who_wait_are_refused_when_the_last_instance_goes() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk()
    lease(fleet), lease(fleet, "b")
    held = [ticket(1, "b"), ticket(2)]
    for one in held:
        waiting.arrive(one, fleet.view, 0.0)
    fleet.observe("a", Event.DRAIN, 1.0)
    assert (held[0], "all_failed") == rejected(waiting.next(fleet.view, 1.0))  # the other may still hope for b
    assert waiting.next(fleet.view, 1.0) is None
    for _ in range(1 + ABSENCES_UNTIL_GONE):
        assert waiting.next(fleet.view, 1.0) is None  # b may be back
        fleet.observe("b", Event.REFUSED, 1.0)
    assert (held[1], "no_instance") == rejected(waiting.next(fleet.view, 1.0))
    assert waiting.next(fleet.view, 1.0) is None
    assert 0 == waiting.waiting("m")


@pytest.mark.parametrize(("now_s", "ended"), [(9.999, False), (10.0, True), (11.0, True)])
def test_who_waited_to_the_deadline_is_refused(now_s: float, ended: bool) -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    lease(fleet)
    waiting.arrive(ticket(1), fleet.view, 0.0)
    assert (Rejected(ticket(1), "deadline") if ended else None) == waiting.next(fleet.view, now_s)


def test_a_slot_that_comes_free_after_the_deadline_goes_to_the_next() -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    taken = lease(fleet)
    waiting.arrive(ticket(1), fleet.view, 0.0)
    waiting.arrive(ticket(2, arrived_s=5.0), fleet.view, 0.0)
    taken.give_back()
    assert (ticket(1), "deadline") == rejected(waiting.next(fleet.view, 12.0))
    effect = waiting.next(fleet.view, 12.0)
    assert isinstance(effect, Start)
    assert 2 == effect.ticket.number


def test_who_leaves_is_forgotten_and_leaving_twice_does_nothing() -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    taken = lease(fleet)
    waiting.arrive(ticket(1), fleet.view, 0.0)
    assert [True, False] == [waiting.withdraw(ticket(1)) for _ in range(2)]
    taken.give_back()
    assert waiting.next(fleet.view, 1.0) is None


def test_who_never_came_cannot_leave() -> None:
    assert (False, False) == (desk().withdraw(ticket(1)), desk().withdraw(ticket(1, pool="unheard of")))


# ---------------------------------------------------------------- after a failed attempt


def test_who_comes_back_stands_where_it_stood() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk()
    lease(fleet), lease(fleet, "b")
    for number in (2, 3):
        waiting.arrive(ticket(number), fleet.view, 0.0)
    assert Held(ticket(1, "a"), 0, None) == waiting.arrive(ticket(1, "a"), fleet.view, 0.0)
    assert Held(ticket(4), 3, None) == waiting.arrive(ticket(4), fleet.view, 0.0)


def test_who_comes_back_first_of_all_starts_where_a_slot_is_free() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk()
    lease(fleet)
    taken = lease(fleet, "b")
    waiting.arrive(ticket(2), fleet.view, 0.0)
    taken.give_back()
    assert "b" == place(waiting.arrive(ticket(1, "a"), fleet.view, 0.0))


def test_who_comes_back_is_served_before_those_who_came_later() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk()
    lease(fleet)
    taken = lease(fleet, "b")
    for one in (ticket(2), ticket(3), ticket(1, "a")):
        waiting.arrive(one, fleet.view, 0.0)
    taken.give_back()
    effect = waiting.next(fleet.view, 1.0)
    assert isinstance(effect, Start)
    assert (1, "b") == (effect.ticket.number, place(effect))


def test_one_who_is_picky_does_not_hold_up_those_behind() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk()
    taken = lease(fleet)
    lease(fleet, "b")
    waiting.arrive(ticket(1, "a"), fleet.view, 0.0)
    waiting.arrive(ticket(2), fleet.view, 0.0)
    taken.give_back()
    effect = waiting.next(fleet.view, 1.0)
    assert isinstance(effect, Start)
    assert (2, "a") == (effect.ticket.number, place(effect))


def test_who_comes_back_is_not_refused_because_others_came_meanwhile() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk(1)
    lease(fleet), lease(fleet, "b")
    waiting.arrive(ticket(2), fleet.view, 0.0)
    assert Held(ticket(1, "a"), 0, None) == waiting.arrive(ticket(1, "a"), fleet.view, 0.0)


def test_who_comes_back_from_a_long_attempt_waits_as_long_as_it_has_left() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk()
    lease(fleet), lease(fleet, "b")
    back = ticket(1).moved("a", granted_s=2.0, now_s=500.0)  # of 10 s it waited 2; then it prefilled for long
    assert Held(back, 0, None) == waiting.arrive(back, fleet.view, 0.0)
    assert waiting.next(fleet.view, 507.9) is None
    assert Rejected(back, "deadline") == waiting.next(fleet.view, 508.0)


def test_deadlines_end_in_their_own_order_and_not_in_that_of_arrival() -> None:
    fleet, waiting = sample.fleet({"m": ["a"], "n": ["a"]}), desk()
    lease(fleet)
    deadlines_s = {1: 30.0, 2: 10.0, 3: 20.0, 4: 5.0}
    for number, deadline_s in deadlines_s.items():
        one = msgspec.structs.replace(ticket(number, pool="n" if number == 3 else "m"), deadline_s=deadline_s)
        waiting.arrive(one, fleet.view, 0.0)
    ended = {}
    for now_s in range(40):
        while (effect := waiting.next(fleet.view, float(now_s))) is not None:
            ended[rejected(effect)[0].number] = float(now_s)
    assert deadlines_s == ended
    assert [4, 2, 3, 1] == list(ended)


def test_an_older_deadline_of_a_ticket_that_came_back_means_nothing() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk()
    lease(fleet)
    taken = lease(fleet, "b")
    waiting.arrive(ticket(1), fleet.view, 0.0)
    taken.give_back()
    effect = waiting.next(fleet.view, 9.0)
    assert isinstance(effect, Start)
    lease(fleet, "b")
    back = effect.ticket.moved("b", granted_s=9.0, now_s=9.5)
    waiting.arrive(back, fleet.view, 0.0)
    assert waiting.next(fleet.view, 10.2) is None  # its first deadline was at 10
    assert (back, "deadline") == rejected(waiting.next(fleet.view, 10.5))


def test_one_who_leaves_is_not_ended_again_by_its_deadline() -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    lease(fleet)
    waiting.arrive(ticket(1), fleet.view, 0.0)
    waiting.withdraw(ticket(1))
    assert waiting.next(fleet.view, 100.0) is None


def test_nobody_is_asked_about_while_nothing_is_free() -> None:
    fleet, asked = sample.fleet({"m": ["a", "b"]}), []

    def counting(call: Call, view: FleetView, now_s: float) -> Decision:
        asked.append(call)
        return least(call, view, now_s)

    waiting = Desk(choose=counting, max_waiting=1000)
    lease(fleet), lease(fleet, "b")
    for number in range(1, 501):
        waiting.arrive(ticket(number), fleet.view, 0.0)
    asked.clear()
    assert waiting.next(fleet.view, 1.0) is None
    assert asked == []


@pytest.mark.parametrize("most", [1, 7, 24])
def test_of_many_that_wait_for_something_better_those_are_asked_about_that_have_waited_longest(most: int) -> None:
    fleet, asked = sample.fleet({"m": ["a"]}), []

    def choosy(call: Call, _view: FleetView, _now_s: float) -> Decision:
        asked.append(call.session)
        return Decision(Wait("guard"))

    waiting = Desk(choose=choosy, asked=most)
    for number in range(1, 41):
        waiting.arrive(ticket(number), fleet.view, 0.0)
    asked.clear()
    assert waiting.next(fleet.view, 1.0) is None
    assert asked == list(range(1, most + 1))


# ---------------------------------------------------------------- refused early


def test_bodies_that_wait_have_a_bound_over_all_pools() -> None:
    fleet = sample.fleet({"m": ["a"], "n": ["b"]})
    waiting = Desk(choose=least, max_bytes=100)
    lease(fleet), lease(fleet, "b")
    first, second = ticket(1, size_bytes=60), ticket(2, pool="n", size_bytes=40)
    assert [Held, Held] == [type(waiting.arrive(one, fleet.view, 0.0)) for one in (first, second)]
    assert Rejected(ticket(3, size_bytes=1), "queue_bytes") == waiting.arrive(ticket(3, size_bytes=1), fleet.view, 0.0)
    assert 100 == waiting.held_bytes
    waiting.withdraw(first)
    assert Held(ticket(4, size_bytes=60), 0, None) == waiting.arrive(ticket(4, size_bytes=60), fleet.view, 0.0)


def test_a_body_that_starts_at_once_is_not_weighed() -> None:
    assert "a" == place(
        Desk(choose=least, max_bytes=0).arrive(ticket(1, size_bytes=9), sample.fleet({"m": ["a"]}).view, 0.0)
    )


@pytest.mark.parametrize(("call_s", "wait_s", "held"), [(5.0, 10.0, True), (5.001, 10.002, False), (None, None, True)])
def test_a_wait_that_would_be_longer_than_the_patience_is_refused_now(
    call_s: float | None, wait_s: float | None, held: bool
) -> None:
    fleet = sample.fleet({"m": ["a"]})
    waiting = Desk(choose=least, predict=lambda _pool, ahead, _view: (ahead + 1) * call_s if call_s else None)
    lease(fleet)
    assert isinstance(waiting.arrive(ticket(1), fleet.view, 0.0), Held)
    expected = Held(ticket(2), 1, wait_s) if held else Rejected(ticket(2), "too_long", wait_s)
    assert expected == waiting.arrive(ticket(2), fleet.view, 0.0)


def test_who_waited_in_vain_is_told_how_long_the_others_still_wait() -> None:
    fleet = sample.fleet({"m": ["a"]})
    waiting = Desk(choose=least, predict=lambda _pool, ahead, _view: 0.5 * (ahead + 1))
    lease(fleet)
    for one in (ticket(1), ticket(2, arrived_s=5.0), ticket(3, arrived_s=5.0)):
        waiting.arrive(one, fleet.view, 0.0)
    assert Rejected(ticket(1), "deadline", 1.5) == waiting.next(fleet.view, PATIENCE_S)


def test_bounds_may_change_while_calls_wait_and_nobody_who_waits_is_sent_away() -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    taken = lease(fleet)
    for number in (1, 2):
        waiting.arrive(ticket(number, size_bytes=5), fleet.view, 0.0)
    waiting.max_waiting, waiting.max_bytes = 0, 0
    assert Rejected(ticket(3), "queue_full") == waiting.arrive(ticket(3), fleet.view, 0.0)
    assert waiting.next(fleet.view, 1.0) is None
    taken.give_back()
    assert "a" == place(waiting.next(fleet.view, 1.0))


# ---------------------------------------------------------------- the response ratio


def costing(work_s: dict[int, float]) -> Choose:
    """What each call costs, by its number; the rest as with `least`."""

    def choose(call: Call, view: FleetView, now_s: float) -> Decision:
        decision = least(call, view, now_s)
        terms = Terms(read_s=work_s[call.session] - BESIDES_S)
        return Decision(decision.verdict, tuple(msgspec.structs.replace(one, terms=terms) for one in decision.ranking))

    return choose


def served(waiting: Desk, fleet: Fleet, taken: Lease, *at_s: float) -> list[int]:
    """Who gets the one slot at these moments."""
    numbers = []
    for now_s in at_s:
        taken.give_back()
        effect = waiting.next(fleet.view, now_s)
        assert isinstance(effect, Start)
        numbers.append(effect.ticket.number)
        taken = lease(fleet)
    return numbers


def test_short_calls_pass_long_ones_and_equals_go_by_arrival() -> None:
    fleet = sample.fleet({"m": ["a"], "n": ["a"]})
    waiting = Desk(choose=costing({1: 9.0, 2: 1.0, 3: 1.0, 4: 0.5, 5: 9.0}))
    taken = lease(fleet)
    for number in range(1, 6):
        waiting.arrive(ticket(number, pool="n" if number % 2 else "m"), fleet.view, 0.0)
    assert served(waiting, fleet, taken, 1.0, 1.0, 1.0, 1.0, 1.0) == [4, 2, 3, 1, 5]


def test_a_long_one_gets_past_every_short_one_in_the_end() -> None:
    fleet = sample.fleet({"m": ["a"]})
    waiting = Desk(choose=costing({1: 9.0, 2: 1.0, 3: 1.0}))
    taken = lease(fleet)
    for number, arrived_s in ((1, 0.0), (2, 1.0), (3, 8.5)):
        waiting.arrive(ticket(number, arrived_s=arrived_s), fleet.view, arrived_s)
    # At 9.0 they have waited for once, eight times and half of what they cost.
    assert served(waiting, fleet, taken, 9.0, 9.0, 9.0) == [2, 1, 3]


def test_what_a_call_destroys_counts_among_what_it_costs() -> None:
    fleet = sample.fleet({"m": ["a"]})

    def choose(call: Call, view: FleetView, now_s: float) -> Decision:
        decision = least(call, view, now_s)
        terms = Terms(read_s=1.0, lost_s=9.0 if call.session == 1 else 0.0, wait_s=99.0 if call.session == 2 else 0.0)
        return Decision(decision.verdict, (msgspec.structs.replace(decision.ranking[0], terms=terms),))

    waiting, taken = Desk(choose=choose), lease(fleet)
    for number in (1, 2):
        waiting.arrive(ticket(number), fleet.view, 0.0)
    assert [2, 1] == served(waiting, fleet, taken, 1.0, 1.0)


def test_who_waits_for_something_better_than_what_is_free_is_held_and_starts_when_it_has_waited_enough() -> None:
    fleet = sample.fleet({"m": ["a"]})

    def choose(call: Call, view: FleetView, now_s: float) -> Decision:
        decision = least(call, view, now_s)
        return decision if now_s >= call.arrived_s + 3.0 else Decision(Wait("warm", 3.0), decision.ranking)

    # It would be refused if a slot had to come free for it.
    waiting = Desk(choose=choose, predict=lambda _pool, _ahead, _view: 1e6)
    for number, at_s in ((1, 0.0), (2, 1.0)):
        one = ticket(number, arrived_s=at_s)
        assert Held(one, number - 1, None) == waiting.arrive(one, fleet.view, at_s)
    assert waiting.next(fleet.view, 2.9) is None
    assert "a" == place(waiting.next(fleet.view, 3.0))
    assert waiting.next(fleet.view, 3.9) is None  # nobody has taken the lease, but the other may not go yet
    assert "a" == place(waiting.next(fleet.view, 4.0))


# ---------------------------------------------------------------- any history

POOLS = {"m": ["a", "b"], "n": ["b"]}
_pools = st.sampled_from(["m", "m", "n"])
_at = st.integers(0, 9)
_histories = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), _pools, st.integers(0, 30)),
        st.tuples(st.just("arrive"), _pools, st.integers(0, 30)),
        st.tuples(st.just("finish"), _at),
        st.tuples(st.just("cut"), _at),
        st.tuples(st.just("fail"), _at),
        st.tuples(st.just("leave"), _at),
        st.tuples(st.just("see"), st.sampled_from(["a", "b"]), st.sampled_from(Event)),
        st.tuples(st.just("learn"), st.sampled_from(["a", "b"]), st.integers(1, 3)),
        st.tuples(st.just("later"), st.sampled_from([0.1, 3.0, PATIENCE_S])),
        st.tuples(st.just("reload"), st.sampled_from([1.0, 4.0, PATIENCE_S])),
    ),
    min_size=10,
    max_size=40,
)


class House(msgspec.Struct, frozen=True):
    """How a desk is set up. `call_s`: what a call is predicted to hold a slot for.

    `kinds`: how many kinds of calls there are by what they cost; with 1 they go in the order of their arrival.
    `sticks_s`: every second call waits so long for something better than what is free.
    """

    max_waiting: int | None = None
    max_bytes: int | None = None
    call_s: float | None = None
    kinds: int = 1
    sticks_s: float = 0.0

    def choose(self, call: Call, view: FleetView, now_s: float) -> Decision:
        decision = least(call, view, now_s)
        if not isinstance(decision.verdict, Place):
            return decision
        if call.session % 2 and now_s - call.arrived_s < self.sticks_s:
            return Decision(Wait("warm", self.sticks_s), decision.ranking)
        terms = Terms(read_s=self.work_s(call) - BESIDES_S)
        ranking = tuple(msgspec.structs.replace(one, terms=terms) for one in decision.ranking)
        return Decision(decision.verdict, ranking)

    def work_s(self, call: Call) -> float:
        return BESIDES_S + 2.0 * (call.session % self.kinds)

    def predict(self, pool: str, ahead: int, view: FleetView) -> float | None:
        slots = sum(row.slots for row in view.pool_rows(pool))
        return None if self.call_s is None or not slots else (ahead + 1) * self.call_s / slots


_houses = st.builds(
    House,
    max_waiting=st.none() | st.integers(0, 3),
    max_bytes=st.none() | st.integers(0, 60),
    call_s=st.none() | st.sampled_from([1.0, 6.0]),
    kinds=st.sampled_from([1, 3]),
    sticks_s=st.sampled_from([0.0, 0.0, 2.0]),
)


class Counter:
    """A desk at work: it performs what the desk says, as the relay does, and holds every rule against it."""

    def __init__(self, house: House) -> None:
        self.fleet = sample.fleet(POOLS, slots=None)
        for id_ in ("a", "b"):
            self.fleet.learn(id_, Facts(slots=1))
        self.house = house
        self.desk = Desk(
            choose=house.choose,
            predict=house.predict,
            max_waiting=house.max_waiting,
            max_bytes=house.max_bytes,
        )
        self.now_s = 0.0
        self.arrived = 0
        self.waits: dict[int, Ticket] = {}
        self.runs: dict[int, tuple[Ticket, Lease, float]] = {}
        self.waited_s: dict[int, float] = {}
        self.patience_s = PATIENCE_S
        self.patience_of: dict[int, float] = {}
        self.ends: dict[int, str] = {}
        self.trace: list[str] = []

    def happen(self, what: tuple[object, ...]) -> None:
        match what:
            case ("arrive", str(pool), int(size)):
                self.arrived += 1
                new = ticket(self.arrived, pool=pool, arrived_s=self.now_s, size_bytes=size)
                self.patience_of[new.number] = self.patience_s
                self.arrive(msgspec.structs.replace(new, deadline_s=self.now_s + self.patience_s))
            case ("finish" | "cut" as how, int(at)) if self.runs:
                number, _, taken, _ = self.over(at)
                if how == "cut":
                    taken.close(self.now_s)
                taken.give_back()
                self.end(number, "served")
            case ("fail", int(at)) if self.runs:
                _, failed, taken, granted_s = self.over(at)
                taken.give_back()
                back = failed.moved(taken.instance.id, granted_s=granted_s, now_s=self.now_s)
                assert failed.call.excluded | {taken.instance.id} == back.call.excluded
                self.arrive(back)
            case ("leave", int(at)) if self.waits:
                number = sorted(self.waits)[at % len(self.waits)]
                assert self.desk.withdraw(self.waits.pop(number))
                self.end(number, "left")
            case ("see", str(id_), Event() as event):
                self.fleet.observe(id_, event, self.now_s)
            case ("learn", str(id_), int(slots)):
                self.fleet.learn(id_, Facts(slots=slots))
            case ("reload", float(patience_s)):
                self.patience_s = patience_s
            case ("later", float(time_s)):
                self.now_s += time_s
                for number in self.waits:
                    self.waited_s[number] = self.waited_s.get(number, 0.0) + time_s
                for id_ in self.fleet.closing():
                    self.fleet.settle_closing(id_, self.now_s)
        self.ask()

    def over(self, at: int) -> tuple[int, Ticket, Lease, float]:
        number = sorted(self.runs)[at % len(self.runs)]
        return (number, *self.runs.pop(number))

    def arrive(self, asked: Ticket) -> None:
        ahead = [one for one in self.line(asked.call.pool) if one.number < asked.number]
        free = any(row.free for row in self.fleet.view.pool_rows(asked.call.pool))
        wait_s = None if free else self.house.predict(asked.call.pool, len(ahead), self.fleet.view)
        match self.desk.arrive(asked, self.fleet.view, self.now_s):
            case Start() as start:
                assert not ahead, "it passed those who wait"
                self.start(start)
            case Held(ticket=held, ahead=told):
                assert (asked, len(ahead)) == (held, told)
                assert wait_s is None or wait_s <= asked.patience_s
                self.waits[asked.number] = asked
                self.trace.append(f"{asked.number} waits behind {told}")
            case Rejected(ticket=refused, reason=reason):
                assert asked == refused
                self.check_refusal(asked, reason, len(ahead), wait_s)
                self.end(asked.number, reason)

    def check_refusal(self, asked: Ticket, reason: str, ahead: int, wait_s: float | None) -> None:
        """Nobody is sent away without its reason."""
        house = self.house
        match reason:
            case "queue_full":
                assert ahead >= (WAITING_PER_SLOT if house.max_waiting is None else house.max_waiting)
            case "queue_bytes":
                assert house.max_bytes is not None
                assert self.held_bytes() + asked.size_bytes > house.max_bytes
            case "too_long":
                assert wait_s is not None
                assert wait_s > asked.patience_s
            case _:
                assert self.verdict(asked) == Refuse(reason)

    def ask(self) -> None:
        while effect := self.desk.next(self.fleet.view, self.now_s):
            waited = self.waits.pop(effect.ticket.number)  # it was waiting, or this fails
            assert waited == effect.ticket
            match effect:
                case Start():
                    assert waited.deadline_s > self.now_s
                    self.check_nobody_was_passed(waited)
                    self.start(effect)
                case Rejected(reason="deadline"):
                    assert waited.deadline_s <= self.now_s
                    all_its_waiting_s = self.waited_s.get(waited.number, 0.0)
                    assert all_its_waiting_s >= self.patience_of[waited.number] - 1e-6, "it had patience left"
                    self.end(waited.number, "deadline")
                case Rejected(reason=reason):
                    assert self.verdict(waited) == Refuse(reason)
                    self.end(waited.number, reason)

    def start(self, start: Start) -> None:
        taken = self.fleet.lease(place(start))
        assert taken is not None, "a slot was promised that is not free"
        assert start.ticket.number not in self.runs, "it was started twice"
        assert start.ticket.number not in self.ends, "it was over"
        self.runs[start.ticket.number] = start.ticket, taken, self.now_s
        self.trace.append(f"{start.ticket.number} on {taken.instance.id}")

    def end(self, number: int, how: str) -> None:
        assert number not in self.ends, "it ended twice"
        self.ends[number] = how
        self.trace.append(f"{number} {how}")

    def verdict(self, one: Ticket) -> Place | Wait | Refuse:
        return self.house.choose(one.call, self.fleet.view, self.now_s).verdict

    def check_nobody_was_passed(self, first: Ticket) -> None:
        """Of those that may go it has the highest response ratio, of equals the lowest number; over all pools."""
        for other in self.waits.values():
            if self.rank(other) < self.rank(first):
                assert not isinstance(self.verdict(other), Place), "it was passed"

    def rank(self, one: Ticket) -> tuple[float, int]:
        waited_s, work_s = self.now_s - one.call.arrived_s, self.house.work_s(one.call)
        return -round((waited_s + work_s) / work_s, 9), one.number

    def line(self, pool: str) -> list[Ticket]:
        return [one for number, one in sorted(self.waits.items()) if one.call.pool == pool]

    def held_bytes(self) -> int:
        return sum(one.size_bytes for one in self.waits.values())

    def check(self) -> None:
        """What holds whenever the desk has nothing more to say."""
        for pool in POOLS:
            line = self.line(pool)
            assert len(line) == self.desk.waiting(pool)
            for one in line:
                assert one.deadline_s > self.now_s, "a deadline has passed"
                verdict = self.verdict(one)
                assert not isinstance(verdict, Place), "a slot is free and one waits"
                assert not isinstance(verdict, Refuse), "nobody can serve it and it waits"
        assert self.held_bytes() == self.desk.held_bytes
        if self.house.max_bytes is not None:
            assert self.desk.held_bytes <= self.house.max_bytes
        busy = {id_: sum(taken.instance.id == id_ for _, taken, _ in self.runs.values()) for id_ in ("a", "b")}
        assert busy == {id_: row.busy for id_, row in self.fleet.view.rows.items()}
        assert set(range(1, self.arrived + 1)) == {*self.waits, *self.runs, *self.ends}
        assert self.arrived == len(self.waits) + len(self.runs) + len(self.ends)


def work(history: list[tuple[object, ...]], house: House) -> Counter:
    counter = Counter(house)
    for what in history:
        counter.happen(what)
        counter.check()
    return counter


@steady
@given(history=_histories, house=_houses)
def test_whatever_happens_no_slot_is_given_twice_nobody_is_passed_and_nobody_waits_too_long(
    history: list[tuple[object, ...]], house: House
) -> None:
    work(history, house)


@steady
@given(history=_histories, house=_houses)
def test_whatever_happened_every_ticket_ends_exactly_once(history: list[tuple[object, ...]], house: House) -> None:
    counter = work(history, house)
    counter.happen(("later", PATIENCE_S))
    assert "Desk[nobody waits]" == repr(counter.desk)
    while counter.runs:
        counter.happen(("finish", 0))
    assert list(range(1, counter.arrived + 1)) == sorted(counter.ends)
    assert (0, [0, 0]) == (counter.desk.held_bytes, [row.busy for row in counter.fleet.view.rows.values()])


@steady
@given(history=_histories, house=_houses)
def test_the_same_history_gives_the_same_answers(history: list[tuple[object, ...]], house: House) -> None:
    assert work(history, house).trace == work(history, house).trace
