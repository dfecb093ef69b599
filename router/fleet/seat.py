"""Seat: the mutable part of one instance's place in the fleet. Only the fleet and its leases write to it."""

import msgspec

from router.fleet.health import Health
from router.fleet.instance import Instance
from router.fleet.view import Row


class Closing(msgspec.Struct, frozen=True, gc=False):
    """A slot whose call is over for us, since `closed_s`.

    From `settle_from_s` on the instance's own count may free it. A call that the instance had not begun may still begin
    there, so its count means nothing at first.
    """

    closed_s: float
    settle_from_s: float


class Seat:
    """One process of one registry. A lease belongs to a seat, not to an id: a reload cannot mix two processes up.

    `closing`: its slots that are closing. `model`: what the instance called its model when it was first asked; None
    before. The leases that are held stand in the fleet's `Lease` type, which knows its seat.
    """

    __slots__ = ("closing", "model", "row")

    def __init__(self, instance: Instance) -> None:
        self.row = Row(instance=instance, health=Health(), facts=None, slots=instance.slots or 0)
        self.closing: list[Closing] = []
        self.model: str | None = None

    def __repr__(self) -> str:
        row = self.row
        return f"Seat({row.instance.id}, {row.health.state.value}, {row.busy} busy, {len(self.closing)} closing)"

    @property
    def in_use(self) -> bool:
        """Calls of ours run there, or may."""
        return self.row.busy > 0 or bool(self.closing)
