"""What the rows come to: a visit's figures, and their middle and spread over the rounds."""

import statistics
from collections.abc import Sequence

from benchmarks.replay.rows import Row, Visit, counted, failed, waiting
from benchmarks.visits import Spread

# A mirror of caches is right within so many tokens, or within this share of the prompt where that is more.
NEAR_TOKENS = 128
NEAR_SHARE = 0.03


def figures(visits: Sequence[Visit]) -> dict[str, Spread]:
    """Return each figure of one contender under one load, over its rounds; those that nothing tells of are absent."""
    columns: dict[str, list[float]] = {}
    for one in visits:
        for name, value in of_visit(one).items():
            columns.setdefault(name, []).append(value)
    return {
        name: Spread(median=statistics.median(values), low=min(values), high=max(values))
        for name, values in columns.items()
    }


def of_visit(visit: Visit) -> dict[str, float]:
    """Return one visit's figures. Shares are from 0 to 1."""
    rows = counted(visit)
    stuck = waiting(visit)
    found = {
        "turns": float(len(rows)),
        "agent_turns": float(sum(bool(row.agent) for row in rows)),
        "errors": float(len(failed(visit))),
        "waiting": float(len(stuck)),
        "longest_wait_s": max((row.total_s for row in stuck), default=0.0),
        "others": visit.others,
    }
    ttfts = [row.ttft_s for row in rows if row.ttft_s is not None]
    if ttfts:
        found["ttft_mean_s"] = statistics.fmean(ttfts)
        found["ttft_p50_s"] = percentile(ttfts, 0.50)
        found["ttft_p95_s"] = percentile(ttfts, 0.95)
        found["turn_mean_s"] = statistics.fmean(row.total_s for row in rows)
    return found | _caching(rows) | _foresight(rows)


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def near(row: Row) -> bool | None:
    """Whether the cached tokens were foreseen; None where nothing was, or nothing was told."""
    if row.foreseen_tokens is None or row.cached_tokens is None or row.prompt_tokens is None:
        return None
    return abs(row.foreseen_tokens - row.cached_tokens) <= max(NEAR_TOKENS, NEAR_SHARE * row.prompt_tokens)


def _caching(rows: Sequence[Row]) -> dict[str, float]:
    prompt = sum(row.prompt_tokens or 0 for row in rows if row.cached_tokens is not None)
    words = sum(row.words for row in rows)
    if not prompt or not words:
        return {}
    return {
        "prompt_tokens": prompt / len(rows),
        "cached": sum(row.cached_tokens or 0 for row in rows) / prompt,
        "ideal": sum(row.known_words for row in rows) / words,
    }


def _foresight(rows: Sequence[Row]) -> dict[str, float]:
    verdicts = [verdict for row in rows if (verdict := near(row)) is not None]
    return {"foreseen": statistics.fmean(verdicts)} if verdicts else {}
