"""One chain of turns as a client would send it: a trace's blocks become a system prompt and messages.

A conversation grows message by message, and where messages end must not move from turn to turn, or equal text would
stand in unequal prompts. So each turn keeps the ends of the turn before as far as its blocks are the same.
"""

from collections.abc import Iterator, Sequence
from itertools import takewhile

import msgspec

from benchmarks.replay.filler import Filler
from router.sim.claude_code import Entry, Session

# What all sessions share, as full-size tokens: the tools and most of the system prompt, at the middle of the sizes in
# recorded Claude Code sessions. Where a session says that its own head is larger or smaller, this takes its place.
MAIN_HEAD_TOKENS = 14_500
AGENT_HEAD_TOKENS = 9_000
# The rest of a system prompt tells of the working directory, the date and the repository.
SHARED_SYSTEM = 0.75
LONGEST_ANSWER_TOKENS = 96


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much smaller than life."""

    scale: int = 8
    """Prompts, answers and pauses are divided by it."""
    think_s: float = 10.0
    """Longer pauses count as this one, before they are divided."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `ends`: where each message ends, in words after the head; the first is the user's."""

    number: int
    think_s: float
    answer_tokens: int
    head: tuple[str, int]
    """The name of the shared text before all else, and its blocks."""
    system_words: int
    """Words after the head that still belong to the system prompt."""
    blocks: tuple[int, ...]
    ends: tuple[int, ...]
    known_words: int
    """Words, from the beginning on, that an earlier turn of this strand or another strand's head has as well."""
    beside: "tuple[Strand, ...]" = ()
    """Sub-agents that begin with this turn."""


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """A turn's prompt as texts. `said`: the user's and the assistant's, by turns."""

    system: tuple[str, ...]
    said: tuple[str, ...]
    words: int


class Strand(msgspec.Struct, frozen=True, kw_only=True):
    """A session's own turns, or a sub-agent's. `key` names its text; `agent`: empty for the session's own."""

    key: str
    entries: tuple[Entry, ...]
    head_tokens: int
    """How much of each prompt is what all sessions share, as the trace has it."""
    system_tokens: int
    block_tokens: int
    size: Size
    agent: str = ""

    def turns(self) -> Iterator[Turn]:
        """Return the turns in their order."""
        before: dict[int, Turn] = {}
        beside: list[Strand] = []
        number = agents = 0
        for entry in self.entries:
            if entry.requests:
                agents += 1
                beside.append(self._agent(entry, f"agent-{agents}"))
                continue
            first = entry.runs[0][0]
            turn = self._turn(entry, before.get(first), number, tuple(beside))
            before[first] = turn
            beside.clear()
            number += 1
            yield turn

    def speak(self, turn: Turn, filler: Filler) -> Spoken:
        """Write a turn's prompt."""
        name, count = turn.head
        head = filler.text(name, range(count))
        own = filler.text(self.key, turn.blocks)
        starts = (turn.system_words, *turn.ends[:-1])
        system = ("".join(head), "".join(own[: turn.system_words]))
        return Spoken(
            system=tuple([text for text in system if text]),
            said=tuple(["".join(own[start:end]) for start, end in zip(starts, turn.ends, strict=True)]),
            words=len(head) + turn.ends[-1],
        )

    def _turn(self, entry: Entry, before: Turn | None, number: int, beside: "tuple[Strand, ...]") -> Turn:
        per_block = max(1, self.block_tokens // self.size.scale)
        shared, blocks = self._shared(entry)
        head = ("agents" if self.agent else "main", shared)
        total = len(blocks) * per_block
        answer = max(1, min(LONGEST_ANSWER_TOKENS, round(entry.out / self.size.scale)))
        if before is not None and before.head == head and (same := _common(before.blocks, blocks) * per_block):
            system = before.system_words
            ends = _grown(system, before.ends, same, total, before.answer_tokens) if same > system else ()
            known = shared * per_block + same
        else:
            system, ends, known = 0, (), shared * per_block
        if not ends:
            own = self.system_tokens // self.size.scale if shared else per_block
            system, ends = max(0, min(own, total - 1)), (total,)
        return Turn(
            number=number,
            think_s=min(entry.think_time, self.size.think_s) / self.size.scale,
            answer_tokens=answer,
            head=head,
            system_words=system,
            blocks=blocks,
            ends=ends,
            known_words=known,
            beside=beside,
        )

    def _shared(self, entry: Entry) -> tuple[int, tuple[int, ...]]:
        """The blocks of the shared head, and the numbers of those after it."""
        numbers = [first + at for first, count in entry.runs for at in range(count)]
        first, count = entry.runs[0]
        head = self.head_tokens // self.block_tokens
        begins = next(other.runs[0][0] for other in self.entries if not other.requests)
        if first != begins or not head:  # a call of another kind, such as one for a title
            return 0, tuple(numbers)
        there = min(count, head, len(numbers) - 1)
        standard = (AGENT_HEAD_TOKENS if self.agent else MAIN_HEAD_TOKENS) // self.block_tokens
        return round(standard * there / head), tuple(numbers[there:])

    def _agent(self, entry: Entry, name: str) -> "Strand":
        return Strand(
            key=f"{self.key}/{name}",
            entries=entry.requests,
            head_tokens=int(entry.tool_tokens + SHARED_SYSTEM * entry.system_tokens),
            system_tokens=int((1 - SHARED_SYSTEM) * entry.system_tokens),
            block_tokens=self.block_tokens,
            size=self.size,
            agent=name,
        )


def main_strand(session: Session, copy: int, size: Size) -> Strand:
    """Return the session's own strand. `copy`: the same session again is another conversation."""
    return Strand(
        key=f"{session.id}#{copy}",
        entries=session.requests,
        head_tokens=int(session.tool_tokens + SHARED_SYSTEM * session.system_tokens),
        system_tokens=int((1 - SHARED_SYSTEM) * session.system_tokens),
        block_tokens=session.block_size,
        size=size,
    )


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    if one == other[: len(one)]:
        return len(one)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _grown(system: int, before: Sequence[int], same: int, total: int, answer: int) -> tuple[int, ...]:
    """The ends of messages of a prompt of `total` words whose first `same` are those of the prompt before.

    The last is the user's, so there is an odd number of them. Those of the prompt before hold as far as it is the same;
    then come its answer and what the user, or a tool, said to it.
    """
    ends = [end for end in before if end <= same]
    if not ends:
        return (total,)
    if ends[-1] == total:
        return tuple(ends if len(ends) % 2 else [*ends[:-2], total])
    if len(ends) % 2:  # now the assistant speaks
        room = total - ends[-1]
        if room < 2:
            return (*ends[:-1], total)
        cut_within = same - ends[-1]  # what is left of a message that was longer before
        ends.append(ends[-1] + min(max(answer, cut_within, 1), room - 1))
    return (*ends, total)
