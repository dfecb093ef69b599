"""Incremental framing of server-sent events: bytes in, whole events out, each as the bytes it came in.

An event ends at a blank line. The line ends may be LF, CR LF or CR (WHATWG HTML, 9.2.6); llama-server and every OpenAI
server seen so far write LF, so LF is the short path and a CR anywhere takes the long one.
"""

import re

MAX_EVENT_BYTES = 8 * 1024 * 1024
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")


class EventTooLarge(ValueError):
    """One event grew past `MAX_EVENT_BYTES` without ending; no server that we know sends such a thing."""


class EventSplitter:
    """Cuts a byte stream into events; keeps what is incomplete until the rest comes."""

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial = b""

    def __repr__(self) -> str:
        return f"EventSplitter({len(self._partial)} bytes wait)"

    @property
    def pending(self) -> bytes:
        """What has come of the next event; empty between events."""
        return self._partial

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that `data` completes, each with the blank line that ends it."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        if b"\r" in data:
            return self._feed_any_line_end(data)
        if len(data) > 2 and data.find(b"\n\n") == len(data) - 2:
            return [data]
        *events, rest = data.split(b"\n\n")
        self._keep(rest)
        return [event + b"\n\n" for event in events if event.strip(b"\n")]

    def _feed_any_line_end(self, data: bytes) -> list[bytes]:
        # A CR at the very end may be the first half of CR LF: it waits for the next byte.
        usable = len(data) - 1 if data.endswith(b"\r") else len(data)
        events = []
        start = 0
        while match := _BLANK_LINE.search(data, start, usable):
            event = data[start : match.start()].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if event.strip(b"\n"):
                events.append(event + b"\n\n")
            start = match.end()
        self._keep(data[start:])
        return events

    def _keep(self, rest: bytes) -> None:
        if len(rest) > MAX_EVENT_BYTES:
            raise EventTooLarge(f"one event is larger than {MAX_EVENT_BYTES} bytes")
        self._partial = rest


def event_name(event: bytes) -> bytes:
    """Return the value of the `event:` line; empty when there is none, as in comments and data-only events."""
    for line in event.split(b"\n"):
        if line.startswith(b"event:"):
            return line[6:].strip()
    return b""


def event_data(event: bytes) -> bytes:
    """Return the `data:` lines joined by newlines, as the standard says; empty for a comment."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def make_event(name: bytes, data: bytes) -> bytes:
    """Frame one event. `data` is JSON on one line."""
    return b"event: " + name + b"\ndata: " + data + b"\n\n"
