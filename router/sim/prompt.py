"""Prompts as chains of blocks: which tokens they are is not known, only how far any two of them are alike."""

from array import array
from collections.abc import Iterable

import msgspec

from router.sim.dice import mix

Ids = array  # of 'Q': equal at one place means equal at all places before it
_HALF = 2**63 - 1


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """A prompt of `tokens` tokens. `ids`: one for each block of `unit_tokens`.

    What is left after the last full block has an id of its own where the trace gives one, else none and so equals
    nothing.
    """

    ids: "array[int]"
    tokens: int
    unit_tokens: int


def common(one: "array[int]", other: "array[int]") -> int:
    """How many blocks are alike from the beginning. Ids are chained, so a binary search finds it."""
    high = min(len(one), len(other))
    if not high or one[0] != other[0]:
        return 0
    if one[high - 1] == other[high - 1]:
        return high
    low = 1
    while low < high:
        middle = (low + high) // 2
        if one[middle] == other[middle]:
            low = middle + 1
        else:
            high = middle
    return low


def chained(runs: Iterable[tuple[int, int]], key: int) -> "array[int]":
    """Block ids of a conversation from runs (first block number, how many) in the conversation's own numbering.

    Two prompts chained under the same `key` are alike exactly as far as their runs are: an id tells all that stands
    before it. Ids of other keys do not meet (63 bits).
    """
    ids = array("Q")
    for first, count in runs:
        key = mix(key, len(ids), first) & _HALF
        ids.extend(range(key, key + count))
    return ids
