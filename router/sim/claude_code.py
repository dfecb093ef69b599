"""Claude Code sessions: one JSON object a line, each request's prompt as runs of 64-token blocks.

Made from callanjfox/kv-cache-tester's traces (Apache-2.0), with their `hash_ids` as `runs` of [first, how many]. Block
numbers hold within one session, so what sessions share is an assumption of ours: tools, where those are of the same
size, and three quarters of the system prompt, where that is too.
"""

from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from router.sim.dice import Dice, mix
from router.sim.prompt import Prompt, chained
from router.sim.talk import Step, Talk, Talks

LONGEST_THINK_S = 60.0
LONGEST_PROMPT_TOKENS = 128_000
SHARED_SYSTEM = 0.75
# Users do not all come in the same moment.
_ARRIVE_WITHIN_S = 60.0
_TOOLS, _SYSTEM, _OWN = 1, 2, 3

Runs = tuple[tuple[int, int], ...]


class Entry(msgspec.Struct, frozen=True):
    """A request of a session, or, with `requests`, a sub-agent that runs beside it. Sizes in tokens."""

    type: str
    in_tokens: int = msgspec.field(default=0, name="in")
    out: int = 0
    think_time: float = 0.0
    runs: Runs = ()
    tool_tokens: int = 0
    system_tokens: int = 0
    requests: "tuple[Entry, ...]" = ()

    @property
    def longest(self) -> int:
        """The longest prompt of it, sub-agents included."""
        return max((self.in_tokens, *(entry.longest for entry in self.requests)))


class Session(msgspec.Struct, frozen=True):
    """One line of the trace."""

    id: str
    block_size: int
    tool_tokens: int
    system_tokens: int
    requests: tuple[Entry, ...]


_session = msgspec.json.Decoder(Session)


def read(lines: Iterable[bytes]) -> list[Session]:
    """Return the sessions whose prompts all fit into 128,000 tokens.

    Raises:
        ValueError: a line is not such a session; the message tells which.

    """
    sessions = []
    for number, line in enumerate(lines, 1):
        try:
            session = _session.decode(line)
        except msgspec.DecodeError as error:
            raise ValueError(f"line {number}: {error}") from None
        if 0 < max((entry.longest for entry in session.requests), default=0) <= LONGEST_PROMPT_TOKENS:
            sessions.append(session)
    return sessions


def users(sessions: list[Session], count: int, dice: Dice) -> Talks:
    """So many people, each of whom works through one session after the other, in a shuffled order that all share."""
    deal = _dealer(sessions, dice)
    starts = [(dice.uniform() * _ARRIVE_WITHIN_S, deal()) for _ in range(count)]
    return Talks(starts, deal=deal)


def _dealer(sessions: list[Session], dice: Dice) -> Callable[[], Talk]:
    deck: list[Session] = []
    dealt = 0

    def deal() -> Talk:
        nonlocal deck, dealt
        if not deck:
            deck = dice.shuffled(sessions)
        dealt += 1
        return talk(deck.pop(), dealt)

    return deal


def talk(session: Session, copy: int) -> Talk:
    """The session as a talk. `copy`: the same session again is another conversation, but for what all share."""
    tools, system = session.tool_tokens, session.system_tokens
    return _strand(session.requests, tools, system, session.block_size, mix(copy, _OWN))


class _Head(msgspec.Struct, frozen=True, gc=False):
    """How the prompts of a session begin. `own`: the number of its first block. Sizes in tokens, `unit` of a block."""

    own: int
    tools: int
    system: int
    unit: int


def _strand(entries: tuple[Entry, ...], tools: int, system: int, unit: int, key: int) -> Talk:
    own = next((entry.runs[0][0] for entry in entries if entry.runs), 0)
    head = _Head(own, tools, system, unit)
    steps: list[Step] = []
    beside: list[Talk] = []
    for place, entry in enumerate(entries):
        if entry.requests:
            sub = _strand(entry.requests, entry.tool_tokens, entry.system_tokens, unit, mix(key, place))
            beside.append(sub)
            continue
        step = Step(
            think_s=min(entry.think_time, LONGEST_THINK_S),
            prompt=partial(_prompt, entry, head, key),
            output_tokens=entry.out,
            beside=tuple(beside),
        )
        beside.clear()
        steps.append(step)
    return Talk(session=key, steps=tuple(steps))


def _prompt(entry: Entry, head: _Head, key: int) -> Prompt:
    runs = entry.runs
    ids = chained((), 0)
    if runs and runs[0][0] == head.own:
        first, count = runs[0]
        in_tools = min(count, head.tools // head.unit)
        in_head = min(count, int(head.tools + SHARED_SYSTEM * head.system) // head.unit)
        ids.extend(chained([(0, in_tools)], mix(_TOOLS, head.tools)))
        ids.extend(chained([(in_tools, in_head - in_tools)], mix(_SYSTEM, head.tools, head.system)))
        runs = ((first + in_head, count - in_head), *runs[1:])
    ids.extend(chained([run for run in runs if run[1]], mix(key, head.own)))
    return Prompt(ids=ids, tokens=entry.in_tokens, unit_tokens=head.unit)
