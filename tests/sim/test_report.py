import pytest

from router.sim.report import report, table
from router.sim.run import Outcome


def outcome(arrived_s: float, ttft_s: float, *, server: int = 0, prompt: int = 100, cached: int = 50) -> Outcome:
    return Outcome(
        server=server,
        arrived_s=arrived_s,
        sent_s=arrived_s + ttft_s / 2,
        first_token_s=arrived_s + ttft_s,
        finished_s=arrived_s + ttft_s + 10.0,
        prompt_tokens=prompt,
        cached_tokens=cached,
        output_tokens=9,
    )


def test_figures_of_a_run() -> None:
    outcomes = [outcome(0.0, float(ttft), server=ttft % 2) for ttft in range(1, 101)]
    told = report(outcomes, servers=2, still_open=3)
    assert (50.5, 50.0, 95.0, 99.0) == (told.ttft_mean_s, told.ttft_p50_s, told.ttft_p95_s, told.ttft_p99_s)
    assert (100, 3, 0.5, 1.0) == (told.calls, told.open, told.cached, told.imbalance)
    assert (25.25, 50.0, 60.5, 110.0) == (told.wait_mean_s, told.longest_wait_s, told.duration_mean_s, told.end_s)


def test_calls_that_came_while_caches_were_filling_do_not_count() -> None:
    told = report([outcome(5.0, 90.0), outcome(10.0, 2.0)], servers=1, from_s=10.0)
    assert (1, 2.0) == (told.calls, told.ttft_mean_s)
    assert 105.0 == told.end_s


def test_the_cached_ratio_is_that_of_tokens_not_of_calls() -> None:
    assert (
        0.9
        == report([outcome(0.0, 1.0, prompt=10, cached=0), outcome(0.0, 1.0, prompt=90, cached=90)], servers=1).cached
    )


def test_imbalance_counts_what_had_to_be_read() -> None:
    one = outcome(0.0, 1.0, server=0, prompt=400, cached=100)
    other = outcome(0.0, 1.0, server=1, prompt=500, cached=400)
    assert 1.5 == report([one, other], servers=2).imbalance
    assert 3.0 == pytest.approx(report([one, other], servers=4).imbalance)


def test_nothing_is_all_zeros() -> None:
    told = report([], servers=3)
    assert (0, 0.0, 0.0, 0.0, 0.0) == (told.calls, told.ttft_mean_s, told.ttft_p99_s, told.cached, told.imbalance)


def test_the_table_has_a_row_for_each_run() -> None:
    lines = table([("ptx", report([outcome(0.0, 1.25)], servers=1)), ("least", report([], servers=1))])
    assert 3 == len(lines)
    assert lines[0].split()[:3] == ["TTFT", "mean", "p50"]
    assert "ptx        1.2 s  1.2  1.2  1.2    50 %      1  0.6 s       1.00  11 s" == lines[1]
