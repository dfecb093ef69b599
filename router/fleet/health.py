"""The health of one instance as an event table: what may follow what, and what it means.

A missing pair (state, event) changes nothing. Client errors are no events here: they say nothing of the instance.
"""

from enum import Enum

import msgspec


class State(Enum):
    """How an instance is doing. Only SERVING takes new calls."""

    UNKNOWN = "unknown"  # nobody has asked it yet
    LOADING = "loading"  # it answers 503 while it loads its model
    SERVING = "serving"
    EJECTED = "ejected"  # it refused, broke off or fell silent


class Event(Enum):
    """What was seen of an instance."""

    ANSWERED = "answered"  # /health and /props were well
    LOADING = "loading"  # 503 "Loading model", from a probe or a call
    REFUSED = "refused"  # no connection, or reset before a byte
    TIMED_OUT = "timed_out"  # a probe's deadline passed
    BROKE = "broke"  # an answer that is none: cut, malformed, 5xx on a probe


class Health(msgspec.Struct, frozen=True, gc=False):
    """Where an instance stands. `timeouts` counts probe deadlines missed in a row; `since_s` is the monotonic time."""

    state: State = State.UNKNOWN
    since_s: float = 0.0
    timeouts: int = 0


# One missed deadline may be a long batch on an older build that answers probes between batches; two are not.
TIMEOUTS_UNTIL_EJECTED = 2

_NEXT: dict[tuple[State, Event], State] = {
    **{(state, Event.ANSWERED): State.SERVING for state in State},
    **{(state, Event.LOADING): State.LOADING for state in State},
    **{(state, Event.REFUSED): State.EJECTED for state in State},
    **{(state, Event.BROKE): State.EJECTED for state in State},
}


def step(health: Health, event: Event, now_s: float) -> Health:
    """Return the health after an event; the same object when nothing changed."""
    if event is Event.TIMED_OUT:
        timeouts = health.timeouts + 1
        state = State.EJECTED if timeouts >= TIMEOUTS_UNTIL_EJECTED else health.state
    else:
        timeouts = 0
        state = _NEXT.get((health.state, event), health.state)
    if state is health.state and timeouts == health.timeouts:
        return health
    since_s = health.since_s if state is health.state else now_s
    return Health(state=state, since_s=since_s, timeouts=timeouts)
