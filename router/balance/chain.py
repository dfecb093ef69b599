"""A prompt as a chain of digests, one a unit: where two chains hold the same id, all before it is equal, too.

The router sees no tokens. It sees the pieces that a chat template prints one after the other (balance.units), and a
KV cache is of use up to the first piece that differs.
"""

from array import array
from collections.abc import Iterable
from itertools import accumulate

import msgspec
import xxhash

HEAD_BYTES = 16
# A long unit is cut, so that two that begin alike share something: a file that was read again, a pasted log.
LONGEST_UNIT_BYTES = 4096
PIECE_BYTES = 2048

_digest = xxhash.xxh3_64_intdigest
_NO_SEED = 0


class Chain(msgspec.Struct, frozen=True, gc=False):
    """A prompt. `ids`, `ends` and `heads` have one entry for each unit; a prompt has at least one."""

    ids: "array[int]"
    """Of 64 bits each (`Q`): the digest of the unit, seeded by the id before it."""
    ends: "array[int]"
    """The bytes of the prompt up to the end of each unit (`Q`)."""
    heads: bytes
    """The first HEAD_BYTES of each unit, zeros where it is shorter: what equal ids cannot tell of units that differ."""

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Chain[{len(self.ids)} units, {self.size_bytes} bytes]"

    @property
    def size_bytes(self) -> int:
        """Of the whole prompt; 0 where nothing is known of it."""
        return self.ends[-1] if self.ends else 0

    def first(self, units: int) -> "Chain":
        """The chain of the prompt that ends after so many units."""
        return Chain(self.ids[:units], self.ends[:units], self.heads[: HEAD_BYTES * units])


def chain(seed: int, units: Iterable[bytes]) -> Chain:
    """Digest a prompt. `seed`, 64 bits: what else decides over the tokens; prompts of other seeds share nothing.

    Units of more than 4 KiB become several of 2 KiB, so that ids and units need not correspond.
    """
    ids: list[int] = []
    sizes: list[int] = []
    heads: list[bytes] = []
    digest, add_id, add_size, add_head = _digest, ids.append, sizes.append, heads.append
    before = seed
    for unit in units:
        size = len(unit)
        if size <= LONGEST_UNIT_BYTES:
            before = digest(unit, before)
            add_id(before)
            add_size(size)
            add_head(unit[:HEAD_BYTES])
            continue
        for start in range(0, size, PIECE_BYTES):
            piece = unit[start : start + PIECE_BYTES]
            before = digest(piece, before)
            add_id(before)
            add_size(len(piece))
            add_head(piece[:HEAD_BYTES])
    return Chain(array("Q", ids), array("Q", accumulate(sizes)), _padded(heads))


def _padded(heads: list[bytes]) -> bytes:
    return b"".join([head if len(head) == HEAD_BYTES else head.ljust(HEAD_BYTES, b"\0") for head in heads])


def common(one: Chain, other: Chain, hint: int = 0) -> int:
    """How many units both begin with. `hint`: a number that is likely, as it was the answer for a prompt like these."""
    mine, theirs = one.ids, other.ids
    low, high = 0, min(len(mine), len(theirs))  # so many are equal; more than so many cannot be
    if high and mine[high - 1] == theirs[high - 1]:
        return high
    if 0 < hint < high:
        if mine[hint - 1] != theirs[hint - 1]:
            high = hint - 1
        elif mine[hint] != theirs[hint]:
            return hint
        else:
            low = hint + 1
    while low < high:
        middle = (low + high + 1) // 2
        if mine[middle - 1] == theirs[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low


def opaque(number: int) -> Chain:
    """A prompt of which nothing is known: equal to itself alone, of no size. `number`, 64 bits, is its own."""
    name = number.to_bytes(8, "big")
    return Chain(array("Q", [_digest(name, _NO_SEED)]), array("Q", [0]), xxhash.xxh3_128_digest(name))
