"""Our policies beside the peers' rules, on the same simulated fleets and the same calls: one table for each case.

`python -m benchmarks.rules.compare --claude-code FILE --mooncake FILE`. Ratios are to the best peer's mean TTFT: above
1, ours is quicker.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

import msgspec

from benchmarks.rules.names import RULES
from benchmarks.rules.rule import BindFront
from router.balance.policy import Policy
from router.cli.simulate import CLOSED_LOOP_S, WARM_UP_S, read_lines
from router.sim import claude_code, mooncake
from router.sim.dice import Dice
from router.sim.front import DeskFront, Front
from router.sim.report import Report, report
from router.sim.run import Run
from router.sim.shape import Shape
from router.sim.talk import Talks

PEERS = tuple(RULES)
POLICIES: tuple[Policy, ...] = get_args(Policy)
MIXED = (1.0, 1.0, 1.0, 1.0, 0.6, 0.6, 0.35, 0.35)
CONVERSATION_S, CONVERSATION_LOAD = 5400.0, 0.3


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet and a load. `users` None: Mooncake's conversations."""

    shape: Shape
    users: int | None = None


def _eight(**more: object) -> Shape:
    return msgspec.convert({"instances": 8, **more}, Shape)


CASES: Mapping[str, Case] = {
    "16 users": Case(shape=_eight(), users=16),
    "32 users": Case(shape=_eight(), users=32),
    "48 users": Case(shape=_eight(), users=48),
    "mixed": Case(shape=_eight(factors=MIXED), users=32),
    "unified": Case(shape=_eight(unified=True), users=16),
    "large RAM": Case(shape=_eight(ram_tokens=700_000), users=32),
    "conversations": Case(shape=_eight()),
}


class Traces(msgspec.Struct, frozen=True):
    """What was read of the files; empty where none was given."""

    sessions: list[claude_code.Session]
    requests: list[mooncake.Line]


def one(case: Case, name: str, seed: int, traces: Traces) -> Report:
    """One run of one policy or rule."""
    dice = Dice(seed)
    load: Talks
    if case.users is not None:
        load, until_s, from_s = claude_code.users(traces.sessions, case.users, dice), CLOSED_LOOP_S, WARM_UP_S
    else:
        load, until_s, from_s = mooncake.arrivals(traces.requests, CONVERSATION_LOAD, CONVERSATION_S, dice), None, 0.0
    servers = case.shape.servers()
    front: Front
    ours = next((policy for policy in POLICIES if policy == name), None)
    if ours is not None:
        front = DeskFront(ours, case.shape.setups())
    else:
        front = BindFront(RULES[name](Dice(seed + 1000)), servers)
    run = Run(load, front, servers, until_s=until_s)
    outcomes = run.play()
    return report(outcomes, servers=len(servers), from_s=from_s, still_open=run.open)


def table(title: str, results: Mapping[str, Sequence[Report]]) -> list[str]:
    """Means over the seeds, and each seed's mean TTFT; for our policies the ratio to the best peer's mean."""
    peers = [_mean(reports, "ttft_mean_s") for name, reports in results.items() if name in PEERS]
    lines = [f"{title:14} mean    p50    p95    p99  cached  calls  longest  best peer / it   by seed"]
    for name, reports in results.items():
        mean = _mean(reports, "ttft_mean_s")
        ratio = f"{min(peers) / mean:14.2f}" if peers and mean and name not in PEERS else " " * 14
        lines.append(
            f"{name:12} {mean:6.1f} {_mean(reports, 'ttft_p50_s'):6.1f} {_mean(reports, 'ttft_p95_s'):6.1f}"
            f" {_mean(reports, 'ttft_p99_s'):6.1f} {_mean(reports, 'cached'):7.2f} {_mean(reports, 'calls'):6.0f}"
            f" {_mean(reports, 'longest_wait_s'):8.1f}  {ratio}   "
            + " ".join(f"{it.ttft_mean_s:.1f}" for it in reports)
        )
    return lines


def _mean(reports: Sequence[Report], field: str) -> float:
    return sum(float(getattr(it, field)) for it in reports) / len(reports)


def _listed(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"no {unknown[0]!r}; there are {', '.join(known)}")
        return chosen

    return names


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = (*POLICIES, *PEERS)
    parser.add_argument("--claude-code", type=Path, metavar="FILE")
    parser.add_argument("--mooncake", type=Path, metavar="FILE")
    parser.add_argument("--cases", type=_listed(tuple(CASES)), default=list(CASES), metavar="A,B,...")
    parser.add_argument("--names", type=_listed(names), default=list(names), metavar="A,B,...")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--part", default="1/1", help="every Nth session, from the Kth on: K/N")
    arguments = parser.parse_args(argv)
    first, every = (int(part) for part in arguments.part.split("/"))
    traces = Traces(
        claude_code.read(read_lines(arguments.claude_code))[first - 1 :: every] if arguments.claude_code else [],
        mooncake.read(read_lines(arguments.mooncake)) if arguments.mooncake else [],
    )
    for title in arguments.cases:
        case = CASES[title]
        if traces.sessions if case.users is not None else traces.requests:
            results = {name: [one(case, name, seed, traces) for seed in arguments.seeds] for name in arguments.names}
            print("\n".join(table(title, results)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
