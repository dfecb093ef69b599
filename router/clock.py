"""The only place that asks the time. Everything in the core is handed it."""

import time


def monotonic_s() -> float:
    """Seconds on a clock that never jumps; only differences mean anything. It is the event loop's clock."""
    return time.monotonic()  # noqa: TID251  # this is the room that may


def wall_s() -> float:
    """Seconds since the Unix epoch, for what people and other programs read."""
    return time.time()  # noqa: TID251  # this is the room that may
