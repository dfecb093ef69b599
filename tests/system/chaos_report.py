"""What a chaos run has seen, as figures; and what of it may not be."""

from collections import Counter
from collections.abc import Iterator

import msgspec

SHOWN = 12
"""So many examples of each kind of trouble are kept and printed."""


RENAMED = "-renamed"
"""What an instance has at the end of its id while it has another one."""
HARMLESS = {"drain", "resume", "rename", "remove", "move", "slow"}
"""None of these may cut a stream."""


class Window(msgspec.Struct, frozen=True):
    """One trouble of one instance, from its first moment until the instance was well again; seconds of the run."""

    instance: str
    trouble: str
    start_s: float
    end_s: float


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A call that ended with an error. `instance`: who had begun to answer; empty when nothing of it was shown."""

    pool: str
    instance: str
    kind: str
    start_s: float
    end_s: float
    request_id: str


class Report:
    """Mutable while the run goes on. Times are seconds since the load began."""

    def __init__(self, *, seed: int, seconds: float) -> None:
        self.seed, self.seconds = seed, seconds
        self.calls = self.ok = self.disconnects = self.counted = self.slow = 0
        self.refused: Counter[str] = Counter()  # by status and type
        self.in_band: Counter[str] = Counter()  # after message_start, by type
        self.in_band_early: Counter[str] = Counter()  # an error event in a stream that had only pings
        self.failures: list[Failure] = []  # all that failed before commit
        self.unexcused: list[str] = []  # those of them while somebody could have served
        self.cut: list[Failure] = []  # all that failed after it
        self.cut_well: list[str] = []  # those of them at instances that were well
        self.lost: list[str] = []
        self.doubled: list[str] = []
        self.late: list[str] = []
        self.silent: list[str] = []
        self.illegal: list[str] = []
        self.wrong: list[str] = []  # another call's answer, or another model's
        self.overbooked: list[str] = []  # more leases than slots
        self.deferred: list[str] = []  # a llama-server had to queue a call itself
        self.operator: list[str] = []  # a reload, drain or resume that did not do what it says
        self.leaked: list[str] = []
        self.faults: list[str] = []  # in the router's own log
        self.actions: Counter[str] = Counter()
        self.windows: list[Window] = []
        self.failed_over = 0
        self.causes: Counter[str] = Counter()  # of failed attempts that were made good, or not
        self.ejections: Counter[str] = Counter()  # by what was seen
        self.longest = (0.0, "none")  # call
        self.longest_silence_s = 0.0
        self.lag_s = 0.0  # how late the callers' own event loop was, at most
        self.files = (0, 0)  # open files of the router: before, after
        self.tasks = (0, 0)
        self.rss_mib = (0.0, 0.0)
        self.states: dict[str, str] = {}  # of the instances at the end

    # ------------------------------------------------------------ judging

    @property
    def in_band_share(self) -> float:
        return sum(self.in_band.values()) / max(1, self.calls)

    def excuse(self, pools: dict[str, list[str]], slack_s: float, records: dict[str, str]) -> None:
        """Sort the failures. Before commit those that met a moment without any sound instance are excused; after it
        those at an instance in a trouble that can cut streams.

        `slack_s`: how long after a trouble an instance may take to be found well again. `records`: what the router's
        log says of each, by request id.
        """
        for failure in self.failures:
            out = [
                [(it.start_s, it.end_s + slack_s) for it in self.windows if it.instance == name]
                for name in pools[failure.pool]
            ]
            told = _told(failure, records)
            if not _all_out_at_once(out, failure.start_s, failure.end_s) and not _said_by_two(told):
                self.unexcused.append(f"{failure.pool} {told}")
        for failure in self.cut:
            name = failure.instance.removesuffix(RENAMED)
            own = [it for it in self.windows if it.instance == name and it.trouble not in HARMLESS]
            if not any(it.start_s <= failure.end_s and failure.start_s <= it.end_s + slack_s for it in own):
                self.cut_well.append(f"{failure.instance} {_told(failure, records)}")

    def violations(self) -> list[str]:
        """Every rule that was broken, a line each; empty for a good run."""
        lists = {
            "lost": self.lost,
            "doubled": self.doubled,
            "past its deadline": self.late,
            "silent for too long": self.silent,
            "illegal": self.illegal,
            "wrong answer": self.wrong,
            "failed before commit while somebody could serve": self.unexcused,
            "cut at an instance that was well": self.cut_well,
            "overbooked": self.overbooked,
            "deferred inside a llama-server": self.deferred,
            "operator": self.operator,
            "leaked": self.leaked,
            "the router's log": self.faults,
        }
        found = [f"{name}: {len(some)}, such as {some[0]}" for name, some in lists.items() if some]
        if self.in_band_share > 0.01:
            found.append(f"in-band errors: {self.in_band_share:.2%} of the calls")
        if not self.ok:
            found.append("not one call went well")
        return found

    # ------------------------------------------------------------ printing

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"chaos: seed {self.seed}, {self.seconds:g} s of load"
        a_second = self.calls / self.seconds
        yield f"  calls            {self.calls} ({a_second:.0f} a second), {self.counted} of them counts"
        yield f"  ok               {self.ok}"
        yield f"  refused          {_counts(self.refused)}"
        yield f"  in-band errors   {_counts(self.in_band)}, {self.in_band_share:.2%} of the calls; " + (
            f"{len(self.cut_well)} at instances that were well"
        )
        yield f"  before commit    {_counts(self.in_band_early)} in streams that had only pings"
        yield f"  unexcused        {len(self.unexcused)} of {len(self.failures)} failures before commit"
        yield f"  failed over      {self.failed_over} calls; failed attempts by cause: {_counts(self.causes)}"
        yield f"  ejected          {_counts(self.ejections)}"
        yield f"  disconnects      {self.disconnects}; slow readers: {self.slow}"
        yield f"  lost, doubled    {len(self.lost)}, {len(self.doubled)}"
        yield f"  past deadline    {len(self.late)}; the longest call took {self.longest[0]:.1f} s: {self.longest[1]}"
        yield f"  silent           {len(self.silent)}; the longest silence was {self.longest_silence_s:.1f} s; " + (
            f"the callers themselves were {self.lag_s:.1f} s late at most"
        )
        yield f"  illegal, wrong   {len(self.illegal)}, {len(self.wrong)}"
        yield f"  overbooked       {len(self.overbooked)}; deferred inside: {len(self.deferred)}"
        yield f"  leaked           {len(self.leaked)}; open files {self.files[0]} -> {self.files[1]}, " + (
            f"tasks {self.tasks[0]} -> {self.tasks[1]}, memory {self.rss_mib[0]:.0f} -> {self.rss_mib[1]:.0f} MiB"
        )
        yield f"  actions          {_counts(self.actions)}"
        yield f"  at the end       {', '.join(f'{id_} {state}' for id_, state in self.states.items())}"
        broken = self.violations()
        yield f"  verdict          {'good' if not broken else 'NOT GOOD'}"
        yield from (f"    {line}" for line in broken)
        yield from self._examples()

    def _examples(self) -> Iterator[str]:
        for name in (
            "lost", "doubled", "late", "silent", "illegal", "wrong", "unexcused", "cut_well", "overbooked", "deferred",
            "operator", "leaked", "faults",
        ):  # fmt: skip
            some: list[str] = getattr(self, name)
            for line in some[:SHOWN]:
                yield f"  {name}: {line}"
            if len(some) > SHOWN:
                yield f"  {name}: and {len(some) - SHOWN} more"


def _told(failure: Failure, records: dict[str, str]) -> str:
    when = f"{failure.start_s:.1f}..{failure.end_s:.1f} s"
    return f"{failure.kind} {when} {records.get(failure.request_id, failure.request_id)}"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "none"


def _all_out_at_once(windows: list[list[tuple[float, float]]], start_s: float, end_s: float) -> bool:
    """Whether somewhere between the two times every instance was inside one of its windows."""
    # Only where a window begins can the last instance go out.
    moments = [start_s, *(begin for some in windows for begin, _ in some if start_s <= begin <= end_s)]
    return any(all(any(begin <= at <= end for begin, end in some) for some in windows) for at in moments)


def _said_by_two(told: str) -> bool:
    """Two instances have answered 500 to one call: that is taken for the call's own doing, and told, by design."""
    return '"cause":"upstream_answered"' in told and '"causes":["upstream_answered"]' in told
