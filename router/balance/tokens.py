"""How many tokens a prompt has, of which only the bytes are seen: from what instances have said of others."""

from collections import OrderedDict
from typing import TypeVar

from router.balance.chain import Chain

# Until a pool's first answer. English prose has 4 to 5 with the tokenizers of today, code 3 to 4.
BYTES_PER_TOKEN = 4.0
# The first answers move the mean quickly, later ones slowly (placement-on-real-servers.md, 2.10).
_FIRST_WEIGHT, _WEIGHT, _FIRST_ANSWERS = 0.3, 0.05, 10
# Below that a template's own words weigh more than the text.
_LEAST_TOKENS = 64
# Prompts of which counts are kept: 100 bytes each.
_MOST_KNOWN = 65_536

T = TypeVar("T")


class Tokens:
    """Token counts of one pool: exact where an instance has counted up to that very unit, else by bytes."""

    def __init__(self) -> None:
        self.bytes_per_token = BYTES_PER_TOKEN
        self._answers = 0
        self._known: OrderedDict[int, int] = OrderedDict()
        self._shared: OrderedDict[int, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"Tokens[{self.bytes_per_token:.2f} bytes a token, {len(self._known)} prompts known]"

    def known(self, chain: Chain, units: int) -> int | None:
        """The tokens of the first so many units, if an instance has counted them."""
        return self._known.get(chain.ids[units - 1]) if units else 0

    def total(self, chain: Chain, units: int, tokens: float) -> float:
        """The tokens of the whole prompt, when its first `units` have so many."""
        ends = chain.ends
        if units >= len(ends):
            return tokens
        exact = self._known.get(chain.ids[-1])
        if exact is not None:
            return float(exact)
        return tokens + (ends[-1] - (ends[units - 1] if units else 0)) / self.bytes_per_token

    def shared(self, chain: Chain, units: int) -> float:
        """How many tokens of the next unit are the same although it is another one: two that differ may begin alike."""
        return self._shared.get(chain.ids[units - 1], 0.0) if units else 0.0

    def observe(self, chain: Chain, prompt_tokens: int, *, units: int, tokens: float) -> None:
        """An instance has counted the prompt; `units` of it, so many tokens, were known before."""
        _put(self._known, chain.ids[-1], prompt_tokens)
        new_tokens = prompt_tokens - tokens
        new_bytes = chain.ends[-1] - (chain.ends[units - 1] if units else 0)
        if new_tokens >= _LEAST_TOKENS and new_bytes > 0:
            weight = _FIRST_WEIGHT if self._answers < _FIRST_ANSWERS else _WEIGHT
            self._answers += 1
            self.bytes_per_token += weight * (new_bytes / new_tokens - self.bytes_per_token)

    def observe_shared(self, chain: Chain, units: int, more_tokens: float) -> None:
        """So many more were found warm than the common units have.

        Believed if the next unit can have them: then it is another one that begins alike, as system prompts do of which
        only the end is a conversation's own.
        """
        if not 0 < units < len(chain.ids):
            return
        size = (chain.ends[units] - chain.ends[units - 1]) / self.bytes_per_token
        if 0.0 <= more_tokens <= size + _LEAST_TOKENS:
            _put(self._shared, chain.ids[units - 1], more_tokens)


def _put(table: "OrderedDict[int, T]", id_: int, value: T) -> None:
    table[id_] = value
    table.move_to_end(id_)
    if len(table) > _MOST_KNOWN:
        table.popitem(last=False)
