"""SGLang's cache_aware policy (sglang-router b6f20641; lightseekorg/smg 73da68ca): a prefix tree with a load switch.

Its tree holds 10,000 nodes a server before it forgets, far more than a run here makes, so nothing is forgotten. Without
a match the newer gateway takes the least loaded server, older routers the smallest tree; here it is the former, which
does better.
"""

from benchmarks.rules.index import Index
from benchmarks.rules.rule import Loads, Rule, least
from router.sim.dice import Dice
from router.sim.talk import Ask

CACHE_THRESHOLD = 0.5
BALANCE_ABS = 32
BALANCE_REL = 1.1


class SGLang(Rule):
    """Shortest queue while loads are far apart; else the longest prefix, else the least loaded."""

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
        if max(counts) - min(counts) > BALANCE_ABS and max(counts) > BALANCE_REL * min(counts):
            return least(counts, self._dice)
        matches = [index.match(ask.prompt, now_s) for index in self._indexes]
        deepest = max(matches)
        if deepest * ask.prompt.unit_tokens > CACHE_THRESHOLD * ask.prompt.tokens:
            last = ask.prompt.ids[deepest - 1]
            holders = [place for place, depth in enumerate(matches) if depth == deepest]
            return max(holders, key=lambda place: self._indexes[place].last_used_s(last))
        return least(counts, self._dice)
