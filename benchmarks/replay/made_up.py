"""Sessions made up by chance in the trace's form, for trying things out where there is no trace.

They have a trace's shape - growing prompts, now and then a rewritten tail, sub-agents - but nobody's sizes: no figure
measured on them says anything about recorded sessions.
"""

from router.sim.claude_code import Entry, Session
from router.sim.dice import Dice

COUNT = 40
BLOCK_TOKENS = 64
HEAD_BLOCKS = 220
ONE_WITH_AGENT_IN = 4


def sessions(seed: int, count: int = COUNT) -> list[Session]:
    """Return so many sessions of 12 to 40 turns; every fourth has a sub-agent."""
    dice = Dice(seed)
    return [_session(dice, number) for number in range(count)]


def _session(dice: Dice, number: int) -> Session:
    turns = 12 + dice.below(29)
    entries = _strand(dice, 1, HEAD_BLOCKS, turns)
    if number % ONE_WITH_AGENT_IN == 0:
        agent = Entry(
            type="subagent",
            tool_tokens=80 * BLOCK_TOKENS,
            system_tokens=20 * BLOCK_TOKENS,
            requests=tuple(_strand(dice, 1_000_000, 100, 6)),
        )
        entries.insert(3 + dice.below(turns - 4), agent)
    return Session(
        id=f"made-up-{number}",
        block_size=BLOCK_TOKENS,
        tool_tokens=180 * BLOCK_TOKENS,
        system_tokens=40 * BLOCK_TOKENS,
        requests=tuple(entries),
    )


def _strand(dice: Dice, first: int, head: int, turns: int) -> list[Entry]:
    """Turns whose prompts grow by 2 to 30 blocks; one in eight rewrites the last few blocks."""
    runs = [(first, head + 4)]
    fresh = first + 100_000
    entries = []
    for _ in range(turns):
        grown = 2 + dice.below(29)
        start, count = runs[-1]
        if dice.below(8) == 0 and count > 6:
            runs[-1] = (start, count - 3)
        runs.append((fresh, grown))
        fresh += grown
        blocks = sum(count for _, count in runs)
        entries.append(
            Entry(
                type="n",
                in_tokens=blocks * BLOCK_TOKENS + dice.below(BLOCK_TOKENS),
                out=60 + dice.below(600),
                think_time=2.0 + dice.below(30),
                runs=tuple(runs),
            )
        )
    return entries
