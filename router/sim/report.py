"""What a run comes to, in figures."""

import math
from collections.abc import Sequence

import msgspec

from router.sim.run import Outcome


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run in figures: times in seconds, `cached` and `imbalance` as ratios.

    `calls`: answered within the window. `wait_mean_s`: held at the router. `imbalance`: prompt tokens that the busiest
    server had to read over the mean of all; 1 is even. `longest_wait_s`: from arrival to being sent. `end_s`: when the
    last answer was complete. `open`: calls that had come and were not answered when the run ended.
    """

    calls: int
    ttft_mean_s: float
    ttft_p50_s: float
    ttft_p95_s: float
    ttft_p99_s: float
    cached: float
    wait_mean_s: float
    longest_wait_s: float
    duration_mean_s: float
    imbalance: float
    end_s: float
    open: int


def report(outcomes: Sequence[Outcome], *, servers: int, from_s: float = 0.0, still_open: int = 0) -> Report:
    """Sum up the calls that came at `from_s` or later; all figures are 0 when there are none."""
    counted = [one for one in outcomes if one.arrived_s >= from_s]
    ttft_s = sorted(one.ttft_s for one in counted)
    waits_s = [one.sent_s - one.arrived_s for one in counted]
    prompt = sum(one.prompt_tokens for one in counted)
    return Report(
        calls=len(counted),
        ttft_mean_s=_mean(ttft_s),
        ttft_p50_s=_quantile(ttft_s, 0.50),
        ttft_p95_s=_quantile(ttft_s, 0.95),
        ttft_p99_s=_quantile(ttft_s, 0.99),
        cached=sum(one.cached_tokens for one in counted) / prompt if prompt else 0.0,
        wait_mean_s=_mean(waits_s),
        longest_wait_s=max(waits_s, default=0.0),
        duration_mean_s=_mean([one.finished_s - one.arrived_s for one in counted]),
        imbalance=_imbalance(counted, servers),
        end_s=max((one.finished_s for one in outcomes), default=0.0),
        open=still_open,
    )


def table(rows: Sequence[tuple[str, Report]]) -> list[str]:
    """Lines for people: a head, and one row for each named report."""
    head = ("", "TTFT mean", "p50", "p95", "p99", "CACHED", "CALLS", "HELD", "IMBALANCE", "END")
    cells = [head, *(_row(name, one) for name, one in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _row(name: str, one: Report) -> tuple[str, ...]:
    return (
        name,
        f"{one.ttft_mean_s:.1f} s",
        f"{one.ttft_p50_s:.1f}",
        f"{one.ttft_p95_s:.1f}",
        f"{one.ttft_p99_s:.1f}",
        f"{100 * one.cached:.0f} %",
        str(one.calls),
        f"{one.wait_mean_s:.1f} s",
        f"{one.imbalance:.2f}",
        f"{one.end_s:.0f} s",
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest rank: a value that was seen, never one between two."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _imbalance(counted: Sequence[Outcome], servers: int) -> float:
    read = [0] * servers
    for one in counted:
        read[one.server] += one.prompt_tokens - one.cached_tokens
    return max(read) * servers / sum(read) if sum(read) else 0.0
