import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.admit.desk import WAITING_PER_SLOT, Desk, Held, Rejected, Start, Ticket
from router.balance.policy import Call, Place, Wait, choose
from router.fleet.fleet import Fleet, Lease
from router.fleet.health import Event
from router.fleet.instance import Facts
from tests.fleet import sample

steady = settings(derandomize=True, max_examples=300, deadline=None)

PATIENCE_S = 10.0


def ticket(number: int, *excluded: str, pool: str = "m", arrived_s: float = 0.0) -> Ticket:
    call = Call(pool=pool, affinity=number, excluded=frozenset(excluded))
    return Ticket(number=number, call=call, arrived_s=arrived_s, deadline_s=arrived_s + PATIENCE_S)


def desk(max_waiting: int | None = None) -> Desk:
    return Desk(choose=choose, max_waiting=max_waiting)


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
    effect = waiting.arrive(ticket(1), sample.fleet({"m": ["a"]}).view)
    assert ("a", True) == (place(effect), waiting.empty)


def test_a_call_that_finds_every_slot_taken_waits_and_is_told_how_many_came_before() -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    lease(fleet)
    assert [Held(ticket(1), 0), Held(ticket(2), 1)] == [waiting.arrive(ticket(n), fleet.view) for n in (1, 2)]
    assert (2, False, "Desk[m 2]") == (waiting.waiting("m"), waiting.empty, repr(waiting))


def test_a_slot_that_comes_free_goes_to_who_waits_longest() -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    taken = lease(fleet)
    for number in (1, 2):
        waiting.arrive(ticket(number), fleet.view)
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
    waiting.arrive(ticket(1), fleet.view)
    taken.give_back()
    assert Held(ticket(2), 1) == waiting.arrive(ticket(2), fleet.view)
    effect = waiting.next(fleet.view, 1.0)
    assert isinstance(effect, Start)
    assert 1 == effect.ticket.number


def test_the_line_of_one_model_does_not_hold_up_another() -> None:
    fleet, waiting = sample.fleet({"m": ["a"], "n": ["b"]}), desk()
    lease(fleet)
    waiting.arrive(ticket(1), fleet.view)
    assert "b" == place(waiting.arrive(ticket(2, pool="n"), fleet.view))


def test_two_models_on_one_instance_are_served_in_the_order_of_arrival() -> None:
    fleet, waiting = sample.fleet({"m": ["a"], "n": ["a"]}), desk()
    taken = lease(fleet)
    for number, pool in ((1, "n"), (2, "m"), (3, "n")):
        waiting.arrive(ticket(number, pool=pool), fleet.view)
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
    effects = [waiting.arrive(ticket(number), fleet.view) for number in range(1, room + 2)]
    assert [*[Held] * room, Rejected] == [type(effect) for effect in effects]
    assert Rejected(ticket(room + 1), "queue_full") == effects[-1]


@pytest.mark.parametrize(("slots", "room"), [(1, WAITING_PER_SLOT), (3, 3 * WAITING_PER_SLOT)])
def test_by_itself_the_line_is_as_long_as_the_pool_is_strong(slots: int, room: int) -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}, slots=slots), desk()
    for _ in range(slots):
        lease(fleet)
    effects = [waiting.arrive(ticket(number), fleet.view) for number in range(room + 1)]
    assert [room] == [at for at, effect in enumerate(effects) if isinstance(effect, Rejected)]


def test_a_line_of_no_length_still_lets_a_call_start() -> None:
    assert "a" == place(desk(0).arrive(ticket(1), sample.fleet({"m": ["a"]}).view))


@pytest.mark.parametrize(
    ("excluded", "event", "reason"),
    [((), Event.REFUSED, "no_instance"), ((), Event.LOADING, "no_instance"), (("a",), Event.ANSWERED, "all_failed")],
)
def test_a_call_that_nobody_can_serve_is_refused_at_once(excluded: tuple[str, ...], event: Event, reason: str) -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    fleet.observe("a", event, 1.0)
    asked = ticket(1, *excluded)
    assert (asked, reason) == rejected(waiting.arrive(asked, fleet.view))
    assert waiting.empty


def rejected(effect: object) -> tuple[Ticket, str]:
    assert isinstance(effect, Rejected)
    return effect.ticket, effect.reason


def test_those_who_wait_are_refused_when_the_last_instance_goes() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk()
    lease(fleet), lease(fleet, "b")
    held = [ticket(1, "b"), ticket(2)]
    for one in held:
        waiting.arrive(one, fleet.view)
    fleet.observe("a", Event.REFUSED, 1.0)
    assert (held[0], "all_failed") == rejected(waiting.next(fleet.view, 1.0))  # the other may still hope for b
    assert waiting.next(fleet.view, 1.0) is None
    fleet.observe("b", Event.REFUSED, 1.0)
    assert (held[1], "no_instance") == rejected(waiting.next(fleet.view, 1.0))
    assert waiting.next(fleet.view, 1.0) is None
    assert waiting.empty


@pytest.mark.parametrize(("now_s", "ended"), [(9.999, False), (10.0, True), (11.0, True)])
def test_who_waited_to_the_deadline_is_refused(now_s: float, ended: bool) -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    lease(fleet)
    waiting.arrive(ticket(1), fleet.view)
    assert (Rejected(ticket(1), "deadline") if ended else None) == waiting.next(fleet.view, now_s)


def test_a_slot_that_comes_free_after_the_deadline_goes_to_the_next() -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    taken = lease(fleet)
    waiting.arrive(ticket(1), fleet.view)
    waiting.arrive(ticket(2, arrived_s=5.0), fleet.view)
    taken.give_back()
    assert (ticket(1), "deadline") == rejected(waiting.next(fleet.view, 12.0))
    effect = waiting.next(fleet.view, 12.0)
    assert isinstance(effect, Start)
    assert 2 == effect.ticket.number


def test_who_leaves_is_forgotten_and_leaving_twice_does_nothing() -> None:
    fleet, waiting = sample.fleet({"m": ["a"]}), desk()
    taken = lease(fleet)
    waiting.arrive(ticket(1), fleet.view)
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
        waiting.arrive(ticket(number), fleet.view)
    assert Held(ticket(1, "a"), 0) == waiting.arrive(ticket(1, "a"), fleet.view)
    assert Held(ticket(4), 3) == waiting.arrive(ticket(4), fleet.view)


def test_who_comes_back_first_of_all_starts_where_a_slot_is_free() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk()
    lease(fleet)
    taken = lease(fleet, "b")
    waiting.arrive(ticket(2), fleet.view)
    taken.give_back()
    assert "b" == place(waiting.arrive(ticket(1, "a"), fleet.view))


def test_who_comes_back_is_served_before_those_who_came_later() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk()
    lease(fleet)
    taken = lease(fleet, "b")
    for one in (ticket(2), ticket(3), ticket(1, "a")):
        waiting.arrive(one, fleet.view)
    taken.give_back()
    effect = waiting.next(fleet.view, 1.0)
    assert isinstance(effect, Start)
    assert (1, "b") == (effect.ticket.number, place(effect))


def test_one_who_is_picky_does_not_hold_up_those_behind() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk()
    taken = lease(fleet)
    lease(fleet, "b")
    waiting.arrive(ticket(1, "a"), fleet.view)
    waiting.arrive(ticket(2), fleet.view)
    taken.give_back()
    effect = waiting.next(fleet.view, 1.0)
    assert isinstance(effect, Start)
    assert (2, "a") == (effect.ticket.number, place(effect))


def test_who_comes_back_is_not_refused_because_others_came_meanwhile() -> None:
    fleet, waiting = sample.fleet({"m": ["a", "b"]}), desk(1)
    lease(fleet), lease(fleet, "b")
    waiting.arrive(ticket(2), fleet.view)
    assert Held(ticket(1, "a"), 0) == waiting.arrive(ticket(1, "a"), fleet.view)


# ---------------------------------------------------------------- any history

POOLS = {"m": ["a", "b"], "n": ["b"]}
_pools = st.sampled_from(["m", "m", "n"])
_histories = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), _pools),
        st.tuples(st.just("arrive"), _pools),
        st.tuples(st.just("finish"), st.integers(0, 9)),
        st.tuples(st.just("fail"), st.integers(0, 9)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
        st.tuples(st.just("see"), st.sampled_from(["a", "b"]), st.sampled_from(Event)),
        st.tuples(st.just("learn"), st.sampled_from(["a", "b"]), st.integers(1, 3)),
        st.tuples(st.just("later"), st.sampled_from([0.1, 3.0, PATIENCE_S])),
    ),
    max_size=40,
)


class Counter:
    """A desk at work: it performs what the desk says, as the relay does, and holds every rule against it."""

    def __init__(self, max_waiting: int | None) -> None:
        self.fleet = sample.fleet(POOLS, slots=None)
        for id_ in ("a", "b"):
            self.fleet.learn(id_, Facts(slots=1))
        self.max_waiting = max_waiting
        self.desk = desk(max_waiting)
        self.now_s = 0.0
        self.arrived = 0
        self.waits: dict[int, Ticket] = {}
        self.runs: dict[int, tuple[Ticket, Lease]] = {}
        self.ends: dict[int, str] = {}
        self.trace: list[str] = []

    def happen(self, what: tuple[object, ...]) -> None:
        match what:
            case ("arrive", str(pool)):
                self.arrived += 1
                self.arrive(ticket(self.arrived, pool=pool, arrived_s=self.now_s))
            case ("finish", int(at)) if self.runs:
                number = sorted(self.runs)[at % len(self.runs)]
                self.runs.pop(number)[1].give_back()
                self.end(number, "served")
            case ("fail", int(at)) if self.runs:
                number = sorted(self.runs)[at % len(self.runs)]
                failed, taken = self.runs.pop(number)
                taken.give_back()
                excluded = failed.call.excluded | {taken.instance_id}
                self.arrive(
                    msgspec.structs.replace(failed, call=msgspec.structs.replace(failed.call, excluded=excluded))
                )
            case ("leave", int(at)) if self.waits:
                number = sorted(self.waits)[at % len(self.waits)]
                assert self.desk.withdraw(self.waits.pop(number))
                self.end(number, "left")
            case ("see", str(id_), Event() as event):
                self.fleet.observe(id_, event, self.now_s)
            case ("learn", str(id_), int(slots)):
                self.fleet.learn(id_, Facts(slots=slots))
            case ("later", float(time_s)):
                self.now_s += time_s
        self.ask()

    def arrive(self, asked: Ticket) -> None:
        ahead = [one for one in self.line(asked.call.pool) if one.number < asked.number]
        match self.desk.arrive(asked, self.fleet.view):
            case Start() as start:
                assert not ahead, "it passed those who wait"
                self.start(start)
            case Held(ticket=held, ahead=told):
                assert (asked, len(ahead)) == (held, told)
                self.waits[asked.number] = asked
                self.trace.append(f"{asked.number} waits behind {told}")
            case Rejected(ticket=refused, reason=reason):
                assert asked == refused
                assert "deadline" != reason
                if reason == "queue_full":
                    assert len(self.line(asked.call.pool)) >= (0 if self.max_waiting is None else self.max_waiting)
                self.end(asked.number, reason)

    def ask(self) -> None:
        while effect := self.desk.next(self.fleet.view, self.now_s):
            waited = self.waits.pop(effect.ticket.number)  # it was waiting, or this fails
            assert waited == effect.ticket
            match effect:
                case Start():
                    assert waited.deadline_s > self.now_s
                    for older in self.line(waited.call.pool):
                        if older.number < waited.number:
                            assert isinstance(choose(older.call, self.fleet.view).verdict, Wait), (
                                "first come first served"
                            )
                    self.start(effect)
                case Rejected(reason="deadline"):
                    assert waited.deadline_s <= self.now_s
                    self.end(waited.number, "deadline")
                case Rejected(reason=reason):
                    assert reason in {"no_instance", "all_failed"}
                    self.end(waited.number, reason)

    def start(self, start: Start) -> None:
        taken = self.fleet.lease(place(start))
        assert taken is not None, "a slot was promised that is not free"
        self.runs[start.ticket.number] = start.ticket, taken
        self.trace.append(f"{start.ticket.number} on {taken.instance_id}")

    def end(self, number: int, how: str) -> None:
        assert number not in self.ends, "it ended twice"
        self.ends[number] = how
        self.trace.append(f"{number} {how}")

    def line(self, pool: str) -> list[Ticket]:
        return [one for number, one in sorted(self.waits.items()) if one.call.pool == pool]

    def check(self) -> None:
        """What holds whenever the desk has nothing more to say."""
        for pool in POOLS:
            line = self.line(pool)
            assert len(line) == self.desk.waiting(pool)
            assert all(one.deadline_s > self.now_s for one in line), "a deadline has passed"
            if line:
                assert isinstance(choose(line[0].call, self.fleet.view).verdict, Wait), "a slot is free and one waits"
        busy = {id_: sum(taken.instance_id == id_ for _, taken in self.runs.values()) for id_ in ("a", "b")}
        assert busy == {id_: row.busy for id_, row in self.fleet.view.rows.items()}
        assert set(range(1, self.arrived + 1)) == {*self.waits, *self.runs, *self.ends}
        assert self.arrived == len(self.waits) + len(self.runs) + len(self.ends)


def work(history: list[tuple[object, ...]], max_waiting: int | None) -> Counter:
    counter = Counter(max_waiting)
    for what in history:
        counter.happen(what)
        counter.check()
    return counter


@steady
@given(history=_histories, max_waiting=st.none() | st.integers(0, 3))
def test_whatever_happens_no_slot_is_given_twice_nobody_is_passed_and_nobody_waits_too_long(
    history: list[tuple[object, ...]], max_waiting: int | None
) -> None:
    work(history, max_waiting)


@steady
@given(history=_histories, max_waiting=st.none() | st.integers(0, 3))
def test_whatever_happened_every_ticket_ends_exactly_once(
    history: list[tuple[object, ...]], max_waiting: int | None
) -> None:
    counter = work(history, max_waiting)
    counter.happen(("later", PATIENCE_S))
    assert counter.desk.empty
    while counter.runs:
        counter.happen(("finish", 0))
    assert list(range(1, counter.arrived + 1)) == sorted(counter.ends)
    assert [0, 0] == [row.busy for row in counter.fleet.view.rows.values()]


@steady
@given(history=_histories)
def test_the_same_history_gives_the_same_answers(history: list[tuple[object, ...]]) -> None:
    assert work(history, None).trace == work(history, None).trace
