"""What policy may see: one frozen row per instance, and the pools."""

from collections.abc import Mapping

import msgspec

from router.fleet.health import Health, State
from router.fleet.instance import Facts, Instance, InstanceId
from router.fleet.registry import Registry


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One instance as it is now. `slots` 0: not known yet, so it takes no call."""

    instance: Instance
    health: Health
    facts: Facts | None
    slots: int
    busy: int = 0

    @property
    def serving(self) -> bool:
        """It is well and its number of slots is known."""
        return self.health.state is State.SERVING and self.slots > 0

    @property
    def free(self) -> int:
        """Slots that a new call could have; 0 unless it is serving."""
        return max(0, self.slots - self.busy) if self.serving else 0

    @property
    def busy_share(self) -> float:
        """0 when idle, 1 when every slot is leased."""
        return self.busy / self.slots if self.slots else 1.0


class FleetView(msgspec.Struct, frozen=True):
    """The fleet for those who only look. `rows` is live, each row in it is frozen: a change replaces one row.

    Nobody may keep a row across an `await` and act on it: the lease is the authority.
    """

    registry: Registry
    rows: Mapping[InstanceId, Row]

    def pool_rows(self, pool: str) -> list[Row]:
        """The rows of one pool, in the file's order."""
        rows = self.rows
        return [rows[id_] for id_ in self.registry.pools[pool].instance_ids]
