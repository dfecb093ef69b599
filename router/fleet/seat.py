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


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What we knew when an instance was asked how much it processes; its answer is weighed against that.

    `began`: how many of our calls had ever begun there.
    """

    at_s: float
    began: int


class Seat:
    """One process of one registry. A lease belongs to a seat, not to an id: a reload cannot mix two processes up.

    `began`, `ended`: how many of our calls the instance has ever started, and how many of those are over. `unread`:
    calls whose answer we do not read at present, because the client is slower; they may be over at the instance.
    `closing`: its slots that are closing. `model`: what the instance called its model when it was first asked; None
    before.
    """

    __slots__ = ("began", "closing", "ended", "model", "row", "unread")

    def __init__(self, instance: Instance) -> None:
        self.row = Row(instance=instance, health=Health(), facts=None, slots=instance.slots or 0)
        self.began = self.ended = self.unread = 0
        self.closing: list[Closing] = []
        self.model: str | None = None

    def __repr__(self) -> str:
        began = self.began - self.ended
        return f"Seat({self.row.instance.id}, {self.row.health.state.value}, {self.row.busy} busy, {began} begun)"

    @property
    def in_use(self) -> bool:
        """Calls of ours run there, or may."""
        return self.row.busy > 0 or bool(self.closing)
