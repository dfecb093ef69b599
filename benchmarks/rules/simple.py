"""The rules that every load balancer has: round robin, least in flight, the better of two, a hash of the session."""

from benchmarks.rules.rule import Loads, Rule, least
from router.sim.dice import Dice, mix
from router.sim.talk import Ask


class RoundRobin(Rule):
    """One after the other."""

    def __init__(self, _dice: Dice) -> None:
        self._count = -1

    def pick(self, _ask: Ask, loads: Loads, _now_s: float) -> int:
        self._count += 1
        return self._count % len(loads)


class LeastInFlight(Rule):
    """HAProxy's leastconn, Paddler, Olla and llama-swap, as far as they can see slots."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice

    def pick(self, _ask: Ask, loads: Loads, _now_s: float) -> int:
        return least(loads.in_flight, self._dice)


class PowerOfTwo(Rule):
    """Two different servers by dice, the one with fewer calls in flight (Mitzenmacher 2001)."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice

    def pick(self, _ask: Ask, loads: Loads, _now_s: float) -> int:
        if len(loads) == 1:
            return 0
        one = self._dice.below(len(loads))
        other = (one + 1 + self._dice.below(len(loads) - 1)) % len(loads)
        return min((one, other), key=lambda place: loads.in_flight[place])


class SessionHash(Rule):
    """Rendezvous hash of the session: HAProxy's `balance hdr` and the like."""

    def __init__(self, _dice: Dice) -> None:
        pass

    def pick(self, ask: Ask, loads: Loads, _now_s: float) -> int:
        return max(range(len(loads)), key=lambda place: mix(ask.session, place))
