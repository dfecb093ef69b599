"""How many second attempts a pool may make, so that a fleet that is failing is not also stampeded."""

# A fifth of the calls may be tried again; a short run of bad luck may be more.
PER_CALL = 0.2
MOST = 20.0


class RetryBudget:
    """Each call pays in a fifth of an attempt, each further attempt takes out a whole one.

    Needs no clock: in a quiet pool the budget is full, and in a busy one the calls themselves fill it.
    """

    def __init__(self) -> None:
        self._left: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"RetryBudget[{', '.join(f'{pool} {left:.1f}' for pool, left in self._left.items())}]"

    def pay_in(self, pool: str) -> None:
        """A call has come."""
        self._left[pool] = min(MOST, self._left.get(pool, MOST) + PER_CALL)

    def take(self, pool: str) -> bool:
        """One more attempt, if the budget has it."""
        left = self._left.get(pool, MOST)
        if left < 1.0:
            return False
        self._left[pool] = left - 1.0
        return True
