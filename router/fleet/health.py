"""The health of one instance as an event table: what may follow what, and what it means.

A missing pair (state, event) changes nothing. What a client did wrong is no event here: it says nothing of the
instance.
"""

from enum import Enum

import msgspec


class State(Enum):
    """How an instance is doing."""

    UNKNOWN = "unknown"  # nobody has asked it yet, or not since it was resumed
    LOADING = "loading"  # it answers 503 while it loads its model
    SERVING = "serving"
    SLEEPING = "sleeping"  # it has unloaded its model; a call wakes it, and waits for that
    PROBATION = "probation"  # back after an ejection: one call at a time, until one has gone well
    EJECTED = "ejected"  # it refused, fell silent, or failed too often; nobody is sent there
    DRAINING = "draining"  # the operator's will: finishes what runs, takes no more
    MISPLACED = "misplaced"  # it serves another model than it did, and no pool of ours is for that one


class Event(Enum):
    """What was seen of an instance, or ordered for it."""

    ANSWERED = "answered"  # a look found it well
    SLEEPS = "sleeps"  # a look found it asleep
    LOADING = "loading"  # 503 "Loading model", to a look or a call
    REFUSED = "refused"  # no connection, or reset before a byte: it is dead
    TIMED_OUT = "timed_out"  # a look's deadline passed
    BROKE = "broke"  # a look got an answer that is none
    STUCK = "stuck"  # slots are busy and nothing is decoded
    CALL_BEGAN = "call_began"  # a call got its first event
    CALL_FAILED = "call_failed"  # a call broke off, fell silent, or got a 5xx
    SWAPPED = "swapped"  # another model answers there
    DRAIN = "drain"
    RESUME = "resume"


class Health(msgspec.Struct, frozen=True, gc=False):
    """Where an instance stands.

    `timeouts`, `failures`: looks that ran out of time and calls that failed, in a row. `ejections`: how often it went
    out without being well for long in between; each doubles the back-off. `back_at_s`: when a good look may bring it
    back. `absences`: looks in a row that found it out; after `ABSENCES_UNTIL_GONE` nobody waits for it any more.
    `sick`: it is out for what it did to calls, not for having been away; nobody waits for that to pass.
    `on_trial`: it has been out, and no call has gone well there since, whatever it was seen doing.
    """

    state: State = State.UNKNOWN
    since_s: float = 0.0
    timeouts: int = 0
    failures: int = 0
    ejections: int = 0
    back_at_s: float = 0.0
    absences: int = 0
    sick: bool = False
    on_trial: bool = False

    @property
    def takes_calls(self) -> bool:
        """It may be sent a call."""
        state = self.state  # by identity: asked several times a call, and an enum's hash is a Python function
        return state is State.SERVING or state is State.SLEEPING or state is State.PROBATION

    @property
    def hopeful(self) -> bool:
        """It takes no calls now and may soon: worth waiting for, if nobody else is there."""
        if self.state is State.EJECTED and self.sick:
            return False
        return self.state in _MAY_COME_BACK and self.absences < ABSENCES_UNTIL_GONE


# One missed deadline may be a long batch on an older build that answers looks between batches; two are not.
TIMEOUTS_UNTIL_EJECTED = 2
# The last instance of a pool is kept through more, since a slow one is better than none.
TIMEOUTS_UNTIL_LAST_EJECTED = 5
FAILURES_UNTIL_EJECTED = 3
BACK_OFF_S = 1.0
MAX_BACK_OFF_S = 30.0
# Well for this long, and the next ejection counts as the first.
FORGIVEN_AFTER_S = 60.0
# With a look every 2 s, about a quarter of a minute: a restart is over by then, a crash is known to be one.
ABSENCES_UNTIL_GONE = 8

_MAY_COME_BACK = frozenset({State.UNKNOWN, State.LOADING, State.EJECTED})
_IN = (State.SERVING, State.SLEEPING, State.PROBATION)

_NEXT: dict[tuple[State, Event], State] = {
    (State.UNKNOWN, Event.ANSWERED): State.SERVING,
    (State.LOADING, Event.ANSWERED): State.SERVING,
    (State.SLEEPING, Event.ANSWERED): State.SERVING,
    (State.EJECTED, Event.ANSWERED): State.PROBATION,  # not before back_at_s
    (State.PROBATION, Event.CALL_BEGAN): State.SERVING,
    (State.MISPLACED, Event.ANSWERED): State.SERVING,  # the fleet says ANSWERED only once the model is right again
    **{
        (state, Event.SLEEPS): State.SLEEPING
        for state in (State.UNKNOWN, State.LOADING, State.SERVING, State.SLEEPING, State.MISPLACED)
    },
    (State.EJECTED, Event.SLEEPS): State.PROBATION,  # a call wakes it; not before back_at_s
    **{(state, Event.LOADING): State.LOADING for state in (State.UNKNOWN, *_IN, State.EJECTED, State.MISPLACED)},
    **{(state, Event.REFUSED): State.EJECTED for state in (State.UNKNOWN, State.LOADING, *_IN, State.MISPLACED)},
    **{(state, Event.BROKE): State.EJECTED for state in (State.UNKNOWN, State.LOADING, *_IN)},
    **{(state, Event.STUCK): State.EJECTED for state in _IN},
    **{(state, Event.TIMED_OUT): State.EJECTED for state in (State.UNKNOWN, State.LOADING, *_IN)},  # when counted out
    (State.PROBATION, Event.CALL_FAILED): State.EJECTED,
    (State.SERVING, Event.CALL_FAILED): State.EJECTED,  # when counted out
    **{(state, Event.SWAPPED): State.MISPLACED for state in (State.UNKNOWN, State.LOADING, *_IN, State.EJECTED)},
    **{(state, Event.DRAIN): State.DRAINING for state in State},
    (State.DRAINING, Event.RESUME): State.UNKNOWN,
    (State.MISPLACED, Event.RESUME): State.UNKNOWN,  # the operator says that the model is meant
}
# What goes before it for one that is on trial: nothing that it does between its ejection and a call that begins there
# leads past probation, and nothing leads there before back_at_s. Asleep or awake, it takes one call at a time.
_ON_TRIAL: dict[tuple[State, Event], State] = {
    (state, event): State.PROBATION
    for state in (State.UNKNOWN, State.LOADING, State.MISPLACED)
    for event in (Event.ANSWERED, Event.SLEEPS)
}

_SICKENS = frozenset({Event.CALL_FAILED, Event.STUCK})
_ACQUITS = frozenset({Event.CALL_BEGAN, Event.RESUME})

# Signs that a slow or busy instance gives too; the last one of a pool is not put out for them.
SOFT = frozenset({Event.CALL_FAILED, Event.STUCK, Event.BROKE, Event.TIMED_OUT})


def step(health: Health, event: Event, now_s: float, *, last: bool = False) -> Health:
    """Return the health after an event; the same object when nothing changed.

    `last`: no other instance of one of its pools takes calls.
    """
    if event is Event.CALL_BEGAN and health.state is State.SERVING and not health.failures:
        return health  # every call that goes well
    counted = _count(health, event)
    if counted.sick and event is Event.REFUSED:
        counted = msgspec.structs.replace(counted, sick=False)  # it was dying, and calls saw it first
    move = (health.state, event)
    state = _ON_TRIAL.get(move) if health.on_trial else None
    state = state or _NEXT.get(move, health.state)
    if state is State.EJECTED and state is not health.state and not _is_out(counted, event, last=last):
        state = health.state
    if state is State.PROBATION and now_s < health.back_at_s:
        state = health.state
    if state is health.state:
        return counted
    sick = state is State.EJECTED and event in _SICKENS
    on_trial = health.on_trial and event not in _ACQUITS
    moved = msgspec.structs.replace(counted, state=state, since_s=now_s, sick=sick, on_trial=on_trial)
    return _ejected(moved, health, now_s) if state is State.EJECTED else moved


def _count(health: Health, event: Event) -> Health:
    """Keep the counts of what happens in a row."""
    timeouts, failures, absences = health.timeouts, health.failures, health.absences
    match event:
        case Event.TIMED_OUT:
            timeouts += 1
        case Event.CALL_FAILED:
            failures += 1
        case Event.CALL_BEGAN:
            failures = 0
        case Event.ANSWERED | Event.SLEEPS | Event.LOADING:
            timeouts = absences = 0
        case Event.RESUME:
            timeouts = failures = absences = 0
        case _:
            pass
    if event in {Event.REFUSED, Event.TIMED_OUT, Event.BROKE} and health.state in _MAY_COME_BACK:
        absences += 1
    if (timeouts, failures, absences) == (health.timeouts, health.failures, health.absences):
        return health
    return msgspec.structs.replace(health, timeouts=timeouts, failures=failures, absences=absences)


def _is_out(health: Health, event: Event, *, last: bool) -> bool:
    """Say whether this event, at this count, puts it out."""
    if event is Event.TIMED_OUT:
        return health.timeouts >= (TIMEOUTS_UNTIL_LAST_EJECTED if last else TIMEOUTS_UNTIL_EJECTED)
    if event is Event.CALL_FAILED and health.state is State.SERVING and health.failures < FAILURES_UNTIL_EJECTED:
        return False
    return not (last and event in SOFT)


def _ejected(health: Health, before: Health, now_s: float) -> Health:
    """Out: the longer, the more often it has been lately."""
    well_for_s = now_s - before.since_s if before.state is State.SERVING else 0.0
    ejections = 1 if well_for_s >= FORGIVEN_AFTER_S else before.ejections + 1
    back_off_s = min(MAX_BACK_OFF_S, BACK_OFF_S * 2 ** (ejections - 1))
    return msgspec.structs.replace(
        health,
        ejections=ejections,
        back_at_s=now_s + back_off_s,
        timeouts=0,
        failures=0,
        absences=0,
        on_trial=True,
    )
