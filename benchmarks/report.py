"""The results as a table, as JSON and as a picture."""

from pathlib import Path

import msgspec

from benchmarks.visits import Plan, Spread, Visit

OURS = "llama-router"
# figure, heading, digits after the point
COLUMNS = (
    ("plain_us", "CPU us / plain call", 0),
    ("event_us", "CPU us / streamed event", 1),
    ("turn_us", "CPU us / 400 KB turn", 0),
    ("fresh_us", "CPU us / 400 KB unseen", 0),
    ("calls_per_s", "calls/s", 0),
    ("added_p50_ms", "added p50 ms", 2),
    ("added_p99_ms", "added p99 ms", 2),
    ("rss_mb", "RSS MB", 0),
    ("alone_share", "events alone", 2),
    ("errors", "errors", 0),
)
PANELS = COLUMNS[:4]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One router in the report."""

    name: str
    version: str
    path: str
    on: str
    figures: dict[str, Spread]
    failure: str = ""
    """Why there are no figures, or none from the later rounds."""
    faults: dict[str, int] = {}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    date: str
    machine: str
    python: str
    plan: Plan
    pinned: bool
    others: float
    """Share of the router's core that went to anything but the router, median over the windows."""
    rows: list[Row]
    visits: list[Visit] = []
    """What the figures were computed from."""


def markdown(report: Report) -> str:
    """The report as a person reads it."""
    parts = ["# What a router costs", _where(report), _table(report.rows), _contenders(report.rows)]
    failures = [f"- {row.name}: {row.failure.strip()}" for row in report.rows if row.failure]
    failures += [f"- {row.name}: {row.faults}" for row in report.rows if row.faults]
    if failures:
        parts.append("Faults:\n\n" + "\n".join(failures))
    parts.append(_method(report.plan))
    return "\n\n".join(parts) + "\n"


def picture(report: Report, path: Path) -> bool:
    """Draw the CPU figures as bars; False when there is nothing to draw with."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra that only this needs

        mpl.use("Agg")
        from matplotlib import pyplot  # noqa: PLC0415
    except ImportError:
        return False
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    for axis, (key, heading, digits) in zip(axes.flat, PANELS, strict=True):
        rows = [row for row in report.rows if key in row.figures][::-1]
        spreads = [row.figures[key] for row in rows]
        medians = [spread.median for spread in spreads]
        reach = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
        colours = ["#c4501b" if row.name.startswith(OURS) else "#8a97a6" for row in rows]
        axis.barh([row.name for row in rows], medians, xerr=reach, color=colours, ecolor="#333333", capsize=3)
        for place, spread in enumerate(spreads):
            axis.text(spread.high, place, f"  {spread.median:,.{digits}f}", va="center", fontsize=9)
        axis.set_title(heading, fontsize=11)
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"CPU of the router's processes (median, lines: all rounds), {report.date}", fontsize=12)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return True


def _where(report: Report) -> str:
    pinned = "one core for the router, another for the rest" if report.pinned else "not pinned, one core"
    return (
        f"{report.date}, {report.machine}, Python {report.python}. {report.plan.rounds} rounds, {pinned}; others "
        f"took {report.others:.0%} of the router's core (median of the windows)."
    )


def _table(rows: list[Row]) -> str:
    lines = ["| router | " + " | ".join(heading for _, heading, _ in COLUMNS) + " |"]
    lines.append("|---|" + "---:|" * len(COLUMNS))
    for row in rows:
        cells = [_cell(row.figures.get(key), digits) for key, _, digits in COLUMNS]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "Median (lowest - highest of the rounds):\n\n" + "\n".join(lines)


def _cell(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return ""
    middle, low, high = (f"{value:,.{digits}f}" for value in (spread.median, spread.low, spread.high))
    return middle if low == high else f"{middle} ({low} - {high})"


def _contenders(rows: list[Row]) -> str:
    lines = ["| router | version | path | what was on |", "|---|---|---|---|"]
    lines += [f"| {row.name} | {row.version} | {row.path} | {row.on} |" for row in rows]
    return "\n".join(lines)


def _method(plan: Plan) -> str:
    return f"""How it was measured:

- CPU is user and system time of the router's process tree by the kernel's clock of each process, less what the
  tree uses when idle. Each window goes from quiet to quiet: no call is counted in part.
- Plain calls: {plan.connections} keep-alive connections, closed loop, two mock instances with llama-server's
  habits (a connection closes after 100 requests or 5 s of idleness). calls/s is bounded by the router's one
  core, or by the generator and the mocks on theirs: the direct row is that bound.
- Streamed events: {plan.streams} streams at a time, one event each 10 ms in each, at ticks 2 ms apart, so that
  every event is a write and a packet of its own. The cost is a slope: CPU of a call with {plan.many_deltas} text
  deltas, less that of a call with {plan.few_deltas}, by the difference. An event has 224 bytes in both protocols.
  "Events alone" is the share that reached the generator in a read of its own.
- 400 KB turns: the body before plus one tool call and its result, two conversations for each connection, about
  125 turns of history. Unseen: every text in the body is new.
- Added latency: one connection, one plain call at a time, less the same on the mock directly.
- Every answer is checked: status, text, and the number and order of the deltas. RSS is that of the tree at the
  end of all windows.
"""
