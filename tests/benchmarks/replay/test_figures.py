import pytest

from benchmarks.replay.figures import figures, near, of_visit, percentile
from benchmarks.replay.rows import CUT, Row, Visit


def row(**more: object) -> Row:
    usual: dict[str, object] = {
        "user": 0, "session_id": "s", "turn": 0, "began_s": 1.0, "ttft_s": 0.5, "total_s": 1.0,
        "prompt_tokens": 1000, "cached_tokens": 600, "output_tokens": 9, "words": 950, "known_words": 855,
    }  # fmt: skip
    return Row(**{**usual, **more})  # type: ignore[arg-type]


def visit(*rows: Row) -> Visit:
    return Visit(name="x", round=0, users=1, cache_ram_mib=0, window_s=10.0, rows=list(rows))


def test_a_turn_counts_by_its_end() -> None:
    found = of_visit(visit(row(began_s=-2.5), row(began_s=-0.5), row(began_s=9.0), row(began_s=9.5)))
    assert 2 == found["turns"]


def test_errors_and_those_cut_off_are_no_turns() -> None:
    found = of_visit(
        visit(
            row(),
            row(error="status 529"),
            row(error="status 529", began_s=-5.0),
            row(error=CUT, ttft_s=None, total_s=7.0),
            row(error=CUT),
        )
    )
    assert (1, 1, 1, 7.0) == (found["turns"], found["errors"], found["waiting"], found["longest_wait_s"])
    assert 0.5 == found["ttft_mean_s"]


def test_a_visit_without_answers_has_no_times() -> None:
    found = of_visit(visit(row(error="status 503")))
    assert (0, 1) == (found["turns"], found["errors"])
    assert not {"ttft_mean_s", "cached"} & set(found)


def test_shares_go_by_tokens_not_by_turns() -> None:
    found = of_visit(visit(row(cached_tokens=0), row(prompt_tokens=3000, cached_tokens=3000)))
    assert 0.75 == found["cached"]
    assert pytest.approx(0.9) == found["ideal"]


def test_a_turn_of_which_no_cache_was_told_is_left_out_of_the_share() -> None:
    assert 0.6 == of_visit(visit(row(), row(cached_tokens=None)))["cached"]


@pytest.mark.parametrize(
    ("foreseen", "prompt", "verdict"),
    [(600, 1000, True), (728, 1000, True), (729, 1000, False), (900, 10_000, True), (901, 10_000, False)],
)
def test_foreseen_is_within_128_tokens_or_3_percent(foreseen: int, prompt: int, verdict: bool) -> None:
    assert near(row(prompt_tokens=prompt, log={"foreseen_cached_tokens": foreseen})) is verdict


def test_what_was_not_foreseen_is_neither_right_nor_wrong() -> None:
    seen = {"foreseen_cached_tokens": 600}
    assert near(row()) is None
    assert "foreseen" not in of_visit(visit(row()))
    assert 0.5 == of_visit(visit(row(), row(log=seen), row(log=seen, cached_tokens=0)))["foreseen"]


def test_rounds_have_a_middle_and_a_reach() -> None:
    spread = figures([visit(row(ttft_s=second)) for second in (3.0, 1.0, 2.0)])["ttft_mean_s"]
    assert (2.0, 1.0, 3.0) == (spread.median, spread.low, spread.high)


def test_percentiles_are_values_that_were_seen() -> None:
    assert [3.0, 5.0, 5.0] == [percentile([5.0, 1.0, 3.0, 2.0, 4.0], share) for share in (0.5, 0.95, 1.0)]
