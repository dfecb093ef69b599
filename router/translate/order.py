"""What may follow what in a streamed chat completion, and what the Messages stream does then: one table.

The rows come from the Messages API, which has one block open at a time; "fail" breaks the answer off, since a corrupt
tool call is worse than a clean failure.
"""

from collections.abc import Mapping
from enum import IntEnum


class State(IntEnum):
    """Where the answer is: which block is open, or what it still waits for."""

    EMPTY = 0
    THINKING = 1
    TEXT = 2
    TOOL = 3
    CLOSING = 4
    """It has said why it ends; usage may still come."""
    ENDED = 5


class Kind(IntEnum):
    """What may come. Deltas that only name a role, and empty ones, are nothing."""

    REASONING = 0
    TEXT = 1
    TOOL_FIRST = 2
    """A call whose block was not opened yet, and whose name is known."""
    TOOL_MORE = 3
    """Arguments of a call whose block was opened."""
    FINISH = 4
    FACTS = 5
    """Usage, timings, progress."""
    DONE = 6
    END = 7
    """End of the bytes."""


class Do(IntEnum):
    """What to do about it."""

    FAIL = 0
    ADD = 1
    """A delta of the open block; of a tool block only if it is this call's."""
    OPEN = 2
    """Close the open block, open the next; with the first one the answer begins."""
    QUEUE = 3
    """OPEN if the open call's arguments are whole; otherwise it waits for that, or for the finish."""
    FINISH = 4
    """Close everything."""
    AGAIN = 5
    """Nothing, if it says the same as before."""
    KEEP = 6
    SAY_END = 7
    IGNORE = 8


_FAIL, _ADD, _OPEN, _QUEUE, _FINISH, _AGAIN, _KEEP, _SAY_END, _IGNORE = sorted(Do)

TABLE: Mapping[State, tuple[Do, ...]] = {
    # what comes:    REASONING TEXT     TOOL_FIRST TOOL_MORE FINISH   FACTS    DONE      END
    State.EMPTY:    (_OPEN,    _OPEN,   _OPEN,     _FAIL,    _FINISH, _KEEP,   _FAIL,    _FAIL),
    State.THINKING: (_ADD,     _OPEN,   _OPEN,     _FAIL,    _FINISH, _KEEP,   _FAIL,    _FAIL),
    State.TEXT:     (_OPEN,    _ADD,    _OPEN,     _FAIL,    _FINISH, _KEEP,   _FAIL,    _FAIL),
    State.TOOL:     (_OPEN,    _OPEN,   _QUEUE,    _ADD,     _FINISH, _KEEP,   _FAIL,    _FAIL),
    State.CLOSING:  (_FAIL,    _FAIL,   _FAIL,     _FAIL,    _AGAIN,  _KEEP,   _SAY_END, _SAY_END),
    State.ENDED:    (_IGNORE,  _IGNORE, _IGNORE,   _IGNORE,  _IGNORE, _IGNORE, _IGNORE,  _IGNORE),
}  # fmt: skip
"""States down, kinds across."""
