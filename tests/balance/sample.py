"""Prompts and caches for the tests of this room, each written as a word: a letter is a unit of 1,000 tokens."""

from router.balance.chain import HEAD_BYTES, Chain, chain
from router.balance.kv import Contents, Entry, Prompt
from router.balance.tokens import BYTES_PER_TOKEN, Tokens

UNIT_TOKENS = 1000
SEED = 7


def spell(word: str) -> Chain:
    """A prompt of these units. Words that begin alike share that much, and not a byte of the next unit."""
    size = int(UNIT_TOKENS * BYTES_PER_TOKEN)
    return chain(SEED, [letter.encode() * size for letter in word])


def entry(word: str, *, answer: int = 0, session: int = 1, used_s: float = 0.0) -> Entry:
    """What is left of a call with this prompt, and of an answer with so many tokens."""
    tokens = float(UNIT_TOKENS * len(word))
    return Entry(chain=spell(word), session=session, prompt_tokens=tokens, tokens=tokens + answer, used_s=used_s)


def ask(word: str, tokens: Tokens | None = None, *, session: int = 1, now_s: float = 0.0) -> Prompt:
    """A call with this prompt that looks for a slot; `tokens`: of a pool that nothing is known of."""
    return Prompt(spell(word), session, tokens if tokens is not None else Tokens(), now_s)


def contents(slots: list[str | None], ram: list[str] | None = None) -> Contents:
    """Slots in the order in which they were used, the first one longest ago; the RAM cache with its oldest first."""
    held = tuple(None if word is None else entry(word, used_s=float(at)) for at, word in enumerate(slots))
    return Contents(held, tuple(entry(word) for word in ram or ()))


def words(held: Contents) -> tuple[list[str | None], list[str]]:
    """The other way round: what the slots hold, and the RAM cache."""
    return [None if one is None else word(one.chain) for one in held.slots], [word(one.chain) for one in held.ram]


def word(spelt: Chain) -> str:
    """The word that is spelt so."""
    return spelt.heads[::HEAD_BYTES].decode()
