"""Seat: the mutable part of one instance's place in the fleet. Only the fleet and its leases write to it."""

from router.fleet.closing import Closing
from router.fleet.health import Health
from router.fleet.instance import Instance
from router.fleet.view import Row


class Seat:
    """One process of one registry. A lease belongs to a seat, not to an id: a reload cannot mix two processes up.

    `closing`: its slots that are closing. `model`: what the instance called its model when it was first asked; None
    before. `trials`: how often it was put on probation; leases of an earlier number, `carried` of them, were held then.
    The leases that are held stand in the fleet's `Lease` type, which knows its seat.
    """

    __slots__ = ("carried", "closing", "model", "row", "trials")

    def __init__(self, instance: Instance) -> None:
        self.row = Row(instance=instance, health=Health(), facts=None, slots=instance.slots or 0)
        self.closing: list[Closing] = []
        self.model: str | None = None
        self.trials = self.carried = 0

    def __repr__(self) -> str:
        row = self.row
        return f"Seat({row.instance.id}, {row.health.state.value}, {row.busy} busy, {len(self.closing)} closing)"

    @property
    def in_use(self) -> bool:
        """Calls of ours run there, or may."""
        return self.row.busy > 0 or bool(self.closing)
