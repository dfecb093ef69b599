"""Dice: a seeded generator of our own, the same numbers on every Python and every machine."""

from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")
_MASK = 2**64 - 1
_STEP = 0x9E3779B97F4A7C15


def mix(*numbers: int) -> int:
    """64 bits that are alike for the same numbers in the same order and for no others (SplitMix64's finalizer)."""
    word = 0
    for number in numbers:
        word = (word + number + _STEP) & _MASK
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
        word ^= word >> 31
    return word


class Dice:
    """SplitMix64 (Steele, Lea and Flood 2014): enough to draw sessions and moments with, and for nothing else."""

    def __init__(self, seed: int) -> None:
        self._state = mix(seed & _MASK)

    def __repr__(self) -> str:
        return f"Dice[at {self._state:x}]"

    def bits(self) -> int:
        """The next 64 bits."""
        self._state = (self._state + _STEP) & _MASK
        return mix(self._state)

    def uniform(self) -> float:
        """At least 0 and below 1."""
        return (self.bits() >> 11) * 2.0**-53

    def below(self, bound: int) -> int:
        """An integer of at least 0 and below `bound`, which is far below 2**64."""
        return self.bits() % bound

    def shuffled(self, items: Sequence[_T]) -> list[_T]:
        """A new list of the same items, every order as likely as any other."""
        mixed = list(items)
        for last in range(len(mixed) - 1, 0, -1):
            other = self.below(last + 1)
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed
