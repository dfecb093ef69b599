"""What the run asks of the generator, and what it hears back: one JSON line each."""

import enum

import msgspec

from benchmarks.answers import Protocol


class Kind(enum.StrEnum):
    """What the calls of a job are."""

    PLAIN = "plain"
    STREAM = "stream"
    TURNS = "turns"
    FRESH = "fresh"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One measured window, from quiet to quiet: every call begun in it also ends in it."""

    port: int
    protocol: Protocol
    kind: Kind
    headers: dict[str, str] = {}
    extra: dict[str, object] = {}
    """Fields added to each long body."""
    connections: int = 32
    calls: int
    """No more than these are begun."""
    seconds: float
    """None is begun after these."""
    warm_calls: int = 0
    """Made before the window and not counted; faults in them are."""
    deltas: int = 0
    """Text deltas in each streamed answer."""
    watch: int = 0
    """The process whose tree's CPU is measured, 0 for none."""
    core: int = 0
    """The core on which that tree runs, to see who else uses it."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a job."""

    calls: int
    seconds: float
    cpu_s: float
    others_s: float
    """The time that the router's core gave to anyone but the router."""
    p50_ms: float
    p99_ms: float
    deltas: int
    alone: int
    """Deltas that reached the generator in a read of their own; a lower bound for the router's reads."""
    errors: int
    faults: dict[str, int]
    rss_bytes: int
