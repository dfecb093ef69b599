"""Words in the place of a trace's blocks: nothing is known of the text, but equal blocks are equal text.

Each word is one token of the model's vocabulary with a space before it, so that so many words are so many tokens.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

WORDS = 2048
# Short ones, so that a token has about as many bytes as in code: 4.5.
_WORD = re.compile(r"\u0120([a-z]{2,4})")


def vocabulary(tokens: Iterable[str]) -> list[str]:
    """Return WORDS words out of a byte-level BPE vocabulary, in its order: the first were merged first.

    Raises:
        ValueError: it has not so many.

    """
    words = [" " + found[1] for token in tokens if (found := _WORD.fullmatch(token))][:WORDS]
    if len(words) < WORDS:
        raise ValueError(f"the vocabulary has only {len(words)} short words")
    return words


class Filler:
    """Blocks' words, made when first asked for and kept."""

    def __init__(self, words: Sequence[str], words_per_block: int) -> None:
        self.words_per_block = words_per_block
        self._words = words
        self._made: dict[tuple[str, int], tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"Filler[{len(self._made)} blocks of {self.words_per_block} words]"

    def block(self, key: str, number: int) -> tuple[str, ...]:
        """Return the words of block `number` of the text that is called `key`."""
        known = self._made.get((key, number))
        if known is None:
            known = self._made[key, number] = self._make(f"{key}:{number}")
        return known

    def text(self, key: str, numbers: Iterable[int]) -> list[str]:
        """Return the words of several blocks, one after the other."""
        out: list[str] = []
        for number in numbers:
            out += self.block(key, number)
        return out

    def _make(self, name: str) -> tuple[str, ...]:
        bits = hashlib.shake_128(name.encode()).digest(2 * self.words_per_block)
        places = (int.from_bytes(bits[at : at + 2]) for at in range(0, len(bits), 2))
        return tuple([self._words[place % len(self._words)] for place in places])
