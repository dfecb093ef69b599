"""The shape of a simulated fleet: how many servers, started how, how fast."""

import msgspec

from router.sim.front import Setup
from router.sim.server import Server
from router.sim.speed import Speed

# 8 GiB, llama-server's own default, at 96 KiB a token (Qwen3-30B-A3B with KV in f16).
RAM_TOKENS = 8192 * 1024 // 96


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """`instances` servers of `slots` slots each. `ram_tokens`: what the RAM cache of each holds; 0: none.

    `factors`: relative speeds, one after the other and again from the first; () for all alike.
    """

    instances: int
    slots: int = 4
    ram_tokens: int = RAM_TOKENS
    unified: bool = False
    factors: tuple[float, ...] = ()
    speed: Speed = Speed()

    def servers(self) -> list[Server]:
        """New servers with nothing in their caches."""
        return [
            Server(slots=self.slots, ram_tokens=self.ram_tokens, unified=self.unified, speed=self._speed(place))
            for place in range(self.instances)
        ]

    def setups(self) -> list[Setup]:
        """What the router is told of each. Of speeds nothing: it learns them."""
        return [Setup(slots=self.slots, ram_tokens=self.ram_tokens, unified=self.unified)] * self.instances

    def _speed(self, place: int) -> Speed:
        if not self.factors:
            return self.speed
        factor = self.factors[place % len(self.factors)] * self.speed.factor
        return msgspec.structs.replace(self.speed, factor=factor)
