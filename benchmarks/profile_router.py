"""Where our router spends its CPU: `python -m benchmarks.profile_router plain|stream|turns|fresh`.

Drives one kind of load at the sampled router (see sampler) and prints the functions and the lines in which the
samples fell, first by themselves, then with all that they called. `--cprofile` counts calls instead.
"""

import argparse
import dataclasses
import pstats
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import contenders, stand
from benchmarks.contenders import Contender
from benchmarks.jobs import Job, Kind
from benchmarks.launch import Place

CALLS = {Kind.PLAIN: 60_000, Kind.STREAM: 1536, Kind.TURNS: 6000, Kind.FRESH: 5000}


def main() -> int:
    """Drive, stop the router by SIGTERM so that it writes what it noted, and print."""
    parser = argparse.ArgumentParser(prog="profile_router")
    parser.add_argument("kind", type=Kind, choices=list(Kind))
    parser.add_argument(
        "--router", default="llama-router", choices=["llama-router", "llama-router-translated", "llama-router-chat"]
    )
    parser.add_argument("--calls", type=int)
    parser.add_argument("--top", type=int, default=40)
    parser.add_argument("--cprofile", action="store_true")
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="profile-") as folder:
        out = Path(folder) / "out"
        _drive(_watched(asked.router, out, cprofile=asked.cprofile), asked.kind, asked.calls)
        if asked.cprofile:
            pstats.Stats(str(out)).sort_stats("tottime").print_stats(asked.top)
        else:
            print(table(out.read_text(), asked.top))
    return 0


def table(noted: str, top: int) -> str:
    """The sampler's stacks as three tables, in percent of all samples of calls (imports at start left out)."""
    functions: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for row in noted.splitlines():
        count, _, joined = row.partition("\t")
        if "importlib" in joined:
            continue
        stack = [tuple(frame.rsplit(":", 2)) for frame in joined.split(";")]
        names = [f"{_short(path)}:{name}" for path, _, name in stack]
        total += int(count)
        functions[names[0]] += int(count)
        lines[f"{_short(stack[0][0])}:{stack[0][1]} {stack[0][2]}"] += int(count)
        whole.update(dict.fromkeys(names, int(count)))
    parts = [f"{total} samples"]
    for name in [name for name, count in whole.items() if count > 0.98 * total]:
        del whole[name]  # what is always on the stack tells nothing
    for title, counts in (("by themselves", functions), ("lines", lines), ("with what they called", whole)):
        parts.append(f"\n{title}:")
        parts += [f"{count / total:6.1%}  {name}" for name, count in counts.most_common(top)]
    return "\n".join(parts)


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


def _watched(name: str, out: Path, *, cprofile: bool) -> Contender:
    """Our router with a watcher in front of its command."""
    ours = contenders.known()[name]
    command = ours.command
    assert command is not None

    def watched(place: Place) -> list[str]:
        python, _, _, *rest = command(place)  # python -m router ...
        if cprofile:
            return [python, "-m", "cProfile", "-o", str(out), "-m", "router", *rest]
        return [python, "-m", "benchmarks.sampler", str(out), *rest]

    return dataclasses.replace(ours, command=watched)


def _drive(contender: Contender, kind: Kind, calls: int | None) -> None:
    cores = stand.Cores()
    streamed = kind is Kind.STREAM
    with (
        stand.generator(cores) as generator,
        stand.mocks(cores) as mocks,
        stand.router(contender, mocks, cores) as (port, pid),
    ):
        job = Job(
            port=port,
            protocol=contender.protocol,
            kind=kind,
            headers=contender.headers,
            extra=contender.extra,
            connections=256 if streamed else 32,
            deltas=200 if streamed else 0,
            calls=calls or CALLS[kind],
            seconds=30,
            warm_calls=96,
            watch=pid,
            core=cores.router,
        )
        window = generator.do(job)
    each = window.cpu_s / max(1, window.calls) * 1e6
    print(f"{window.calls} calls, {each:.0f} us each, faults {window.faults}")


if __name__ == "__main__":
    sys.exit(main())
