from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance import cost
from router.balance.book import GUARDS, Book
from router.balance.call import Call
from router.balance.cost import Terms
from router.balance.policy import (
    BESIDES_S,
    LOOKED_AT,
    STICKS,
    Candidate,
    Decision,
    Homes,
    Place,
    Policy,
    Refuse,
    Verdict,
    Wait,
    least,
    policy,
    ptx,
    sticky,
    word,
)
from router.fleet.health import ABSENCES_UNTIL_GONE, State
from router.fleet.view import Row
from tests.balance.sample import spell
from tests.fleet import sample

steady = settings(derandomize=True, max_examples=300, deadline=None)

IDS = ("a", "b", "c", "d")
SERVING, LOADING, EJECTED = State.SERVING, State.LOADING, State.EJECTED
SLEEPING, PROBATION, DRAINING, MISPLACED = State.SLEEPING, State.PROBATION, State.DRAINING, State.MISPLACED
GONE = ABSENCES_UNTIL_GONE


def call(affinity: int = 0, *excluded: str) -> Call:
    return Call(pool="m", session=affinity, excluded=frozenset(excluded))


def ranked(decision: Decision) -> list[str]:
    return [candidate.instance_id for candidate in decision.ranking]


@pytest.mark.parametrize(
    ("rows", "excluded", "verdict", "ranking"),
    [
        ([sample.row("a")], [], Place("a"), ["a"]),
        ([sample.row("a", busy=1), sample.row("b")], [], Place("b"), ["b", "a"]),
        ([sample.row("a", slots=4, busy=2), sample.row("b", slots=2, busy=0)], [], Place("b"), ["b", "a"]),
        ([sample.row("a", slots=8, busy=3), sample.row("b", slots=2, busy=1)], [], Place("a"), ["a", "b"]),
        ([sample.row("a", busy=2)], [], Wait(), ["a"]),
        ([sample.row("a", busy=2), sample.row("b", slots=1, busy=3)], [], Wait(), ["a", "b"]),
        ([sample.row("a", state=EJECTED), sample.row("b", busy=1)], [], Place("b"), ["b"]),
        ([sample.row("a", slots=0), sample.row("b", busy=2)], [], Wait(), ["b"]),
        ([sample.row("a", busy=1, closing=1)], [], Wait(), ["a"]),
        ([sample.row("a", closing=1), sample.row("b")], [], Place("b"), ["b", "a"]),
        # Nobody serves: whoever may soon be back is waited for.
        ([sample.row("a", state=State.UNKNOWN)], [], Wait("away"), []),
        ([sample.row("a", state=LOADING), sample.row("b", slots=0)], [], Wait("away"), []),
        ([sample.row("a", state=EJECTED)], [], Wait("away"), []),
        ([sample.row("a", state=EJECTED, absences=GONE - 1)], [], Wait("away"), []),
        ([sample.row("a", state=EJECTED, absences=GONE)], [], Refuse("no_instance"), []),
        ([sample.row("a", state=LOADING, absences=GONE)], [], Refuse("no_instance"), []),
        ([sample.row("a", state=DRAINING), sample.row("b", state=MISPLACED)], [], Refuse("no_instance"), []),
        ([sample.row("a", state=EJECTED, absences=GONE), sample.row("b", state=LOADING)], [], Wait("away"), []),
        # One that sleeps comes last, and one on probation takes one call.
        ([sample.row("a", state=SLEEPING), sample.row("b", busy=1)], [], Place("b"), ["b", "a"]),
        ([sample.row("a", state=SLEEPING), sample.row("b", busy=2)], [], Place("a"), ["b", "a"]),
        ([sample.row("a", state=PROBATION), sample.row("b", busy=1)], [], Place("a"), ["a", "b"]),
        ([sample.row("a", slots=4, busy=1, state=PROBATION), sample.row("b", busy=1)], [], Place("b"), ["a", "b"]),
        ([sample.row("a", slots=4, busy=1, state=PROBATION)], [], Wait(), ["a"]),
        ([sample.row("a"), sample.row("b", busy=1)], ["a"], Place("b"), ["b"]),
        ([sample.row("a"), sample.row("b", busy=2)], ["a"], Wait(), ["b"]),
        ([sample.row("a")], ["a"], Refuse("all_failed"), []),
        ([sample.row("a"), sample.row("b", state=EJECTED)], ["a"], Wait("away"), []),
        ([sample.row("a"), sample.row("b", state=EJECTED, absences=GONE)], ["a"], Refuse("all_failed"), []),
        ([sample.row("a", state=EJECTED)], ["a"], Refuse("all_failed"), []),
        ([sample.row("a")], ["long gone"], Place("a"), ["a"]),
    ],
)
def test_the_least_busy_share_gets_the_call(
    rows: list[Row], excluded: list[str], verdict: Verdict, ranking: list[str]
) -> None:
    decision = least(call(0, *excluded), sample.view(*rows), 0.0)
    assert (verdict, ranking) == (decision.verdict, ranked(decision))


def test_a_candidate_is_shown_with_the_terms_that_put_it_there() -> None:
    decision = least(call(), sample.view(sample.row("a", slots=4, busy=3), sample.row("b", slots=1, busy=0)), 0.0)
    assert (
        Candidate(instance_id="b", free=1, busy_share=0.0),
        Candidate(instance_id="a", free=1, busy_share=0.75),
    ) == decision.ranking


# The order of four idle instances for a few conversations, as any process must see it.
@pytest.mark.parametrize(
    ("affinity", "ranking"),
    [(0, "acbd"), (1, "abdc"), (2, "bdac"), (0xFEDCBA9876543210, "bcda")],
)
def test_ties_fall_the_same_way_in_every_process(affinity: int, ranking: str) -> None:
    idle = [sample.row(id_) for id_ in IDS]
    for rows in (idle, idle[::-1]):
        assert list(ranking) == ranked(least(call(affinity), sample.view(*rows), 0.0))


def homes(ids: tuple[str, ...], conversations: int = 400) -> list[str]:
    view = sample.view(*(sample.row(id_) for id_ in ids))
    return [ranked(least(call(0x9E3779B97F4A7C15 * n % 2**64), view, 0.0))[0] for n in range(conversations)]


@pytest.mark.parametrize("gone", IDS)
def test_when_an_instance_leaves_only_its_own_conversations_move(gone: str) -> None:
    before, after = homes(IDS), homes(tuple(id_ for id_ in IDS if id_ != gone))
    assert [home for home in before if home != gone] == [
        new for home, new in zip(before, after, strict=True) if home != gone
    ]


def test_conversations_spread_evenly() -> None:
    assert all(70 <= count <= 130 for count in Counter(homes(IDS)).values())


def test_those_of_an_instance_that_left_spread_over_all_others() -> None:
    before, after = homes(IDS), homes(("b", "c", "d"))
    heirs = Counter(new for home, new in zip(before, after, strict=True) if home == "a")
    assert all(15 <= heirs[id_] for id_ in ("b", "c", "d"))


_rows = st.lists(
    st.builds(
        lambda **row: row,
        slots=st.integers(0, 4),
        busy=st.integers(0, 5),
        closing=st.integers(0, 2),
        state=st.sampled_from(State),
        absences=st.sampled_from([0, GONE - 1, GONE]),
    ),
    min_size=1,
    max_size=len(IDS),
).map(lambda drawn: [sample.row(id_, **row) for id_, row in zip(IDS, drawn, strict=False)])
_calls = st.builds(call, st.integers(0, 2**64 - 1)) | st.builds(
    call, st.integers(0, 2**64 - 1), st.sampled_from(IDS), st.sampled_from(IDS)
)


@steady
@given(rows=_rows, asked=_calls)
def test_a_decision_is_made_of_its_arguments_alone(rows: list[Row], asked: Call) -> None:
    decision = least(asked, sample.view(*rows), 0.0)
    assert decision == least(asked, sample.view(*rows), 0.0) == least(asked, sample.view(*rows[::-1]), 0.0)


@steady
@given(rows=_rows, asked=_calls)
def test_the_ranking_has_every_serving_row_that_has_not_failed_the_call(rows: list[Row], asked: Call) -> None:
    decision = least(asked, sample.view(*rows), 0.0)
    expected = {row.instance.id for row in rows if row.serving} - asked.excluded
    assert (expected, len(expected)) == (set(ranked(decision)), len(decision.ranking))
    order = [(candidate.asleep, candidate.busy_share) for candidate in decision.ranking]
    assert sorted(order) == order


@steady
@given(rows=_rows, asked=_calls)
def test_a_call_is_placed_exactly_where_a_slot_is_free(rows: list[Row], asked: Call) -> None:
    decision = least(asked, sample.view(*rows), 0.0)
    free = {row.instance.id for row in rows if row.free} - asked.excluded
    others = [row for row in rows if row.instance.id not in asked.excluded]
    match decision.verdict:
        case Place(instance_id=id_):
            assert id_ in free
            assert next(it.instance_id for it in decision.ranking if it.free) == id_, "the best that has a free slot"
        case Wait(reason=reason):
            assert not free
            assert ("full" if decision.ranking else "away") == reason
            assert decision.ranking or any(row.health.hopeful for row in others)
        case Refuse(reason=reason):
            assert () == decision.ranking
            assert not any(row.serving or row.health.hopeful for row in others)
            assert ("all_failed" if asked.excluded else "no_instance") == reason


@pytest.mark.parametrize(
    ("verdict", "expected", "written"),
    [
        (Place("a"), "place", b'{"type":"place","instance_id":"a"}'),
        (Wait("warm", 2.5), "wait", b'{"type":"wait","reason":"warm","until_s":2.5}'),
        (Refuse("no_instance"), "refuse", b'{"type":"refuse","reason":"no_instance"}'),
    ],
)
def test_a_verdict_is_one_word_and_one_value(verdict: Verdict, expected: str, written: bytes) -> None:
    assert (expected, written) == (word(verdict), msgspec.json.encode(verdict))
    assert verdict == msgspec.json.decode(written, type=Verdict)


def test_who_is_placed_costs_its_reading_and_what_it_destroys_and_a_little() -> None:
    terms = Terms(wait_s=9.0, read_s=2.0, lost_s=3.0, stall_s=9.0)
    one, other = (Candidate(instance_id=id_, free=1, busy_share=0.0, terms=terms) for id_ in "ab")
    assert (other, BESIDES_S + 5.0) == (
        Decision(Place("b"), (one, other)).placed,
        Decision(Place("b"), (one, other)).work_s,
    )
    for verdict in (Wait(), Refuse("no_instance"), Place("gone")):
        decision = Decision(verdict, (one, other))
        assert (None, BESIDES_S) == (decision.placed, decision.work_s)


# ---------------------------------------------------------------- ptx: a fleet that has served


class Town:
    """A book and the instances that it is about, each with one slot and no RAM cache unless told otherwise."""

    def __init__(self, ids: str | list[str] = "ab", *, slots: int = 1) -> None:
        self.book = Book()
        self.choose = ptx(self.book)
        self.rows = {id_: self.row(id_, slots) for id_ in ids}
        self.number = 0

    @staticmethod
    def row(id_: str, slots: int) -> Row:
        made = sample.row(id_, slots=slots)
        return msgspec.structs.replace(made, instance=msgspec.structs.replace(made.instance, cache_ram_tokens=0))

    def change(self, id_: str, **changes: object) -> None:
        self.rows[id_] = msgspec.structs.replace(self.rows[id_], **changes)

    def send(self, id_: str, asked: Call, now_s: float) -> int:
        """It is sent there, and its slot is taken."""
        self.number += 1
        self.ask(asked, now_s)
        self.book.dispatched(id_, self.number, asked, now_s)
        self.change(id_, busy=self.rows[id_].busy + 1)
        return self.number

    def begin(self, id_: str, number: int, asked: Call, now_s: float) -> None:
        self.book.begun(id_, number)
        self.book.first_token(id_, number, asked, now_s, cached=None, prompt=None)

    def end(self, id_: str, number: int, asked: Call, now_s: float) -> None:
        self.book.finished(id_, number, asked, now_s, cached=None, prompt=None, output=None)
        self.change(id_, busy=self.rows[id_].busy - 1)

    def serve(self, id_: str, word: str, session: int, now_s: float = 0.0) -> None:
        """A whole call, with its conversation, at one moment."""
        asked = prompt(word, session, now_s)
        self.book.arrived(asked, now_s)
        number = self.send(id_, asked, now_s)
        self.begin(id_, number, asked, now_s)
        self.end(id_, number, asked, now_s)
        self.book.left(asked, now_s, answered=True)

    def ask(self, asked: Call, now_s: float) -> Decision:
        return self.choose(asked, sample.view(*self.rows.values()), now_s)


def prompt(word: str, session: int = 1, arrived_s: float = 0.0) -> Call:
    return Call(pool="m", session=session, chain=spell(word), arrived_s=arrived_s)


@pytest.mark.parametrize("home", ["a", "b"])
@pytest.mark.parametrize("session", range(4))
def test_a_conversation_goes_where_it_is_warm(home: str, session: int) -> None:
    town = Town()
    town.serve(home, "abcdef", session)
    decision = town.ask(prompt("abcdefg", session, 1.0), 1.0)
    assert (Place(home), home) == (decision.verdict, ranked(decision)[0])
    one = decision.placed
    assert one is not None
    assert (6000.0, 7000.0) == (one.hit_tokens, one.prompt_tokens)


def test_a_new_conversation_goes_where_nothing_is_lost_by_it() -> None:
    town = Town("abc")
    town.serve("a", "abcdef", 1)
    town.serve("c", "uvwxyz", 2)
    for session in range(10, 20):
        assert Place("b") == town.ask(prompt("klmnop", session, 1.0), 1.0).verdict


def test_ties_go_by_rendezvous_so_that_a_conversation_keeps_its_instance_and_all_are_used() -> None:
    town, other = Town("abcd"), Town("dcba")
    placed = [town.ask(prompt("abc", session), 0.0).verdict for session in range(100)]
    assert placed == [other.ask(prompt("abc", session), 0.0).verdict for session in range(100)]
    assert placed == [
        least(prompt("abc", session), sample.view(*town.rows.values()), 0.0).verdict for session in range(100)
    ]
    assert 4 == len(set(placed))


def test_of_nearly_equals_the_one_that_is_warm_is_taken_and_then_the_one_less_busy() -> None:
    town = Town("ab", slots=4)
    town.change("a", busy=1)
    assert {Place("b")} == {town.ask(prompt("abc", session), 0.0).verdict for session in range(20)}
    # A slot that was read before is a little better than an empty one, whatever the rendezvous hash says.
    warm = Town("ab", slots=4)
    warm.serve("a", "abcde", 1)
    for session in range(20):
        assert Place("a") == warm.ask(prompt("abcdef", session), 60.0).verdict


@pytest.mark.parametrize(
    ("wanted", "loses", "placed"), [(True, cost.LOSES, "b"), (True, 1.0, "a"), (False, cost.LOSES, "a")]
)
def test_rather_than_destroy_what_is_wanted_a_call_reads_more_elsewhere(
    monkeypatch: pytest.MonkeyPatch, wanted: bool, loses: float, placed: str
) -> None:
    monkeypatch.setattr(cost, "LOSES", loses)
    town = Town()
    town.serve("a", "abcdef", 1)
    if wanted:
        town.book.arrived(prompt("abcdefg", 1, 200.0), 200.0)
    # On `a` it would read two units of six, and two would have to be read again.
    assert Place(placed) == town.ask(prompt("abcdxy", 2, 200.0), 200.0).verdict


# ---------------------------------------------------------------- ptx: waiting


def warm_but_full() -> Town:
    """What the conversation 1 needs is warm on `a`, whose only slot is taken by an answer that is nearly over."""
    town = Town("ab")
    town.serve("a", "abcdefgh", 1)
    number = town.send("a", prompt("abcdefgh", 2), 0.0)
    town.begin("a", number, prompt("abcdefgh", 2), 0.0)
    return town


def test_it_is_worth_waiting_for_a_warm_instance_that_is_full_but_not_for_long() -> None:
    town = warm_but_full()
    asked = prompt("abcdefghi", 1, arrived_s=100.0)
    decision = town.ask(asked, 100.0)
    assert isinstance(decision.verdict, Wait)
    assert ["a", "b"] == ranked(decision)
    warm, cold = (one.terms for one in decision.ranking)
    assert "warm" == decision.verdict.reason
    bound_s = decision.verdict.until_s
    assert bound_s is not None
    assert warm.wait_s > 0.0
    assert STICKS * (cold.read_s - warm.wait_s - warm.read_s) == pytest.approx(bound_s)
    assert isinstance(town.ask(asked, 100.0 + bound_s - 0.1).verdict, Wait)
    assert Place("b") == town.ask(asked, 100.0 + bound_s).verdict


def test_the_warm_instance_is_taken_when_its_slot_comes_free() -> None:
    town = warm_but_full()
    asked = prompt("abcdefghi", 1, arrived_s=100.0)
    assert isinstance(town.ask(asked, 100.0).verdict, Wait)
    town.end("a", town.number, prompt("abcdefgh", 2), 100.5)
    assert Place("a") == town.ask(asked, 100.5).verdict


def test_where_the_wait_would_be_longer_than_reading_anew_it_is_read_anew() -> None:
    town = Town("ab")
    town.serve("a", "abcd", 1)
    town.send("a", prompt("uvwxyzuvwxyzuvwxyz", 2), 0.0)  # 18 s, and it has just begun
    decision = town.ask(prompt("abcde", 1), 0.0)
    assert (Place("b"), ["b", "a"]) == (decision.verdict, ranked(decision))


@pytest.mark.parametrize("token_s", [1e-3, 1e-4, 3e-5, 1e-5])
def test_who_gains_little_by_waiting_waits_little(token_s: float) -> None:
    town = warm_but_full()
    for id_ in "ab":
        town.book._shadows[id_].speed.token_s = token_s
        town.book._shadows[id_].speed.written_s = token_s
    decision = town.ask(prompt("abcdefghi", 1, arrived_s=100.0), 100.0)
    assert isinstance(decision.verdict, Wait)
    # What is warm need not be read; the answer that is in its slot has a quarter of a usual one to go.
    warm_s = 8000 * token_s * (1 + 8000 / 65536)
    left_s = 128 / 4 * token_s
    assert STICKS * (warm_s - left_s) == pytest.approx(decision.verdict.until_s)


def test_one_that_is_no_sooner_done_there_is_not_held_back_though_it_destroys_what_others_want() -> None:
    town = Town("ab")
    town.serve("b", "abcdefgh", 1)
    town.send("a", prompt("uvw", 3, 200.0), 200.0)
    town.book.arrived(prompt("abcdefghi", 1, 200.0), 200.0)
    decision = town.ask(prompt("xyz", 2, arrived_s=200.0), 200.0)
    first, second = decision.ranking
    assert ["a", "b"] == ranked(decision)  # where nothing is lost, but its slot is taken
    assert second.terms.ttft_s < first.terms.ttft_s
    assert second.guard_s > 0.0
    assert Place("b") == decision.verdict
    # To spare the others is for the guard, and that is for when there are more than there is room for.
    for session in range(100, 105):
        town.book.arrived(prompt("x", session), 200.5)
    decision = town.ask(prompt("xyz", 2, arrived_s=201.0), 201.0)
    assert isinstance(decision.verdict, Wait)
    assert GUARDS * decision.ranking[1].guard_s == pytest.approx(decision.verdict.until_s)


@pytest.mark.parametrize("order", ["abcd", "dcba"])
def test_behind_a_full_one_that_is_warm_ties_fall_by_rendezvous_too(order: str) -> None:
    town = warm_but_full()
    town.rows = {id_: town.rows.get(id_, town.row(id_, 1)) for id_ in order}
    placed = [town.ask(prompt("abcdefghi", session, arrived_s=-1e6), 100.0).verdict for session in range(60)]
    bcd = sample.view(*(sample.row(id_) for id_ in "bcd"))
    assert [least(call(session), bcd, 0.0).verdict for session in range(60)] == placed


def test_where_everything_is_full_it_waits_for_a_slot() -> None:
    town = Town("ab")
    town.change("a", busy=1)
    town.change("b", closing=1)
    decision = town.ask(prompt("abc"), 0.0)
    assert (Wait("full", None), 2) == (decision.verdict, len(decision.ranking))


@pytest.mark.parametrize(
    ("state", "absences", "verdict"),
    [(EJECTED, 0, Wait("away")), (EJECTED, GONE, Refuse("no_instance")), (DRAINING, 0, Refuse("no_instance"))],
)
def test_where_nobody_serves_it_is_as_with_every_policy(state: State, absences: int, verdict: Verdict) -> None:
    view = sample.view(sample.row("a", state=state, absences=absences))
    for choose in (ptx(Book()), sticky(Homes()), least):
        assert Decision(verdict) == choose(prompt("abc"), view, 0.0)


def test_one_that_sleeps_comes_last_and_is_not_waited_for() -> None:
    town = Town("ab")
    town.serve("a", "abcdef", 1)
    town.change("a", health=sample.row("a", state=SLEEPING).health)
    decision = town.ask(prompt("abcdefg", 1), 1.0)
    assert (Place("b"), ["b", "a"]) == (decision.verdict, ranked(decision))
    # Awake but full: the one that sleeps is woken.
    town.change("b", busy=1)
    decision = town.ask(prompt("abcdefg", 1), 1.0)
    assert (Place("a"), ["b", "a"]) == (decision.verdict, ranked(decision))


# ---------------------------------------------------------------- ptx: the guard


def guarded(live: int) -> tuple[Town, Call]:
    """One instance whose slot holds a conversation that others want kept, and so many of them under way."""
    town = Town("a")
    town.serve("a", "abcdefgh", 1)
    for session in range(100, 100 + live):
        town.book.arrived(prompt("x", session), 0.5)
    return town, prompt("uvwxyz", 2, arrived_s=1.0)


def test_while_all_caches_have_room_a_call_destroys_what_it_has_to() -> None:
    town, asked = guarded(0)
    decision = town.ask(asked, 1.0)
    assert (Place("a"), True) == (decision.verdict, decision.ranking[0].terms.lost_s > 0.0)


def test_where_more_conversations_live_than_fit_it_out_waits_what_it_would_destroy() -> None:
    town, asked = guarded(5)
    decision = town.ask(asked, 1.0)
    guard_s = decision.ranking[0].guard_s
    assert 0.0 < guard_s <= decision.ranking[0].terms.lost_s
    assert isinstance(decision.verdict, Wait)
    assert "guard" == decision.verdict.reason
    assert GUARDS * guard_s == pytest.approx(decision.verdict.until_s)
    times_s = [1.0 + 0.25 * step for step in range(200)]
    placed = next(now_s for now_s in times_s if isinstance(town.ask(asked, now_s).verdict, Place))
    assert 1.5 < placed <= 1.0 + GUARDS * guard_s + 0.25  # the older it gets the less it is wanted


@pytest.mark.parametrize("instances", [20, 40])
def test_the_more_there_are_too_many_the_longer_it_waits(instances: int) -> None:
    waits_s = []
    for more in (0, 1, 2, 3, 30):
        town = Town([f"i{at}" for at in range(instances)])
        for at in range(instances):
            town.serve(f"i{at}", "abcdefgh", 1)
        for session in range(100, 100 + instances + more):
            town.book.arrived(prompt("x", session), 0.5)
        verdict = town.ask(prompt("uvwxyz", 2, arrived_s=1.0), 1.0).verdict
        assert not isinstance(verdict, Refuse)
        waits_s.append(verdict.until_s or 0.0 if isinstance(verdict, Wait) else 0.0)
    assert sorted(waits_s) == waits_s
    assert waits_s[0] < waits_s[-1]


def test_what_belongs_to_nobody_is_not_guarded() -> None:
    town, asked = guarded(5)
    town.book.left(Call(pool="m", session=1, ends=True), 0.6, answered=True)
    assert Place("a") == town.ask(asked, 1.0).verdict


# ---------------------------------------------------------------- ptx: one call at a time


def test_while_a_warm_call_has_not_begun_no_other_is_sent_that_might_take_its_slot() -> None:
    town = Town("a", slots=2)
    town.serve("a", "abcdef", 1)
    first, second = prompt("abcdefg", 1, 10.0), prompt("uvwxyz", 2, 10.0)
    assert Place("a") == town.ask(first, 10.0).verdict
    number = town.send("a", first, 10.0)
    decision = town.ask(second, 10.0)
    assert (Wait("full"), 0) == (decision.verdict, decision.ranking[0].free)
    town.book.begun("a", number)
    assert Place("a") == town.ask(second, 10.1).verdict


def test_nobody_is_kept_from_an_instance_that_does_not_say_that_it_has_begun() -> None:
    town = Town("a", slots=2)
    town.serve("a", "abcdef", 1)
    town.send("a", prompt("abcdefg", 1, 10.0), 10.0)
    second = prompt("uvwxyz", 2, 10.0)
    assert [Wait("full"), Place("a")] == [town.ask(second, 10.0 + after_s).verdict for after_s in (0.4, 0.6)]


# ---------------------------------------------------------------- ptx: many instances


def test_of_many_instances_the_warm_one_is_found() -> None:
    ids = [f"i{at}" for at in range(40)]
    town = Town(ids)
    town.ask(prompt("q"), 0.0)
    town.serve("i33", "abcdefghijklmnop", 1)
    decision = town.ask(prompt("abcdefghijklmnopq", 1), 1.0)
    assert Place("i33") == decision.verdict
    assert LOOKED_AT <= len(decision.ranking) < len(ids)


def test_of_many_instances_a_free_one_is_found_where_the_best_are_full() -> None:
    ids = [f"i{at}" for at in range(40)]
    town = Town(ids)
    for id_ in ids[:-1]:
        town.change(id_, busy=1)
    for session in range(20):
        assert Place("i39") == town.ask(prompt("abc", session, arrived_s=-1e6), 0.0).verdict


# ---------------------------------------------------------------- ptx: any history

_towns = st.lists(
    st.tuples(
        st.sampled_from(["serve", "serve", "send", "send", "begin", "end", "later"]),
        st.sampled_from("abc"),
        st.text("abc", min_size=1, max_size=6),
        st.integers(1, 4),
    ),
    max_size=15,
)
fewer = settings(derandomize=True, max_examples=100, deadline=None)


def lived(history: list[tuple[str, str, str, int]], ids: str = "abc") -> tuple[Town, float]:
    town, now_s = Town(ids, slots=2), 0.0
    runs: dict[str, list[tuple[int, Call]]] = {id_: [] for id_ in ids}
    for what, id_, text, session in history:
        asked = prompt(text, session, now_s)
        match what:
            case "serve" if town.rows[id_].free:
                town.serve(id_, text, session, now_s)
            case "send" if town.rows[id_].free:
                town.book.arrived(asked, now_s)
                runs[id_].append((town.send(id_, asked, now_s), asked))
            case "begin" if runs[id_]:
                town.begin(id_, *runs[id_][0], now_s)
            case "end" if runs[id_]:
                number, over = runs[id_].pop(0)
                town.end(id_, number, over, now_s)
                town.book.left(over, now_s, answered=True)
            case "later":
                now_s += 0.1 * session**3
    return town, now_s


@fewer
@given(history=_towns, word=st.text("abc", min_size=1, max_size=6), session=st.integers(1, 4))
def test_whatever_has_happened_nobody_waits_for_ever_where_something_is_free(
    history: list[tuple[str, str, str, int]], word: str, session: int
) -> None:
    town, now_s = lived(history)
    for arrived_s in (now_s, now_s - 2.0, now_s - 1e6):
        decision = town.ask(prompt(word, session, arrived_s), now_s)
        free = [one for one in decision.ranking if one.free]
        assert {"a", "b", "c"} == set(ranked(decision))
        match decision.verdict:
            case Place(instance_id=id_):
                assert free[0].instance_id == id_
                assert town.rows[id_].free > 0
            case Wait(reason="full", until_s=until_s):
                assert (None, []) == (until_s, free)
            case Wait(until_s=until_s):
                assert until_s is not None
                gain_s, guard_s = free[0].terms.ttft_s - decision.ranking[0].terms.ttft_s, free[0].guard_s
                assert now_s - arrived_s < until_s <= max(STICKS * gain_s, GUARDS * guard_s)
            case _:
                pytest.fail("there are instances")
    assert (not free) is isinstance(decision.verdict, Wait), "after a million seconds"


@fewer
@given(history=_towns, word=st.text("abc", min_size=1, max_size=6), session=st.integers(1, 4))
def test_a_decision_is_the_same_whatever_the_order_of_instances_and_asking_changes_nothing(
    history: list[tuple[str, str, str, int]], word: str, session: int
) -> None:
    town, now_s = lived(history)
    first = town.ask(prompt(word, session, now_s), now_s)
    again = town.ask(prompt(word, session, now_s), now_s)
    town.rows = dict(reversed(town.rows.items()))
    assert first == again == town.ask(prompt(word, session, now_s), now_s)


# ---------------------------------------------------------------- sticky


def test_a_conversation_stays_where_it_began_however_long_it_has_to_wait() -> None:
    choose, rows = sticky(Homes()), [sample.row(id_) for id_ in IDS]
    first = choose(call(7), sample.view(*rows), 0.0).verdict
    assert isinstance(first, Place)
    home = first.instance_id
    full = [sample.row(id_, busy=2 if id_ == home else 0) for id_ in IDS]
    decision = choose(call(7), sample.view(*full), 1e6)
    assert (Wait("home"), home) == (decision.verdict, ranked(decision)[0])
    assert first == choose(call(7), sample.view(*rows), 1e6).verdict


def test_new_conversations_go_where_the_fewest_live() -> None:
    choose, view = sticky(Homes()), sample.view(*(sample.row(id_) for id_ in IDS))
    homes_ = Counter(ranked(choose(call(session), view, 0.0))[0] for session in range(40))
    assert dict.fromkeys(IDS, 10) == homes_


def test_a_conversation_whose_home_is_gone_or_has_failed_it_finds_a_new_one() -> None:
    known = Homes()
    home = known.of(7, list(IDS), 0.0)
    others = [id_ for id_ in IDS if id_ != home]
    moved = known.of(7, others, 1.0)
    assert moved in others
    assert (moved, "Homes[1]") == (known.of(7, list(IDS), 2.0), repr(known))


def test_who_was_not_heard_of_for_a_while_takes_no_room_and_still_has_its_home() -> None:
    known = Homes()
    silent = [known.of(session, ["a"], 0.0) for session in range(10)]
    assert ["a"] * 10 == silent
    # Among those heard of lately both have none.
    new = Counter(known.of(session, ["a", "b"], Homes.LIVES_S + 1.0) for session in range(100, 110))
    assert {"a": 5, "b": 5} == new
    assert "a" == known.of(3, ["a", "b"], Homes.LIVES_S + 2.0)


def test_homes_are_forgotten_once_there_are_too_many_those_first_that_were_not_heard_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Homes, "MOST", 3)
    known = Homes()
    for now_s, session in enumerate((1, 2, 3, 1, 4)):
        known.of(session, ["a"], float(now_s))
    assert [3, 1, 4] == list(known._homes)


@pytest.mark.parametrize("name", ["ptx", "least", "sticky"])
def test_every_policy_places_a_call_where_there_is_one_free_slot(name: Policy) -> None:
    choose = policy(name, Book())
    assert Place("a") == choose(prompt("abc"), sample.view(sample.row("a")), 0.0).verdict
    assert isinstance(choose(prompt("abc"), sample.view(sample.row("a", busy=2)), 0.0).verdict, Wait)
