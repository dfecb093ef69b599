"""Fleet: the only mutable holder of what the instances are doing. Synchronous; each method takes the time it needs."""

import msgspec

from router.fleet.health import Event, Health, State, step
from router.fleet.instance import Facts, InstanceId
from router.fleet.registry import Registry
from router.fleet.view import FleetView, Row


class Lease:
    """Our claim on one slot of one instance. Whoever holds it gives it back once, on every path."""

    __slots__ = ("_fleet", "instance_id")

    def __init__(self, fleet: "Fleet", instance_id: InstanceId) -> None:
        self._fleet: Fleet | None = fleet
        self.instance_id = instance_id

    def __repr__(self) -> str:
        return f"Lease({self.instance_id}, {'held' if self._fleet else 'given back'})"

    def give_back(self) -> None:
        """Free the slot. Doing it twice is harmless: the second time does nothing."""
        if self._fleet is not None:
            self._fleet.take_back(self.instance_id)
            self._fleet = None


class Fleet:
    """Health, facts and leases of every instance.

    A lease is granted here and nowhere else, so that no instance ever has more calls than slots.
    """

    def __init__(self, registry: Registry) -> None:
        self._rows: dict[InstanceId, Row] = {
            id_: Row(instance=instance, health=Health(), facts=None, slots=instance.slots or 0)
            for id_, instance in registry.instances.items()
        }
        self.view = FleetView(registry=registry, rows=self._rows)

    def __repr__(self) -> str:
        rows = ", ".join(f"{id_} {row.health.state.value} {row.busy}/{row.slots}" for id_, row in self._rows.items())
        return f"Fleet[{rows}]"

    def lease(self, instance_id: InstanceId) -> Lease | None:
        """Claim a slot; None when the instance has none free, does not serve, or is not ours (any more)."""
        row = self._rows.get(instance_id)
        if row is None or row.free <= 0:
            return None
        self._set_busy(row, row.busy + 1)
        return Lease(self, instance_id)

    def take_back(self, instance_id: InstanceId) -> None:
        """Only for `Lease.give_back`."""
        row = self._rows.get(instance_id)
        if row is not None:
            self._set_busy(row, row.busy - 1)

    def observe(self, instance_id: InstanceId, event: Event, now_s: float) -> tuple[State, State]:
        """Apply what was seen of an instance; returns its state before and after."""
        row = self._rows[instance_id]
        health = step(row.health, event, now_s)
        if health is not row.health:
            self._rows[instance_id] = msgspec.structs.replace(row, health=health)
        return row.health.state, health.state

    def learn(self, instance_id: InstanceId, facts: Facts) -> None:
        """Take what /props says. The registry's `slots` wins over the instance's own count."""
        row = self._rows[instance_id]
        slots = row.instance.slots or facts.slots
        if row.facts != facts or row.slots != slots:
            self._rows[instance_id] = msgspec.structs.replace(row, facts=facts, slots=slots)

    def _set_busy(self, row: Row, busy: int) -> None:
        # Built by hand: structs.replace costs four times as much, and this runs twice a call.
        self._rows[row.instance.id] = Row(
            instance=row.instance, health=row.health, facts=row.facts, slots=row.slots, busy=busy
        )
