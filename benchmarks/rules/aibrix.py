"""AIBrix's prefix-cache router (vllm-project/aibrix e3e10f9e): the best match that is not loaded above the others."""

from statistics import mean, pstdev

from benchmarks.rules.index import Index
from benchmarks.rules.rule import Loads, Rule, least
from router.sim.dice import Dice
from router.sim.talk import Ask

IMBALANCE_COUNT = 8
DEVIATIONS = 1.0


class Aibrix(Rule):
    """Least calls when counts are more than 8 apart; else the best match whose count is within one deviation."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._indexes: list[Index] = []

    def pick(self, ask: Ask, loads: Loads, now_s: float) -> int:
        if not self._indexes:
            self._indexes = [Index() for _ in range(len(loads))]
        place = self._choose(ask, loads, now_s)
        self._indexes[place].add(ask.prompt, now_s)
        return place

    def _choose(self, ask: Ask, loads: Loads, now_s: float) -> int:
        counts = loads.in_flight
        if max(counts) - min(counts) > IMBALANCE_COUNT:
            return least(counts, self._dice)
        limit = mean(counts) + DEVIATIONS * pstdev(counts)
        matches = [index.match(ask.prompt, now_s) for index in self._indexes]
        holders = [place for place, depth in enumerate(matches) if depth and counts[place] <= limit]
        if not holders:
            return least(counts, self._dice)
        order = [(-matches[place], counts[place]) for place in holders]
        best = min(order)
        tied = [place for place, key in zip(holders, order, strict=True) if key == best]
        return tied[self._dice.below(len(tied))]
