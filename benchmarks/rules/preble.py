"""Preble's E2 (WukLab/preble 8e7906a3): exploit a long prefix, else explore where load and eviction cost least."""

from collections import deque

from benchmarks.rules.index import Index
from benchmarks.rules.rule import Loads, Rule, least
from router.sim.dice import Dice
from router.sim.speed import Speed
from router.sim.talk import Ask

WINDOW_S = 180.0
REBALANCE_RATIO = 1.5
REBALANCE_AFTER_CALLS = 50
CAPACITY_TOKENS = 198_516
# What it takes an answer to cost, in its window of load.
_ANSWER_TOKENS = 256


class Preble(Rule):
    """Loads are seconds of work sent within three minutes; caches are taken for radix caches of 198,516 tokens."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._speed = Speed()
        self._indexes: list[Index] = []
        self._work: list[deque[tuple[float, float]]] = []
        self._calls: list[int] = []

    def pick(self, ask: Ask, loads: Loads, now_s: float) -> int:
        if not self._indexes:
            self._indexes = [Index(most_tokens=CAPACITY_TOKENS) for _ in range(len(loads))]
            self._work = [deque() for _ in range(len(loads))]
            self._calls = [0] * len(loads)
        prompt = ask.prompt
        warm = [index.match(prompt, now_s) * prompt.unit_tokens for index in self._indexes]
        work_s = [self._recent_s(place, now_s) for place in range(len(loads))]
        place = self.choose(prompt.tokens, warm, work_s)
        took_s = self._speed.prefill_s(min(warm[place], prompt.tokens), prompt.tokens)
        self._work[place].append((now_s, took_s + _ANSWER_TOKENS * self._speed.decode_s(1, prompt.tokens)))
        self._calls[place] += 1
        self._indexes[place].add(prompt, now_s)
        return place

    def choose(self, tokens: int, warm: list[int], work_s: list[float]) -> int:
        """`work_s`: the load of each server, by the window."""
        longest = max(warm)
        if longest > tokens - longest:
            holders = [place for place, cached in enumerate(warm) if cached == longest]
            place = holders[least([work_s[holder] for holder in holders], self._dice)]
            uneven = max(work_s) > REBALANCE_RATIO * min(work_s)
            if work_s[place] == max(work_s) and uneven and min(self._calls) >= REBALANCE_AFTER_CALLS:
                return least(work_s, self._dice)
            return place
        costs_s = [
            load_s
            + self._speed.prefill_s(0, self._evicted(place, tokens - cached))
            + self._speed.prefill_s(cached, tokens)
            for place, (load_s, cached) in enumerate(zip(work_s, warm, strict=True))
        ]
        return least(costs_s, self._dice)

    def _evicted(self, place: int, tokens: int) -> int:
        """Tokens that have to go there for so many new ones."""
        return max(0, self._indexes[place].tokens + tokens - CAPACITY_TOKENS)

    def _recent_s(self, place: int, now_s: float) -> float:
        work = self._work[place]
        while work and work[0][0] <= now_s - WINDOW_S:
            work.popleft()
        return sum(seconds for _, seconds in work)
