"""The results as a table a load, as JSON and as a picture."""

from pathlib import Path

import msgspec

from benchmarks.replay.rows import Visit
from benchmarks.replay.strand import Size
from benchmarks.visits import Spread

OURS = "llama-router"
# figure, heading, digits after the point
COLUMNS = (
    ("ttft_mean_s", "TTFT mean s", 2),
    ("ttft_p50_s", "p50 s", 2),
    ("ttft_p95_s", "p95 s", 2),
    ("cached", "cached", 2),
    ("turns", "turns", 0),
    ("turn_mean_s", "whole turn s", 2),
    ("waiting", "still waiting", 0),
    ("errors", "errors", 0),
    ("foreseen", "foreseen", 3),
)
PANELS = (("ttft_mean_s", "TTFT mean s", 2), ("ttft_p95_s", "TTFT p95 s", 2), ("turns", "turns in the window", 0))


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One contender under one load."""

    name: str
    users: int
    cache_ram_mib: int
    figures: dict[str, Spread] = {}


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """A contender. `failure`: why there are no figures, or none from the later rounds."""

    name: str
    version: str
    path: str
    on: str
    failure: str = ""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """How the run was made."""

    trace: str
    split: str
    sessions: int
    longest_tokens: int
    seed: int
    rounds: int
    warm_s: float
    window_s: float
    servers: int
    slots: int
    size: Size


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    date: str
    machine: str
    cores: int
    setup: Setup
    fronts: list[Front]
    results: list[Result]
    visits: list[Visit] = []
    """What the figures were computed from."""


def markdown(report: Report) -> str:
    """The report as a person reads it."""
    parts = ["# Where calls go, on real llama-servers", _where(report)]
    for users, ram in loads(report):
        parts.append(_table(report, users, ram))
    parts.append(_fronts(report.fronts))
    failures = [f"- {front.name}: {front.failure}" for front in report.fronts if front.failure]
    if failures:
        parts.append("Did not come up:\n\n" + "\n".join(failures))
    parts.append(_method(report.setup))
    return "\n\n".join(parts) + "\n"


def loads(report: Report) -> list[tuple[int, int]]:
    """Users and MiB of prompt cache of each load, in the order in which they were asked for."""
    return list(dict.fromkeys((result.users, result.cache_ram_mib) for result in report.results))


def picture(report: Report, path: Path) -> bool:
    """Draw a row of panels a load; False when there is nothing to draw, or nothing to draw with."""
    drawn = [load for load in loads(report) if any(result.figures for result in _of(report, *load))]
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra that only pictures need

        mpl.use("Agg")
        from matplotlib import pyplot  # noqa: PLC0415
    except ImportError:
        return False
    if not drawn:
        return False
    figure, axes = pyplot.subplots(
        len(drawn), len(PANELS), figsize=(14, 2.7 * len(drawn) + 0.6), squeeze=False, constrained_layout=True
    )
    for row, (users, ram) in zip(axes, drawn, strict=True):
        for axis, (key, heading, digits) in zip(row, PANELS, strict=True):
            results = [result for result in _of(report, users, ram) if key in result.figures][::-1]
            spreads = [result.figures[key] for result in results]
            reach = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
            colours = ["#c4501b" if result.name.startswith(OURS) else "#8a97a6" for result in results]
            names = [result.name for result in results]
            axis.barh(names, [s.median for s in spreads], xerr=reach, color=colours, ecolor="#333333", capsize=3)
            for place, spread in enumerate(spreads):
                axis.text(spread.high, place, f"  {spread.median:,.{digits}f}", va="center", fontsize=8)
            axis.set_title(f"{heading}: {users} users, {ram} MiB of RAM", fontsize=10)
            axis.tick_params(labelsize=8)
            axis.margins(x=0.2)
            axis.spines[["top", "right"]].set_visible(False)
    setup = report.setup
    figure.suptitle(
        f"{setup.servers} llama-servers x {setup.slots} slots on {report.cores} cores they share, {setup.split} "
        f"sessions, median and reach of {setup.rounds} rounds, {report.date}",
        fontsize=11,
    )
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True


def _of(report: Report, users: int, ram: int) -> list[Result]:
    return [result for result in report.results if (result.users, result.cache_ram_mib) == (users, ram)]


def _where(report: Report) -> str:
    setup = report.setup
    others = [visit.others for visit in report.visits]
    shared = f"; others took up to {max(others):.0%} of the machine" if others else ""
    return (
        f"{report.date}, {report.machine}. {setup.servers} llama-servers of {setup.slots} slots, the router and the "
        f"users **share {report.cores} cores**{shared}. {setup.rounds} rounds, {setup.warm_s:g} s of warm-up and a "
        f"window of {setup.window_s:g} s each, seed {setup.seed}. {setup.sessions} {setup.split} sessions of "
        f"{setup.trace}."
    )


def _table(report: Report, users: int, ram: int) -> str:
    results = _of(report, users, ram)
    ideal = [result.figures["ideal"].median for result in results if "ideal" in result.figures]
    tokens = [result.figures["prompt_tokens"].median for result in results if "prompt_tokens" in result.figures]
    told = f": prompts of {max(tokens):,.0f} tokens, {max(ideal):.2f} of them read before" if tokens else ""
    columns = [column for column in COLUMNS if any(column[0] in result.figures for result in results)]
    lines = [f"## {users} users, {ram} MiB of prompt cache in RAM{told}", ""]
    lines.append("| router | " + " | ".join(heading for _, heading, _ in columns) + " |")
    lines.append("|---|" + "---:|" * len(columns))
    for result in results:
        cells = [_cell(result.figures.get(key), digits) for key, _, digits in columns]
        lines.append(f"| {result.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return ""
    middle, low, high = (f"{value:,.{digits}f}" for value in (spread.median, spread.low, spread.high))
    return middle if low == high else f"{middle} ({low} - {high})"


def _fronts(fronts: list[Front]) -> str:
    lines = ["| router | version | path | what was on |", "|---|---|---|---|"]
    lines += [f"| {front.name} | {front.version} | {front.path} | {front.on} |" for front in fronts]
    return "\n".join(lines)


def _method(setup: Setup) -> str:
    size = setup.size
    return f"""How it was measured:

- Median (lowest - highest of the rounds). Each contender has fresh servers and so cold caches, then a warm-up that
  does not count. Contenders take turns within a round, in an order that turns with the rounds, under the same users
  with the same sessions from the same turns on; each round deals others.
- Sessions are played at 1/{size.scale} of their length and cut off before the first prompt of more than
  {setup.longest_tokens:,} tokens as recorded; pauses count {size.think_s:g} s at most and are divided by {size.scale}
  too. Each user sends its next turn when the last is answered; sub-agents run beside it under the same session id.
  One session in ten has sub-agents: more than occur.
- Text is filler: a word of one token for a token, equal words for equal blocks of the trace. All sessions begin with
  the same tools and most of the system prompt, sub-agents with a shorter head of their own; that this is shared is
  our assumption, as recorded block numbers hold within one session only. Tools stand in the system prompt as text.
  What the model says is thrown away: the next turn has the recorded answer's place filled with words instead.
- TTFT: from sending to the first text delta as the client sees it. A turn counts if it ended well within the window.
  "Still waiting" had no token yet when the window ended: calls that are made to wait do not vanish from the table
  unseen. "Whole turn": to the end of the answer.
- "Cached": tokens taken from a cache by what llama-server says, of all prompt tokens. "Foreseen": share of turns where
  our router foresaw that number within 128 tokens or 3 % of the prompt.
- The servers share the cores with each other and with all else, so that one server's prefill slows the others': the
  figures compare contenders with each other, and say nothing of a fleet of machines.
"""
