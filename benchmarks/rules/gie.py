"""llm-d's endpoint picker (llm-d-router ebab6879, gateway-api-inference-extension 84436a96): scores, weighted."""

from benchmarks.rules.index import Index
from benchmarks.rules.rule import Loads, Rule, least
from router.sim.dice import Dice
from router.sim.talk import Ask

QUEUE_WEIGHT, KV_WEIGHT, PREFIX_WEIGHT = 2.0, 2.0, 3.0
BLOCK_TOKENS = 16
MAX_BLOCKS = 256
LRU_BLOCKS = 31_250
# A slot of the simulated servers holds this much, for the KV score.
_CONTEXT_TOKENS = 131_072


class Gie(Rule):
    """Queue, KV in use and matched prefix, by the weights of its chart. `capped` False: the whole prompt is hashed."""

    def __init__(self, dice: Dice, *, capped: bool = True) -> None:
        self._dice = dice
        self._capped = capped
        self._indexes: list[Index] = []

    def pick(self, ask: Ask, loads: Loads, now_s: float) -> int:
        if not self._indexes:
            self._indexes = [Index(most_tokens=LRU_BLOCKS * BLOCK_TOKENS) for _ in range(len(loads))]
        scores = self.scores(ask, loads, now_s)
        place = least([-score for score in scores], self._dice)
        self._indexes[place].add(ask.prompt, now_s, blocks=self._hashed(ask))
        return place

    def scores(self, ask: Ask, loads: Loads, now_s: float) -> list[float]:
        waiting = loads.waiting
        most, fewest = max(waiting), min(waiting)
        hashed = self._hashed(ask)
        return [
            QUEUE_WEIGHT * ((most - queue) / (most - fewest) if most > fewest else 1.0)
            + KV_WEIGHT * (1.0 - used)
            + PREFIX_WEIGHT * (index.match(ask.prompt, now_s, blocks=hashed) / hashed if hashed else 0.0)
            for queue, used, index in zip(waiting, loads.kv_share(_CONTEXT_TOKENS), self._indexes, strict=True)
        ]

    def _hashed(self, ask: Ask) -> int:
        """How many of the trace's blocks it looks at."""
        blocks = len(ask.prompt.ids)
        return min(blocks, MAX_BLOCKS * BLOCK_TOKENS // ask.prompt.unit_tokens) if self._capped else blocks
