"""The users: each plays its hand, one turn after the answer to the last, until the time is up."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from benchmarks.answers import Protocol
from benchmarks.replay.body import body, request
from benchmarks.replay.call import Ear, listen
from benchmarks.replay.deal import Part
from benchmarks.replay.filler import Filler
from benchmarks.replay.rows import Row
from benchmarks.replay.strand import Size, Strand, Turn, main_strand

# Before a turn that failed is tried again.
PAUSE_S = 0.5
# Users do not all press return in the same moment.
STAGGER_S = 0.15


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where calls go, and how they are written."""

    port: int
    protocol: Protocol
    headers: dict[str, str] = {}


class Play:
    """One visit's worth of users."""

    def __init__(self, target: Target, filler: Filler, size: Size) -> None:
        self.rows: list[Row] = []
        self._target = target
        self._filler = filler
        self._size = size
        self._zero_s = 0.0

    def __repr__(self) -> str:
        return f"Play[{len(self.rows)} turns on port {self._target.port}]"

    async def run(self, hands: Sequence[Sequence[Part]], warm_s: float, window_s: float) -> list[Row]:
        """Play all hands through the warm-up and the window; what still runs then is cut off."""
        self._zero_s = time.perf_counter() + warm_s
        try:
            async with asyncio.timeout(warm_s + window_s), asyncio.TaskGroup() as group:
                for user, hand in enumerate(hands):
                    group.create_task(self._user(user, hand, group))
        except TimeoutError:
            pass
        return self.rows

    async def _user(self, user: int, hand: Sequence[Part], group: asyncio.TaskGroup) -> None:
        await asyncio.sleep(STAGGER_S * user)
        for part in hand:
            strand = main_strand(part.session, part.copy, self._size)
            await self._strand(user, part, strand, group)

    async def _strand(self, user: int, part: Part, strand: Strand, group: asyncio.TaskGroup) -> None:
        """Play one strand to its end; its sub-agents play beside it."""
        joined = False
        for turn in strand.turns():
            if turn.number < part.from_turn and not strand.agent:
                continue
            for other in turn.beside:
                group.create_task(self._strand(user, part, other, group))
            if joined:
                await asyncio.sleep(turn.think_s)
            else:  # nobody has read what came before
                head = turn.head[1] * self._filler.words_per_block
                turn = msgspec.structs.replace(turn, known_words=min(turn.known_words, head))
                joined = True
            await self._insist(user, part, strand, turn)

    async def _insist(self, user: int, part: Part, strand: Strand, turn: Turn) -> None:
        """Send a turn until it is answered: the session cannot go on without it."""
        while True:
            if await self._attempt(user, part, strand, turn):
                return
            await asyncio.sleep(PAUSE_S)

    async def _attempt(self, user: int, part: Part, strand: Strand, turn: Turn) -> bool:
        """Send a turn once; whether it was answered."""
        target = self._target
        spoken = strand.speak(turn, self._filler)
        headers = {**target.headers, "X-Claude-Code-Session-Id": part.session_id}
        if strand.agent:
            headers["x-claude-code-agent-id"] = strand.agent
        content = body(spoken, turn.answer_tokens, target.protocol)
        ear = Ear(request(target.protocol.value, target.port, headers, content), target.protocol)
        began_s = time.perf_counter() - self._zero_s
        try:
            await listen(ear, target.port)
        finally:  # cut off, too: who waits at the end is told
            heard = ear.heard
            self.rows.append(
                Row(
                    user=user,
                    session_id=part.session_id,
                    agent=strand.agent,
                    turn=turn.number,
                    began_s=round(began_s, 4),
                    ttft_s=None if heard.ttft_s is None else round(heard.ttft_s, 4),
                    total_s=round(heard.total_s, 4),
                    prompt_tokens=heard.prompt_tokens,
                    cached_tokens=heard.cached_tokens,
                    output_tokens=heard.output_tokens,
                    words=spoken.words,
                    known_words=turn.known_words,
                    request_id=heard.request_id,
                    router=heard.router,
                    error=heard.error,
                )
            )
        return not heard.error
