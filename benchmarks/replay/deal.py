"""Which sessions each user plays, and from which turn on: dealt beforehand, so the same for every contender."""

import uuid
from collections.abc import Sequence

import msgspec

from benchmarks.replay.trace import agents, turns
from router.sim.claude_code import Entry, Session
from router.sim.dice import Dice, mix

# More than a window can hold of the shortest ones.
SESSIONS_EACH = 12
# One session in so many has sub-agents, where the trace has any: more than in life, or a short run would see none.
ONE_WITH_AGENTS_IN = 10


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One session in a user's hand. `from_turn`: it is joined there. `session_id`: what the header says."""

    session: Session
    copy: int
    from_turn: int
    session_id: str


def deal(sessions: Sequence[Session], users: int, seed: int) -> list[list[Part]]:
    """Return one hand a user.

    The first session of each is joined somewhere in its first half, before its first sub-agent, as if the users had
    been at work for a while. Sessions come again, as other conversations, when there are not enough.

    Raises:
        ValueError: there are no sessions.

    """
    if not sessions:
        raise ValueError("the trace has no session that can be played")
    dice = Dice(seed)
    with_agents = dice.shuffled([session for session in sessions if agents(session)])
    without = dice.shuffled([session for session in sessions if not agents(session)])
    hands: list[list[Part]] = [[] for _ in range(users)]
    for number in range(users * SESSIONS_EACH):
        chosen = with_agents if with_agents and number % ONE_WITH_AGENTS_IN == 1 else without or with_agents
        session = chosen.pop(0)
        chosen.append(session)
        joined = dice.below(1 + _latest(session)) if number < users else 0
        name = uuid.UUID(int=mix(seed, number, 1) << 64 | mix(seed, number, 2), version=4)
        part = Part(session=session, copy=number, from_turn=joined, session_id=str(name))
        hands[number % users].append(part)
    return hands


def _latest(session: Session) -> int:
    """The last turn from which on it may be joined."""
    first_agent = next((at for at, entry in enumerate(session.requests) if _is_agent(entry)), len(session.requests))
    return min(turns(session) // 2, first_agent)


def _is_agent(entry: Entry) -> bool:
    return bool(entry.requests)
