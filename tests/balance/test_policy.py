from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.policy import Call, Candidate, Decision, Place, Refuse, Verdict, Wait, choose, word
from router.fleet.health import ABSENCES_UNTIL_GONE, State
from router.fleet.view import Row
from tests.fleet import sample

steady = settings(derandomize=True, max_examples=300, deadline=None)

IDS = ("a", "b", "c", "d")
SERVING, LOADING, EJECTED = State.SERVING, State.LOADING, State.EJECTED
SLEEPING, PROBATION, DRAINING, MISPLACED = State.SLEEPING, State.PROBATION, State.DRAINING, State.MISPLACED
GONE = ABSENCES_UNTIL_GONE


def call(affinity: int = 0, *excluded: str) -> Call:
    return Call(pool="m", affinity=affinity, excluded=frozenset(excluded))


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
        ([sample.row("a", state=State.UNKNOWN)], [], Wait(), []),
        ([sample.row("a", state=LOADING), sample.row("b", slots=0)], [], Wait(), []),
        ([sample.row("a", state=EJECTED)], [], Wait(), []),
        ([sample.row("a", state=EJECTED, absences=GONE - 1)], [], Wait(), []),
        ([sample.row("a", state=EJECTED, absences=GONE)], [], Refuse("no_instance"), []),
        ([sample.row("a", state=LOADING, absences=GONE)], [], Refuse("no_instance"), []),
        ([sample.row("a", state=DRAINING), sample.row("b", state=MISPLACED)], [], Refuse("no_instance"), []),
        ([sample.row("a", state=EJECTED, absences=GONE), sample.row("b", state=LOADING)], [], Wait(), []),
        # One that sleeps comes last, and one on probation takes one call.
        ([sample.row("a", state=SLEEPING), sample.row("b", busy=1)], [], Place("b"), ["b", "a"]),
        ([sample.row("a", state=SLEEPING), sample.row("b", busy=2)], [], Place("a"), ["b", "a"]),
        ([sample.row("a", state=PROBATION), sample.row("b", busy=1)], [], Place("a"), ["a", "b"]),
        ([sample.row("a", slots=4, busy=1, state=PROBATION), sample.row("b", busy=1)], [], Place("b"), ["a", "b"]),
        ([sample.row("a", slots=4, busy=1, state=PROBATION)], [], Wait(), ["a"]),
        ([sample.row("a"), sample.row("b", busy=1)], ["a"], Place("b"), ["b"]),
        ([sample.row("a"), sample.row("b", busy=2)], ["a"], Wait(), ["b"]),
        ([sample.row("a")], ["a"], Refuse("all_failed"), []),
        ([sample.row("a"), sample.row("b", state=EJECTED)], ["a"], Wait(), []),
        ([sample.row("a"), sample.row("b", state=EJECTED, absences=GONE)], ["a"], Refuse("all_failed"), []),
        ([sample.row("a", state=EJECTED)], ["a"], Refuse("all_failed"), []),
        ([sample.row("a")], ["long gone"], Place("a"), ["a"]),
    ],
)
def test_the_least_busy_share_gets_the_call(
    rows: list[Row], excluded: list[str], verdict: Verdict, ranking: list[str]
) -> None:
    decision = choose(call(0, *excluded), sample.view(*rows))
    assert (verdict, ranking) == (decision.verdict, ranked(decision))


def test_a_candidate_is_shown_with_the_terms_that_put_it_there() -> None:
    decision = choose(call(), sample.view(sample.row("a", slots=4, busy=3), sample.row("b", slots=1, busy=0)))
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
        assert list(ranking) == ranked(choose(call(affinity), sample.view(*rows)))


def homes(ids: tuple[str, ...], conversations: int = 400) -> list[str]:
    view = sample.view(*(sample.row(id_) for id_ in ids))
    return [ranked(choose(call(0x9E3779B97F4A7C15 * n % 2**64), view))[0] for n in range(conversations)]


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
    decision = choose(asked, sample.view(*rows))
    assert decision == choose(asked, sample.view(*rows)) == choose(asked, sample.view(*rows[::-1]))


@steady
@given(rows=_rows, asked=_calls)
def test_the_ranking_has_every_serving_row_that_has_not_failed_the_call(rows: list[Row], asked: Call) -> None:
    decision = choose(asked, sample.view(*rows))
    expected = {row.instance.id for row in rows if row.serving} - asked.excluded
    assert (expected, len(expected)) == (set(ranked(decision)), len(decision.ranking))
    order = [(candidate.asleep, candidate.busy_share) for candidate in decision.ranking]
    assert sorted(order) == order


@steady
@given(rows=_rows, asked=_calls)
def test_a_call_is_placed_exactly_where_a_slot_is_free(rows: list[Row], asked: Call) -> None:
    decision = choose(asked, sample.view(*rows))
    free = {row.instance.id for row in rows if row.free} - asked.excluded
    others = [row for row in rows if row.instance.id not in asked.excluded]
    match decision.verdict:
        case Place(instance_id=id_):
            assert id_ in free
            assert next(it.instance_id for it in decision.ranking if it.free) == id_, "the best that has a free slot"
        case Wait():
            assert not free
            assert decision.ranking or any(row.health.hopeful for row in others)
        case Refuse(reason=reason):
            assert () == decision.ranking
            assert not any(row.serving or row.health.hopeful for row in others)
            assert ("all_failed" if asked.excluded else "no_instance") == reason


@pytest.mark.parametrize(
    ("verdict", "expected", "written"),
    [
        (Place("a"), "place", b'{"type":"place","instance_id":"a"}'),
        (Wait(), "wait", b'{"type":"wait"}'),
        (Refuse("no_instance"), "refuse", b'{"type":"refuse","reason":"no_instance"}'),
    ],
)
def test_a_verdict_is_one_word_and_one_value(verdict: Verdict, expected: str, written: bytes) -> None:
    assert (expected, written) == (word(verdict), msgspec.json.encode(verdict))
    assert verdict == msgspec.json.decode(written, type=Verdict)
