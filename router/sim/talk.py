"""Talks: who says what after what. A trace becomes talks, and talks become calls as earlier answers come."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from router.sim.prompt import Prompt


class Ask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call. `number` grows with arrival; `session`: 64 bits, the same for each turn of one talk."""

    number: int
    session: int
    prompt: Prompt
    output_tokens: int
    arrived_s: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One turn: `think_s` after the answer before it. `beside`: talks that begin with it, such as sub-agents.

    `prompt` makes the prompt when it is wanted: those of a whole trace do not fit into memory.
    """

    think_s: float
    prompt: Callable[[], Prompt]
    output_tokens: int
    beside: "tuple[Talk, ...]" = ()


class Talk(msgspec.Struct, frozen=True, kw_only=True):
    """Turns, one after the other."""

    session: int
    steps: Sequence[Step]


class Load(Protocol):
    """Where calls come from, with times in seconds of virtual time."""

    def first(self) -> list[Ask]:
        """Those that come whatever becomes of others. They come at their `arrived_s`."""
        ...

    def after(self, number: int, now_s: float) -> list[Ask]:
        """The answer to a call is complete; returns what comes because of that, at its `arrived_s`."""
        ...


class Talks:
    """Talks under way, for both kinds of load: each follows its own answers."""

    def __init__(self, starts: Iterable[tuple[float, Talk]], *, deal: Callable[[], Talk] | None = None) -> None:
        """`starts`: when each talk begins. `deal`: what takes the place of one that has ended; None: nothing does."""
        self._starts = list(starts)
        self._deal = deal
        self._under_way: dict[int, tuple[Talk, int, bool]] = {}
        self._count = 0

    def __repr__(self) -> str:
        return f"Talks[{len(self._under_way)} under way, {self._count} calls so far]"

    def first(self) -> list[Ask]:
        """The first call of every talk. A call's number is not its place in time here."""
        return [ask for start_s, talk in self._starts for ask in self._ask(talk, 0, start_s, lasting=True)]

    def after(self, number: int, now_s: float) -> list[Ask]:
        """The next turn, or the first one of the talk that is dealt next."""
        talk, index, lasting = self._under_way.pop(number)
        if index + 1 < len(talk.steps):
            return self._ask(talk, index + 1, now_s, lasting=lasting)
        return self._ask(self._deal(), 0, now_s, lasting=True) if lasting and self._deal is not None else []

    def _ask(self, talk: Talk, index: int, now_s: float, *, lasting: bool) -> list[Ask]:
        """`lasting`: another one follows when it ends; not so for those beside it."""
        step = talk.steps[index]
        asks = [ask for other in step.beside for ask in self._ask(other, 0, now_s, lasting=False)]
        number, self._count = self._count, self._count + 1
        self._under_way[number] = talk, index, lasting
        ask = Ask(
            number=number,
            session=talk.session,
            prompt=step.prompt(),
            output_tokens=step.output_tokens,
            arrived_s=now_s + step.think_s,
        )
        return [*asks, ask]
