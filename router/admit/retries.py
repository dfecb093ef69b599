"""How many second attempts a pool may make, so that a fleet that is failing is not also stampeded."""

# A fifth of the calls may be tried again; a short run of bad luck may be more.
PER_CALL = 0.2
MOST = 20.0
_ROUNDING = 1e-6


class RetryBudget:
    """Each call pays in a fifth of an attempt, each further attempt takes out a whole one.

    A full budget has an attempt for each slot of the pool, 20 at least: when an instance dies, as many calls as it had
    slots fail at once, through no fault of theirs, and each of them may move. Even if the instances of a pool die one
    after another, all but the last, fewer calls move than the pool has slots. Attempts are never more than 1.2 times
    the calls and one full budget.

    Needs no clock: in a quiet pool the budget is full, and in a busy one the calls themselves fill it.
    """

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"RetryBudget[{', '.join(f'{pool} {spent:.1f} spent' for pool, spent in self._spent.items())}]"

    def pay_in(self, pool: str) -> None:
        """A call has come."""
        self._spent[pool] = max(0.0, self._spent.get(pool, 0.0) - PER_CALL)

    def take(self, pool: str, *, slots: int = 0) -> bool:
        """One more attempt, if the budget has it. `slots`: the pool's, those of instances that are out too."""
        spent = self._spent.get(pool, 0.0) + 1.0
        if spent > max(MOST, slots) + _ROUNDING:
            return False
        self._spent[pool] = spent
        return True
