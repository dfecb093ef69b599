"""What a router believes to be cached at a server: the prompts that it has sent there, as far as it remembers."""

from collections import OrderedDict

from router.sim.prompt import Prompt


class Index:
    """Block ids of one server, the longest unused out first. `most_tokens` None: no bound; `ttl_s` None: no end."""

    def __init__(self, *, most_tokens: int | None = None, ttl_s: float | None = None) -> None:
        self._most_tokens = most_tokens
        self._ttl_s = ttl_s
        self._used_s: OrderedDict[int, float] = OrderedDict()
        self._unit_tokens = 0

    def __len__(self) -> int:
        return len(self._used_s)

    @property
    def tokens(self) -> int:
        """What it remembers, in tokens."""
        return len(self._used_s) * self._unit_tokens

    def add(self, prompt: Prompt, now_s: float, *, blocks: int | None = None) -> None:
        """Remember a prompt, or its first blocks. Its last block counts as used first, so that leaves go first."""
        used_s, self._unit_tokens = self._used_s, prompt.unit_tokens
        for id_ in reversed(prompt.ids[:blocks]):
            used_s[id_] = now_s
            used_s.move_to_end(id_)
        if self._most_tokens is not None:
            while self.tokens > self._most_tokens:
                used_s.popitem(last=False)

    def match(self, prompt: Prompt, now_s: float, *, blocks: int | None = None) -> int:
        """How many blocks of a prompt, or of its first ones, are remembered. A block never outlives those before it."""
        low, high = 0, len(prompt.ids) if blocks is None else min(blocks, len(prompt.ids))
        while low < high:
            middle = (low + high + 1) // 2
            if self._has(prompt.ids[middle - 1], now_s):
                low = middle
            else:
                high = middle - 1
        return low

    def last_used_s(self, id_: int) -> float:
        """When a block was used; it must be there."""
        return self._used_s[id_]

    def _has(self, id_: int, now_s: float) -> bool:
        used_s = self._used_s.get(id_)
        return used_s is not None and (self._ttl_s is None or used_s > now_s - self._ttl_s)
