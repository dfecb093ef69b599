"""Server-sent events read back from bytes, strictly, and shown to people when something is wrong with one."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

SHOWN_BEFORE, SHOWN_AFTER, SHOWN_CHARS = 6, 2, 150


class Illegal(AssertionError):
    """A stream breaks a rule; the message shows the rule and the place among its neighbours."""


class Event(msgspec.Struct, frozen=True):
    """One event with its data decoded. A comment is an event named ":" whose data is its text."""

    name: str
    data: Any

    @property
    def is_comment(self) -> bool:
        return self.name == ":"

    def __str__(self) -> str:
        shown = self.data if isinstance(self.data, str) else json.dumps(self.data, ensure_ascii=False)
        cut = shown if len(shown) <= SHOWN_CHARS else f"{shown[:SHOWN_CHARS]} ... ({len(shown)} characters)"
        return f"{self.name} {cut}"


def read_events(raw: bytes) -> list[Event]:
    """The events in order; Illegal for a half event at the end, bad UTF-8, bad JSON or an unknown field."""
    events: list[Event] = []
    text = _decoded(raw, events)
    blocks = text.replace("\r\n", "\n").split("\n\n")
    half = blocks.pop()
    for block in blocks:
        _read_block(block, events)
    if half:
        raise illegal(f"the bytes end inside an event: {half[:SHOWN_CHARS]!r}", events, len(events))
    return events


def begun(raw: bytes) -> bytes:
    """What is there of a stream without the event that its end has cut."""
    events, end, _ = raw.rpartition(b"\n\n")
    return events + end


def illegal(reason: str, events: Sequence[Event], at: int) -> Illegal:
    """The error for the event number `at`, which may be one past the last."""
    lines = [reason]
    shown = range(max(at - SHOWN_BEFORE, 0), min(at + SHOWN_AFTER + 1, len(events)))
    lines += [f"{'->' if number == at else '  '} {number:3} {events[number]}" for number in shown]
    if at >= len(events):
        lines.append(f"-> {at:3} (end of the bytes)")
    return Illegal("\n".join(lines))


def _decoded(raw: bytes, events: list[Event]) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise illegal(f"not UTF-8 at byte {error.start}", events, 0) from error


def _read_block(block: str, events: list[Event]) -> None:
    name, data = "", None
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line.startswith(":"):
            events.append(Event(":", value))
        elif field == "event" and not name:
            name = value
        elif field == "data" and data is None:
            data = value
        elif line:
            raise illegal(f"an event has a second or unknown line: {line[:SHOWN_CHARS]!r}", events, len(events))
    if name or data is not None:
        try:
            events.append(Event(name, json.loads(data or "")))
        except ValueError as error:
            raise illegal(f"the data of {name!r} is not JSON: {data!r}", events, len(events)) from error
