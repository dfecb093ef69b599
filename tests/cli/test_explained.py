"""The page of an explanation: one sentence for each verdict, a table that adds up, and words for what stands in it."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.cost import Terms
from router.balance.policy import Candidate, Decision, Place, Refuse, Verdict, Wait
from router.cli.explained import render
from router.relay.explain import Explanation, LeftOut, Waits

steady = settings(derandomize=True, max_examples=100, deadline=None)
COLUMNS = ["FREE", "WARM", "WAIT", "READ", "LOST", "STALL", "MOVED", "BEHIND", "TOTAL"]


def one(id_: str, free: int = 1, **more: Any) -> Candidate:
    return Candidate(instance_id=id_, free=free, busy_share=0.5, **{"prompt_tokens": 12_375.0, **more})


WARM = one("real-1", hit_tokens=11_900.0, terms=Terms(wait_s=0.01, read_s=0.04, moved_s=0.002))
COLD = one("real-2", 4, terms=Terms(read_s=1.5, lost_s=0.25, stall_s=0.125, behind_s=0.0625))
TAKEN = one("real-1", 0, hit_tokens=11_900.0, terms=Terms(wait_s=0.5))


def page(verdict: Verdict, *ranking: Candidate, **more: Any) -> str:
    fields: dict[str, Any] = {
        "model": "claude-x",
        "pool": "qwen",
        "policy": "ptx",
        "decision": Decision(verdict, ranking),
        "waits": None,
        "left_out": (),
        "ahead": 0,
        "units": 18,
        "prompt_bytes": 49_890,
        "ctx_tokens": 32_768,
        "over_subscribed": 0.0,
    }
    return render(Explanation(**{**fields, **more}))


def sentence(*said: Any, **more: Any) -> str:
    """The second line: what would happen."""
    return page(*said, **more).splitlines()[1]


def table(text: str) -> list[list[str]]:
    lines = text.split("\n\n")[1].splitlines()
    return [[cell for cell in re.split(r" {2,}", line) if cell] for line in lines]


# ---------------------------------------------------------------- what would happen


def test_the_first_line_says_which_model_is_meant_and_how_long_the_prompt_is() -> None:
    first = page(Place("real-1"), WARM).splitlines()[0]
    assert "claude-x is qwen here; the prompt has about 12,375 tokens (49,890 bytes of text in 18 units)." == first
    for model in ("qwen", None):
        assert page(Place("real-1"), WARM, model=model).startswith("The model is qwen; the prompt")
    unknown = page(Place("real-1"), one("real-1", prompt_tokens=0.0), units=0, prompt_bytes=0)
    assert "claude-x is qwen here." == unknown.splitlines()[0]


@pytest.mark.parametrize(
    ("ranking", "why"),
    [
        ((WARM, COLD), "11,900 of 12,375 prompt tokens are warm there."),
        ((COLD,), "none of its prompt is warm there."),
        (
            (COLD, one("real-3", terms=Terms(read_s=2.0))),
            "none of its prompt is warm there nor elsewhere, and it costs least there.",
        ),
        (
            (COLD, one("real-3", terms=Terms(read_s=1.9))),
            "none of its prompt is warm there nor elsewhere, and it costs hardly less elsewhere.",
        ),
        (
            (one("real-2", prompt_tokens=0.0), one("real-3", prompt_tokens=0.0)),
            "what is warm of its prompt is not known, and it costs least there.",
        ),
        ((COLD, WARM), "none of its prompt is warm there; more is warm at real-1, where it costs 0.05 s."),
        ((one("real-3", 0), COLD), "none of its prompt is warm there; real-3 would be better, and has no slot free."),
        ((one("real-2", prompt_tokens=0.0),), "what is warm of its prompt is not known."),
    ],
)
def test_a_call_that_is_placed_goes_somewhere_for_a_reason(ranking: tuple[Candidate, ...], why: str) -> None:
    id_ = "real-1" if ranking[0] is WARM else "real-2"
    assert f"It would go to {id_} now: {why}" == sentence(Place(id_), *ranking)


@pytest.mark.parametrize(
    ("waits", "said"),
    [
        (
            Waits(reason="warm", for_id="real-1", at_most_s=1.5, then_id="real-2"),
            "for a slot of real-1, where 11,900 of 12,375 prompt tokens are warm, for at most 1.5 s, "
            "and then go to real-2.",
        ),
        (
            Waits(reason="guard", for_id=None, at_most_s=4.04, then_id="real-2"),
            "although a slot is free, since it would push out what other conversations come back for, "
            "for at most 4.0 s, and then go to real-2.",
        ),
        (
            Waits(reason="full", for_id=None, at_most_s=120.0, then_id=None),
            "for a slot, since qwen has none free, for at most 120.0 s, and then be refused.",
        ),
        (
            Waits(reason="home", for_id="real-1", at_most_s=120.0, then_id=None),
            "for a slot of real-1, where its conversation lives, for at most 120.0 s, and then be refused.",
        ),
    ],
)
def test_a_call_that_would_wait_waits_for_something_and_not_for_ever(waits: Waits, said: str) -> None:
    assert f"It would wait {said}" == sentence(Wait(waits.reason), TAKEN, COLD, waits=waits)


def test_a_pool_that_is_away_is_waited_for() -> None:
    waits = Waits(reason="away", for_id=None, at_most_s=120.0, then_id=None)
    assert "for an instance of qwen to come back" in sentence(Wait("away"), waits=waits)


def test_an_instance_may_be_waited_for_that_is_only_faster() -> None:
    waits = Waits(reason="warm", for_id="real-3", at_most_s=1.5, then_id="real-2")
    assert "for a slot of real-3, where it would cost less, for" in sentence(
        Wait("warm", 1.5), one("real-3", 0), COLD, waits=waits
    )


@pytest.mark.parametrize("reason", ["no_instance", "all_failed"])
def test_a_call_that_nobody_serves_is_refused(reason: str) -> None:
    left_out = (LeftOut(instance_id="gpu7", why="it is draining"),)
    text = page(Refuse(reason), left_out=left_out, ctx_tokens=None)
    assert "It would be refused: no instance of qwen" in text.splitlines()[1]
    assert text.endswith("Left out:\n  gpu7: it is draining")
    assert "INSTANCE" not in text


@pytest.mark.parametrize(
    ("ahead", "words"), [(1, "1 call of this model waits"), (2000, "2,000 calls of this model wait")]
)
def test_those_who_wait_already_are_told(ahead: int, words: str) -> None:
    assert words in page(Place("real-1"), WARM, ahead=ahead).splitlines()[2]


@pytest.mark.parametrize(("ctx_tokens", "told"), [(12_376, False), (12_375, True), (8192, True), (None, False)])
def test_a_prompt_that_is_too_long_for_a_slot_is_told(ctx_tokens: int | None, told: bool) -> None:
    text = page(Place("real-1"), WARM, ctx_tokens=ctx_tokens)
    assert told is ("too long" in text)
    assert told is (f"a slot of real-1 takes {ctx_tokens or 0:,} tokens" in text)


# ---------------------------------------------------------------- the table


def test_the_best_stands_on_top_and_the_chosen_one_is_marked() -> None:
    head, best, other = table(page(Place("real-1"), WARM, COLD))
    assert ["INSTANCE", *COLUMNS] == head
    assert ["->", "real-1", "1", "11,900 of 12,375"] == best[:4]
    assert ["0.010", "0.040", "0.000", "0.000", "0.002", "0.000", "0.052"] == best[4:]
    assert ["real-2", "4", "0 of 12,375"] == other[:3]
    assert ["0.000", "1.500", "0.250", "0.125", "0.000", "0.062", "1.938"] == other[3:]


def test_the_one_that_is_waited_for_is_marked_otherwise() -> None:
    waits = Waits(reason="warm", for_id="real-1", at_most_s=1.5, then_id="real-2")
    text = page(Wait("warm", 1.5), TAKEN, COLD, waits=waits)
    assert ["..", "real-1", "0"] == table(text)[1][:3]
    assert "real-2" == table(text)[2][0]
    assert "..      where it would wait for a slot" in text
    assert "->" not in text


def test_where_times_are_long_thousandths_are_left_out() -> None:
    slow = one("real-1", terms=Terms(read_s=66.1845))
    assert "66.18" == table(page(Place("real-1"), slow))[1][-1]


def test_one_that_sleeps_is_told() -> None:
    assert "2 (asleep)" == table(page(Place("real-1"), one("real-1", 2, asleep=True)))[1][2]


@given(
    ids=st.lists(st.text("abcdef-123", min_size=1, max_size=24), min_size=1, max_size=8, unique=True),
    hit_tokens=st.floats(0, 2e6),
    read_s=st.floats(0, 1e4),
)
@steady
def test_columns_stand_under_their_names_whatever_is_in_them(ids: list[str], hit_tokens: float, read_s: float) -> None:
    some = [one(id_, hit_tokens=hit_tokens, terms=Terms(read_s=read_s * place)) for place, id_ in enumerate(ids)]
    lines = page(Place(ids[0]), *some).split("\n\n")[1].splitlines()
    assert 1 == len({len(line) for line in lines})
    start = lines[0].index("INSTANCE")
    assert [line[start:].split()[0] for line in lines[1:]] == ids


@pytest.mark.parametrize("reason", ["full", "guard"])
def test_every_column_and_mark_has_its_line_below(reason: str) -> None:
    waits = Waits(reason=reason, for_id=None, at_most_s=1.0, then_id=None)
    for text in (page(Place("real-1"), WARM, COLD), page(Wait(reason), TAKEN, waits=waits)):
        legend = text.split("\n\n")[-1]
        for column in COLUMNS[:-1]:
            assert re.search(rf"^{column} ", legend, re.MULTILINE)
        assert "TOTAL is their sum" in legend
        assert ("->" in text) is bool(re.search(r"^-> ", legend, re.MULTILINE))
    assert ".." not in text.split("\n\n")[1]


def test_lines_fit_a_usual_terminal() -> None:
    text = page(Place("real-1"), WARM, COLD, over_subscribed=0.5, ahead=3)
    assert max(map(len, text.splitlines())) <= 120


def test_a_cache_that_is_wanted_by_too_many_is_told_and_only_then() -> None:
    assert "over-subscribed (0.50 of 1)" in page(Place("real-1"), WARM, over_subscribed=0.5)
    assert "over-subscribed" not in page(Place("real-1"), WARM)


def test_those_that_are_left_out_are_named_between_table_and_legend() -> None:
    left_out = (LeftOut(instance_id="gpu7", why="it is draining"), LeftOut(instance_id="gpu8", why="no images"))
    parts = page(Place("real-1"), WARM, left_out=left_out).split("\n\n")
    assert ["Left out:", "  gpu7: it is draining", "  gpu8: no images"] == parts[2].splitlines()


# ---------------------------------------------------------------- other policies


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("least", "it has the smallest share of busy slots."),
        ("sticky", "its conversation lives there."),
    ],
)
def test_other_policies_have_no_terms_and_it_says_so(policy: str, why: str) -> None:
    some = (one("real-1", prompt_tokens=0.0), one("real-2", 2, prompt_tokens=0.0))
    text = page(Place("real-1"), *some, policy=policy)
    assert f"It would go to real-1 now: {why}" == text.splitlines()[1]
    assert [["INSTANCE", "FREE", "BUSY"], ["->", "real-1", "1", "50%"], ["real-2", "2", "50%"]] == table(text)
    assert f"placement.policy is {policy}" in text
    assert "nothing is foreseen" in text
    assert "TOTAL" not in text
    assert "real-1 has no slot free" in sentence(Place("real-2"), some[0], some[1], policy="least")
