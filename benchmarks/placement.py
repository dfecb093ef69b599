"""Which router sends calls where their prompts are warm: `python -m benchmarks.placement --trace FILE`.

Recorded sessions of coding agents are played again, smaller, on four real llama-servers of a tiny model, with our
placement and with others' in front. All of it runs on this machine, whose cores the servers share.
"""

import datetime
import gzip
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks import measure, stand
from benchmarks.contenders import Contender
from benchmarks.replay import fronts, made_up, report, trace
from benchmarks.replay.asked import Asked, parse
from benchmarks.replay.deal import deal
from benchmarks.replay.figures import figures, of_visit
from benchmarks.replay.filler import Filler
from benchmarks.replay.model import words
from benchmarks.replay.report import Front, Report, Result, Setup
from benchmarks.replay.rows import Visit
from benchmarks.replay.strand import Size
from benchmarks.replay.visit import SERVERS, Load, visit
from router.sim.claude_code import Session

MADE_UP = "sessions made up by a generator"

# What it takes to start and stop the servers and a router.
STARTS_S = 5.0

Made = dict[tuple[int, int, str], list[Visit]]
"""By users, MiB of prompt cache and contender."""


def run(asked: Asked) -> Report:
    """Take all contenders through all loads and rounds; one that does not come up is told of and left out.

    Raises:
        ValueError: the trace cannot be read, or nothing in it can be played.

    """
    sessions = _sessions(asked)
    size = Size(scale=asked.scale)
    chosen = _chosen(asked.only)
    filler = Filler(words(), max(1, sessions[0].block_size // size.scale)) if sessions else None
    made: Made = {(users, ram, name): [] for ram in asked.cache_ram for users in asked.users for name in chosen}
    failures: dict[str, str] = {}
    plan = list(_plan(asked, list(chosen), size))
    visit_s = asked.warm + asked.window + STARTS_S
    _tell(f"{len(plan)} visits, about {len(plan) * visit_s / 60:.0f} minutes")
    for load, name in plan:
        key = (load.users, load.cache_ram_mib, name)
        if name in failures:
            continue
        hands = deal(sessions, load.users, asked.seed * 1000 + load.round)
        assert filler is not None  # deal raises when there are no sessions
        try:
            one = visit(name, fronts.known(load.cache_ram_mib)[name], load, hands, filler)
        except stand.StartFailed as failed:
            failures[name] = str(failed).partition("\n")[0]
            _tell(str(failed))
            continue
        made[key].append(one)
        _tell(_line(load, one))
    return _report(_setup(asked, len(sessions), size), chosen, made, failures)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, write; 1 when a router did not come up or answered wrongly, 2 when nothing can be played."""
    asked = parse(arguments)
    try:
        made = run(asked)
    except (ValueError, OSError) as error:
        _tell(str(error))
        return 2
    if asked.out is not None:
        _write(made, asked.out)
    print(report.markdown(made))
    errors = any(result.figures.get("errors") and result.figures["errors"].high for result in made.results)
    return int(errors or any(front.failure for front in made.fronts))


def _write(made: Report, folder: Path) -> None:
    """The rows go into a file of their own: there are some hundred in each visit."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "placement.md").write_text(report.markdown(made))
    rows = msgspec.json.encode(made.visits)
    (folder / "placement-rows.json.gz").write_bytes(gzip.compress(rows, mtime=0))
    figures_ = msgspec.json.encode(msgspec.structs.replace(made, visits=[]))
    (folder / "placement.json").write_bytes(msgspec.json.format(figures_, indent=1))
    if not report.picture(made, folder / "placement.png"):
        _tell("no picture: matplotlib is not installed, or there is nothing to draw")


def _sessions(asked: Asked) -> list[Session]:
    read = trace.read(asked.trace) if asked.trace is not None else made_up.sessions(asked.seed)
    return trace.playable(read, asked.sessions, asked.longest)


def _plan(asked: Asked, names: list[str], size: Size) -> Iterator[tuple[Load, str]]:
    """Every load of a round, every contender in turn; another one first in each round and load."""
    turn = 0
    for number in range(asked.rounds):
        for ram in asked.cache_ram:
            for users in asked.users:
                load = Load(
                    users=users, cache_ram_mib=ram, round=number, warm_s=asked.warm, window_s=asked.window, size=size
                )
                shift = turn % len(names)
                turn += 1
                for name in [*names[shift:], *names[:shift]]:
                    yield load, name


def _chosen(only: Sequence[str]) -> dict[str, Contender]:
    known = fronts.known()
    for name in only:
        if name not in known:
            raise ValueError(f"unknown contender {name}; known are {', '.join(known)}")
    chosen = {}
    for name, contender in known.items():
        if only and name not in only:
            continue
        if contender.version() is None:
            _tell(f"{name} is not installed: left out")
            continue
        chosen[name] = contender
    if not chosen:
        raise ValueError("none of the contenders is installed")
    return chosen


def _setup(asked: Asked, sessions: int, size: Size) -> Setup:
    return Setup(
        trace=asked.trace.name if asked.trace is not None else MADE_UP,
        split=asked.sessions.value,
        sessions=sessions,
        longest_tokens=asked.longest,
        seed=asked.seed,
        rounds=asked.rounds,
        warm_s=asked.warm,
        window_s=asked.window,
        servers=SERVERS,
        slots=fronts.SLOTS,
        size=size,
    )


def _report(setup: Setup, chosen: dict[str, Contender], made: Made, failures: dict[str, str]) -> Report:
    return Report(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=measure.machine(),
        cores=len(measure.cores()),
        setup=setup,
        fronts=[
            Front(
                name=name,
                version=contender.version() or "",
                path=contender.protocol.value,
                on=contender.on,
                failure=failures.get(name, ""),
            )
            for name, contender in chosen.items()
        ],
        results=[
            Result(name=name, users=users, cache_ram_mib=ram, figures=figures(made[users, ram, name]))
            for users, ram, name in made
        ],
        visits=[one for several in made.values() for one in several],
    )


def _line(load: Load, one: Visit) -> str:
    found = of_visit(one)
    figures_ = ", ".join(
        f"{name} {found[name]:.2f}" for name in ("ttft_mean_s", "ttft_p95_s", "cached") if name in found
    )
    return (
        f"round {load.round + 1}, {load.users} users, {load.cache_ram_mib} MiB: {one.name}: {figures_}, "
        f"{found['turns']:.0f} turns, {found['errors']:.0f} errors, others {one.others:.0%}"
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by the way of finally: no process is left behind
    sys.exit(main())
