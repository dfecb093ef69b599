"""What the command line asks for."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.replay import fronts
from benchmarks.replay.trace import Split


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Seconds are real ones; tokens are as recorded."""

    trace: Path | None = None
    """None: sessions made up."""
    sessions: Split = Split.ALL
    longest: int = 72_000
    users: tuple[int, ...] = (6, 10, 16)
    cache_ram: tuple[int, ...] = (0, 8)
    rounds: int = 3
    warm: float = 12.0
    window: float = 40.0
    scale: int = 8
    seed: int = 1
    only: tuple[str, ...] = ()
    """Empty: all contenders."""
    out: Path | None = None


def parse(arguments: Sequence[str] | None = None) -> Asked:
    """Read the command line; ends the program where it is wrong, as argparse does."""
    usual = Asked()
    parser = argparse.ArgumentParser(prog="placement", description=f"Contenders: {', '.join(fronts.known())}.")
    add = parser.add_argument
    add("--trace", type=Path, help="sessions as JSON lines, also compressed; without it some are made up")
    add("--sessions", type=Split, choices=list(Split), help="which ones, by a hash of their ids (all)")
    add("--longest", type=_above_zero, metavar="TOKENS", help=f"where sessions are cut off ({usual.longest})")
    add("--users", type=_above_zero, nargs="+", metavar="N", help="users at a time (6 10 16)")
    add("--cache-ram", type=int, nargs="+", metavar="MIB", help="each server's prompt cache in RAM (0 8)")
    add("--rounds", type=_above_zero, help=f"rounds over all ({usual.rounds})")
    add("--warm", type=float, metavar="S", help=f"seconds that are not counted ({usual.warm:g})")
    add("--window", type=float, metavar="S", help=f"seconds that are ({usual.window:g})")
    add("--scale", type=_above_zero, help=f"how much smaller than life ({usual.scale})")
    add("--seed", type=int, help=f"which sessions come when ({usual.seed})")
    add("--only", nargs="+", metavar="NAME", help="these contenders")
    add("--out", type=Path, metavar="FOLDER", help="write table, rows and picture there")
    said = vars(parser.parse_args(arguments)).items()
    changes = {name: tuple(value) if isinstance(value, list) else value for name, value in said if value is not None}
    return msgspec.structs.replace(usual, **changes)


def _above_zero(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number
