"""The load generator: `python -m benchmarks.load` reads a Job a line and answers a Window a line."""

import asyncio
import sys
from collections.abc import Iterator
from itertools import cycle

import msgspec
import uvloop

from benchmarks import bodies, measure
from benchmarks.jobs import Job, Kind, Window
from benchmarks.lanes import PATIENCE_S, Feed, Lane, Run

CONVERSATIONS_PER_LANE = 2
TEMPLATES = 4

_templates: dict[bytes, list[bodies.Template]] = {}


async def perform(job: Job) -> Window:
    """Warm up, measure a window from quiet to quiet, and hang up."""
    feed = _feed(job)
    lanes = [Lane(number, job) for number in range(job.connections)]
    warm = Run(job, feed, job.warm_calls, PATIENCE_S)
    if job.warm_calls:
        await warm.drive(lanes)
    run = Run(job, feed, job.calls, job.seconds)
    cpu, busy = measure.cpu_s(job.watch), measure.core_busy_s(job.core)
    seconds = await run.drive(lanes)
    cpu, busy = measure.cpu_s(job.watch) - cpu, measure.core_busy_s(job.core) - busy
    for lane in lanes:
        lane.close()
    faults = warm.faults + run.faults
    return Window(
        calls=len(run.latencies),
        seconds=seconds,
        cpu_s=cpu if job.watch else 0.0,
        others_s=max(0.0, busy - cpu),
        p50_ms=_percentile(run.latencies, 0.50) * 1000,
        p99_ms=_percentile(run.latencies, 0.99) * 1000,
        deltas=len(run.latencies) * job.deltas,
        alone=run.alone,
        errors=faults.total(),
        faults=dict(faults),
        rss_bytes=measure.rss_bytes(job.watch) if job.watch else 0,
    )


def _feed(job: Job) -> Feed:
    """The requests of a job, one call per request, by lane."""
    head = _head(job)
    if job.kind in (Kind.PLAIN, Kind.STREAM):
        whole = _whole(head, b"", [bodies.small(job.deltas, job.extra)])
        return lambda _lane: whole
    templates = _long_templates(job)
    if job.kind is Kind.FRESH:
        supply = bodies.fresh(templates)
        return lambda _lane: _whole(head, b"", [next(supply)])
    talks = [_talks(templates, lane) for lane in range(job.connections)]

    def turn(lane: int) -> bytes:
        talk = next(talks[lane])
        return _whole(head, b"X-Claude-Code-Session-Id: %s\r\n" % talk.stamp, talk.next())

    return turn


def _talks(templates: list[bodies.Template], lane: int) -> Iterator[bodies.Conversation]:
    """The conversations of one lane in turn; a lane waits for each answer, so none overtakes itself."""
    numbers = range(lane * CONVERSATIONS_PER_LANE, (lane + 1) * CONVERSATIONS_PER_LANE)
    return cycle([bodies.Conversation(templates[n % len(templates)], bodies.stamp_of(n)) for n in numbers])


def _long_templates(job: Job) -> list[bodies.Template]:
    """Made once for a protocol: a few tenths of a second."""
    key = msgspec.json.encode((job.protocol, job.extra))
    if key not in _templates:
        made = [bodies.Template(job.protocol, seed, job.extra) for seed in range(TEMPLATES)]
        _templates[key] = made
    return _templates[key]


def _head(job: Job) -> bytes:
    lines = [f"POST {job.protocol.value} HTTP/1.1", f"Host: 127.0.0.1:{job.port}"]
    lines += ["Content-Type: application/json", "User-Agent: overhead-benchmark"]
    lines += [f"{name}: {value}" for name, value in job.headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n"


def _whole(head: bytes, more: bytes, pieces: list[bytes]) -> bytes:
    length = b"Content-Length: %d\r\n\r\n" % sum(map(len, pieces))
    return b"".join([head, more, length, *pieces])


def _percentile(values: list[float], share: float) -> float:
    """By nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def main() -> None:
    """Answer job lines until stdin ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            window = runner.run(perform(msgspec.json.decode(line, type=Job)))
            print(msgspec.json.encode(window).decode(), flush=True)


if __name__ == "__main__":
    main()
