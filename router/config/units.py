"""Durations, sizes and rates as people write them: `20s`, `32MiB`, `600/min`.

Every reader raises ValueError with a sentence that says what to write. A bare number is refused on
purpose: whether `5` means seconds or milliseconds is not for the reader to guess. Each writer gives text
that its reader reads back to the same value.
"""

import re

import msgspec

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_PERIODS = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
_LONGEST_S = 366 * 86400.0  # more is a slip of the unit, and event loops refuse timers much longer
_LARGEST_BYTES = 2**50

_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,9})?"
DURATION_PATTERN = rf"^{_NUMBER} ?(ms|s|m|h|d)$"
SIZE_PATTERN = rf"^{_NUMBER} ?(B|kB|KB|MB|GB|KiB|MiB|GiB)$"
RATE_PATTERN = r"^[0-9]{1,15} ?/ ?(s|sec|second|min|minute|h|hour|d|day)$"
_AMOUNT = re.compile(r"(?P<sign>[+-]?)(?P<number>[0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+) ?(?P<unit>[A-Za-z]*)")


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """So many in each period: `600/min` is 600 in 60 s, which allows a burst that 10/s does not."""

    count: int
    period_s: float


def read_duration(text: str) -> float:
    """Read `500ms`, `20s`, `1.5m`, `1h` or `2d` as seconds; zero is read, a year and more is not."""
    seconds = _amount(text, DURATION_PATTERN, _SECONDS, kind="duration", example="20s")
    if seconds > _LONGEST_S:
        raise ValueError("is longer than a year; check the unit (ms, s, m, h, d)")
    return seconds


def duration_text(seconds: float) -> str:
    """Write seconds in the largest unit that leaves a whole number, or else in decimals of a second."""
    for unit, size in sorted(_SECONDS.items(), key=lambda item: -item[1]):
        count = round(seconds / size)
        if count and count * size == seconds:
            return f"{count}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def read_size(text: str) -> int:
    """Read `32MiB`, `64KiB` or `10MB` (powers of ten) as bytes, rounded to a whole one."""
    size = _amount(text, SIZE_PATTERN, _BYTES, kind="size", example="32MiB")
    if size > _LARGEST_BYTES:
        raise ValueError("is larger than any memory; check the unit (B, KiB, MiB, GiB, kB, MB, GB)")
    return round(size)


def size_text(size_bytes: int) -> str:
    """Write bytes in the largest unit that leaves a whole number."""
    for unit, size in sorted(_BYTES.items(), key=lambda item: -item[1]):
        if size_bytes and size_bytes % size == 0:
            return f"{size_bytes // size}{unit}"
    return f"{size_bytes}B"


def size_words(size_bytes: int) -> str:
    """Write bytes for a sentence, in the largest power of 1024, to a tenth: `32 MiB`, `1.5 KiB`, `100 B`."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes >= _BYTES[unit]:
            return f"{size_bytes / _BYTES[unit]:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size_bytes} B"


def read_rate(text: str) -> Rate:
    """Read `600/min`, `10/s`, `5000/h` or `100000/day`."""
    if not re.fullmatch(RATE_PATTERN, text):
        if re.fullmatch(r"[0-9]+", text):
            raise ValueError(f"is a bare number; write how many in which period, such as {text[:9]}/min")
        raise ValueError("is not a rate; write a whole number, a slash and s, min, h or day, such as 600/min")
    count, _, period = text.partition("/")
    return Rate(count=int(count), period_s=_PERIODS[period.strip()])


def rate_text(rate: Rate) -> str:
    """Write a rate that `read_rate` can give."""
    names = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "day"}
    return f"{rate.count}/{names[rate.period_s]}"


def _amount(text: str, pattern: str, units: dict[str, float] | dict[str, int], *, kind: str, example: str) -> float:
    match = _AMOUNT.fullmatch(text)
    known = ", ".join(units)
    if match is None:
        raise ValueError(f"is not a {kind}; write one number and one unit ({known}), such as {example}")
    if match["sign"] == "-":
        raise ValueError(f"is negative; a {kind} cannot be, write one such as {example}")
    unit = match["unit"]
    if not unit:
        number = match["number"][:9]
        raise ValueError(f"is a bare number; write its unit too, such as {number}{example.lstrip('0123456789')}")
    if unit not in units:
        near = next((name for name in units if name.lower() == unit.lower()), None)
        instead = f"write {near}" if near else f"write one of {known}"
        raise ValueError(f"has the unknown unit {unit[:12]}; {instead}")
    if not re.fullmatch(pattern, text):
        raise ValueError(f"is not a {kind} with a plain number; write one such as {example}")
    return float(match["number"]) * units[unit]
