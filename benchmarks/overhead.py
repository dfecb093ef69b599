"""What a router costs, ours beside its peers: `python -m benchmarks.overhead`.

The routers take turns within each round and the order turns with the rounds, so that a busy minute of the
machine does not fall on one of them alone.
"""

import argparse
import datetime
import platform
import signal
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks import contenders, measure, report, stand, visits
from benchmarks.contenders import Contender
from benchmarks.jobs import Window
from benchmarks.report import Report, Row
from benchmarks.visits import QUICK, Plan, Visit

RESULTS = Path(__file__).parent / "results"
DIRECT = "direct"


def run(chosen: Sequence[Contender], plan: Plan) -> Report:
    """Take all of them through all rounds; one that does not come up is told of and left out."""
    cores = stand.Cores()
    made: dict[str, list[Visit]] = {contender.name: [] for contender in chosen}
    failures: dict[str, str] = {}
    with stand.generator(cores) as generator:
        for number in range(plan.rounds):
            for contender in _order(chosen, number):
                if contender.name in failures:
                    continue
                _tell(f"round {number + 1} of {plan.rounds}: {contender.name}")
                try:
                    made[contender.name].append(visits.visit(contender, plan, number, generator, cores))
                except stand.StartFailed as failed:
                    failures[contender.name] = str(failed).partition("\n")[0]
                    _tell(str(failed))
    direct = {one.round: one.lone for one in made.get(DIRECT, [])}
    everything = [window for several in made.values() for one in several for window in visits.windows(one)]
    return Report(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=measure.machine(),
        python=platform.python_version(),
        plan=plan,
        pinned=not cores.shared,
        others=statistics.median([one.others_s / one.seconds for one in everything] or [0.0]),
        visits=[one for several in made.values() for one in several],
        rows=[_row(each, made[each.name], failures.get(each.name, ""), direct) for each in chosen],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, write; 1 when any router failed to start or answered wrongly."""
    asked = _parser().parse_args(arguments)
    if not Path("/proc/self/stat").exists():
        _tell("the benchmark reads CPU time from Linux's /proc; there is none here")
        return 2
    plan = QUICK if asked.quick else Plan()
    changes = {name: value for name in ("rounds", "seconds") if (value := getattr(asked, name)) is not None}
    plan = msgspec.structs.replace(plan, **changes)
    made = run(_chosen(asked.only, asked.add), plan)
    print(report.markdown(made))
    paths = [asked.json] if asked.json else []
    if not asked.quick and not asked.only and not any(row.failure for row in made.rows):  # the record is whole
        paths.append(RESULTS / "overhead.json")
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "overhead.md").write_text(report.markdown(made))
        if not report.picture(made, RESULTS / "overhead.png"):
            _tell("no picture: matplotlib is not installed")
    for path in paths:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1))
    return int(any(row.failure or row.faults for row in made.rows))


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(contenders.known())
    parser = argparse.ArgumentParser(prog="overhead", description=f"Known routers: {names}.")
    parser.add_argument("--rounds", type=int, help="rounds over all routers (3)")
    parser.add_argument("--seconds", type=float, help="length of the plain window (2)")
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean nothing")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these; writes no results")
    parser.add_argument("--with", nargs="+", default=[], metavar="NAME", dest="add", help="these as well")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser


def _chosen(only: Sequence[str], add: Sequence[str]) -> list[Contender]:
    """Those asked for that are installed; the direct row always, as latencies are told against it."""
    known = contenders.known()
    for name in [*only, *add]:
        if name not in known:
            sys.exit(f"unknown router {name}; known are {', '.join(known)}")
    chosen = []
    for name, contender in known.items():
        if name != DIRECT and name not in add and not (name in only if only else contender.default):
            continue
        if contender.version() is None:
            _tell(f"{name} is not installed: left out")
            continue
        chosen.append(contender)
    return chosen


def _order(chosen: Sequence[Contender], number: int) -> list[Contender]:
    """Another router first in each round."""
    shift = number % len(chosen)
    return [*chosen[shift:], *chosen[:shift]]


def _row(contender: Contender, several: list[Visit], failure: str, direct: dict[int, Window]) -> Row:
    faults: Counter[str] = Counter()
    for one in several:
        for window in visits.windows(one):
            faults.update(window.faults)
    return Row(
        name=contender.name,
        version=contender.version() or "",
        path=contender.protocol.value,
        on=contender.on,
        figures=visits.figures(several, direct),
        failure=failure,
        faults=dict(faults),
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by the way of finally: no router is left behind
    sys.exit(main())
