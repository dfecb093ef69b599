"""NVIDIA Dynamo's KV router: new blocks to read and blocks in use, summed up; the least wins (temperature 0)."""

from benchmarks.rules.index import Index
from benchmarks.rules.rule import Loads, Rule, least
from router.sim.dice import Dice
from router.sim.talk import Ask

OVERLAP_WEIGHT = 1.0
TTL_S = 120.0
MOST_BLOCKS = 2**20
BLOCK_TOKENS = 16


class Dynamo(Rule):
    """`exact`: it is told of every KV event, else it remembers for 120 s what it sent."""

    def __init__(self, dice: Dice, *, exact: bool = False) -> None:
        self._dice = dice
        self._exact = exact
        self._indexes: list[Index] = []
        self._reading: list[float] = []
        self._held: list[float] = []
        self._uncached: dict[int, float] = {}

    def pick(self, ask: Ask, loads: Loads, now_s: float) -> int:
        if not self._indexes:
            count = len(loads)
            self._indexes = [Index(most_tokens=MOST_BLOCKS * BLOCK_TOKENS, ttl_s=TTL_S) for _ in range(count)]
            self._reading, self._held = [0.0] * count, [0.0] * count
        prompt = ask.prompt
        if self._exact:
            warm: list[int] = loads.warm_tokens(prompt)
        else:
            warm = [index.match(prompt, now_s) * prompt.unit_tokens for index in self._indexes]
        place = least(self.costs(prompt.tokens, warm), self._dice)
        self._uncached[ask.number] = max(0.0, prompt.tokens - warm[place])
        self._reading[place] += self._uncached[ask.number]
        self._held[place] += prompt.tokens
        self._indexes[place].add(prompt, now_s)
        return place

    def costs(self, tokens: int, warm: list[int]) -> list[float]:
        """In blocks: what would have to be read there, and the KV that would be in use, the whole context of it."""
        return [
            (OVERLAP_WEIGHT * (reading + max(0, tokens - cached)) + held + tokens) / BLOCK_TOKENS
            for reading, held, cached in zip(self._reading, self._held, warm, strict=True)
        ]

    def first_token(self, place: int, ask: Ask, _now_s: float) -> None:
        self._reading[place] -= self._uncached.pop(ask.number)

    def finished(self, place: int, ask: Ask, _now_s: float) -> None:
        self._held[place] -= ask.prompt.tokens
