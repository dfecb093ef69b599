"""One visit is one router, started afresh, taken through all the windows; and what the windows come to."""

import statistics
import time

import msgspec

from benchmarks import measure, stand
from benchmarks.contenders import Contender
from benchmarks.jobs import Job, Kind, Window


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how much."""

    rounds: int = 3
    seconds: float = 2.0
    """Length of the plain window; the low-load one has half of it, the others at most four times."""
    idle_s: float = 2.0
    connections: int = 32
    streams: int = 256
    """Streams at a time, each with an event each 10 ms, so the router has 25,600 events/s."""
    few_deltas: int = 20
    many_deltas: int = 200
    long_calls: int = 512
    """400 KB turns in the window, and half as many bodies never seen."""


QUICK = Plan(rounds=1, seconds=0.3, idle_s=0.2, connections=4, streams=8, few_deltas=4, many_deltas=12, long_calls=8)


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """All windows of one router in one round; those that make no sense without a router are absent."""

    name: str
    round: int
    idle: float
    """CPU seconds per second with no call under way; taken off every window."""
    plain: Window
    lone: Window
    """One connection, one call at a time: the latency row."""
    few: Window | None = None
    many: Window | None = None
    turns: Window | None = None
    fresh: Window | None = None


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over the rounds."""

    median: float
    low: float
    high: float


def visit(contender: Contender, plan: Plan, number: int, generator: stand.Generator, cores: stand.Cores) -> Visit:
    """Take one router through all windows.

    Raises:
        stand.StartFailed: it did not come up.

    """
    with stand.mocks(cores) as mocks, stand.router(contender, mocks, cores) as (port, pid):
        idle = _idle(pid, plan.idle_s)

        def window(kind: Kind, **more: float) -> Window:
            given = {"connections": plan.connections, "calls": 1_000_000, "seconds": plan.seconds * 4, **more}
            common = {"port": port, "protocol": contender.protocol, "kind": kind, "watch": pid}
            dress = {"core": cores.router, "headers": contender.headers, "extra": contender.extra}
            return generator.do(msgspec.convert({**given, **common, **dress}, Job))

        plain = window(Kind.PLAIN, seconds=plan.seconds, warm_calls=plan.connections * 40)
        lone = window(Kind.PLAIN, seconds=plan.seconds / 2, connections=1, warm_calls=50)
        if not pid:
            return Visit(name=contender.name, round=number, idle=idle, plain=plain, lone=lone)
        streams = {"connections": plan.streams, "warm_calls": plan.streams}
        few = window(Kind.STREAM, deltas=plan.few_deltas, calls=plan.streams * 10, **streams)
        streams["warm_calls"] = 0
        many = window(Kind.STREAM, deltas=plan.many_deltas, calls=plan.streams * 2, **streams)
        turns = window(Kind.TURNS, calls=plan.long_calls, warm_calls=plan.connections * 3)
        fresh = window(Kind.FRESH, calls=plan.long_calls // 2, warm_calls=plan.connections)
    return Visit(
        name=contender.name,
        round=number,
        idle=idle,
        plain=plain,
        lone=lone,
        few=few,
        many=many,
        turns=turns,
        fresh=fresh,
    )


def figures(visits: list[Visit], direct: dict[int, Window]) -> dict[str, Spread]:
    """The table's figures of one router from its visits; `direct` has the low-load window of each round."""
    columns: dict[str, list[float]] = {}
    for one in visits:
        for name, value in _values(one, direct.get(one.round)).items():
            columns.setdefault(name, []).append(value)
    return {
        name: Spread(median=statistics.median(values), low=min(values), high=max(values))
        for name, values in columns.items()
    }


def windows(one: Visit) -> list[Window]:
    """Those that took place."""
    all_of_them = (one.plain, one.lone, one.few, one.many, one.turns, one.fresh)
    return [window for window in all_of_them if window is not None]


def _values(one: Visit, direct: Window | None) -> dict[str, float]:
    values = {
        "calls_per_s": one.plain.calls / one.plain.seconds,
        "p50_ms": one.lone.p50_ms,
        "p99_ms": one.lone.p99_ms,
        "errors": float(sum(window.errors for window in windows(one))),
    }
    if one.few is None or one.many is None or one.turns is None or one.fresh is None:
        return values
    values["plain_us"] = _us_per_call(one.plain, one.idle)
    values["turn_us"] = _us_per_call(one.turns, one.idle)
    values["fresh_us"] = _us_per_call(one.fresh, one.idle)
    values["rss_mb"] = one.fresh.rss_bytes / 1e6
    if one.few.deltas and one.many.deltas:
        more = one.many.deltas / one.many.calls - one.few.deltas / one.few.calls
        slope = _us_per_call(one.many, one.idle) - _us_per_call(one.few, one.idle)
        values["event_us"] = slope / more
        values["alone_share"] = one.many.alone / one.many.deltas
    if direct is not None:
        values["added_p50_ms"] = one.lone.p50_ms - direct.p50_ms
        values["added_p99_ms"] = one.lone.p99_ms - direct.p99_ms
    return values


def _us_per_call(window: Window, idle: float) -> float:
    return (window.cpu_s - idle * window.seconds) / max(1, window.calls) * 1e6


def _idle(pid: int, seconds: float) -> float:
    if not pid:
        return 0.0
    before = measure.cpu_s(pid)
    time.sleep(seconds)
    return (measure.cpu_s(pid) - before) / seconds
