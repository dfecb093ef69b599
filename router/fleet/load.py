"""How long a call holds a slot, learned per pool: what a waiting caller is told is made of it."""

import math


class HoldTimes:
    """A mean that forgets: each new call counts for a tenth, so that about the last twenty matter.

    None until the first call of a pool is over: nothing is promised from nothing.
    """

    _WEIGHT = 0.1

    def __init__(self) -> None:
        self._mean_s: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"HoldTimes[{', '.join(f'{pool} {mean_s:.2f} s' for pool, mean_s in self._mean_s.items())}]"

    def observe(self, pool: str, held_s: float) -> None:
        """A call gave its slot back after `held_s`."""
        mean_s = self._mean_s.get(pool)
        self._mean_s[pool] = held_s if mean_s is None else mean_s + self._WEIGHT * (held_s - mean_s)

    def wait_s(self, pool: str, *, ahead: int, slots: int) -> float | None:
        """Predict the wait of a call behind `ahead` others when every one of `slots` is taken.

        The slots give out one place every mean/slots seconds. None: not known, or no slot at all.
        """
        mean_s = self._mean_s.get(pool)
        if mean_s is None or slots <= 0:
            return None
        return (ahead + 1) * mean_s / slots


def retry_after_s(wait_s: float | None, *, default_s: int = 5) -> int:
    """Whole seconds from 1 to 30, rounded up; `default_s` when nothing is known."""
    return default_s if wait_s is None else min(30, max(1, math.ceil(wait_s)))
