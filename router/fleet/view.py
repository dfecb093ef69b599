"""What policy may see: one frozen row per instance, and the pools."""

from collections.abc import Mapping, Sequence

import msgspec

from router.fleet.health import Health, State
from router.fleet.instance import Facts, Instance, InstanceId
from router.fleet.registry import Registry


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One instance as it is now. `slots` 0: not known yet, so it takes no call.

    `busy`: slots under a lease. `closing`: slots whose call is over for us and may not yet be for the instance.
    `carried`: how many of both are from before its probation; 0 when it is on none.
    """

    instance: Instance
    health: Health
    facts: Facts | None
    slots: int
    busy: int = 0
    closing: int = 0
    carried: int = 0

    @property
    def serving(self) -> bool:
        """It may be sent calls, and its number of slots is known."""
        return self.slots > 0 and self.health.takes_calls

    @property
    def free(self) -> int:
        """Slots that a new call could have; 0 unless it is serving. On probation one, beside those carried into it."""
        if not self.serving:
            return 0
        slots = min(self.slots, 1 + self.carried) if self.health.state is State.PROBATION else self.slots
        return max(0, slots - self.busy - self.closing)

    @property
    def busy_share(self) -> float:
        """0 when idle, 1 when every slot is taken."""
        return (self.busy + self.closing) / self.slots if self.slots else 1.0


class FleetView(msgspec.Struct, frozen=True):
    """The fleet for those who only look. `rows` is live, each row in it is frozen: a change replaces one row.

    `members`: the instances of each pool as they are now; it differs from the registry while an instance serves another
    model than it is listed under. Nobody may keep a row across an `await` and act on it: the lease is the authority.
    """

    registry: Registry
    rows: Mapping[InstanceId, Row]
    members: Mapping[str, Sequence[InstanceId]]

    def pool_rows(self, pool: str) -> list[Row]:
        """The rows of one pool, in the file's order; none when a reload has taken the pool away."""
        rows = self.rows
        return [rows[id_] for id_ in self.members.get(pool, ())]
