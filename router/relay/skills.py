"""What each instance can do, worked out once for as long as the registry and /props say the same of it."""

from router.clock import monotonic_s
from router.fleet.instance import Facts, Instance, InstanceId, Process
from router.fleet.view import Row
from router.translate.fidelity import Abilities, abilities

# How long an instance that lacks a route is not asked for it again.
LACKING_S = 30.0


class Skills:
    """Equal abilities are one object, so that a call which asks about many instances asks about each kind once."""

    def __init__(self) -> None:
        self._known: dict[InstanceId, tuple[Instance, Facts | None, Abilities]] = {}
        self._lacking: dict[tuple[Process, bytes], float] = {}
        self._kinds: dict[Abilities, Abilities] = {}

    def __repr__(self) -> str:
        return f"Skills[{len(self._known)} instances, {len(self._kinds)} kinds]"

    def of(self, row: Row) -> Abilities:
        """Say what the instance of this row can do."""
        known = self._known.get(row.instance.id)
        if known is not None and known[0] is row.instance and known[1] is row.facts:
            return known[2]
        can = abilities(row.instance, row.facts)
        can = self._kinds.setdefault(can, can)
        self._known[row.instance.id] = row.instance, row.facts, can
        return can

    def lacks(self, row: Row, path: bytes) -> bool:
        """It has said a short while ago that it does not have this route."""
        return self._lacking.get((row.instance.process, path), 0.0) > monotonic_s()

    def lacking(self, row: Row, path: bytes) -> None:
        """Remember for `LACKING_S` that it does not have this route; it may be started anew with it."""
        self._lacking[row.instance.process, path] = monotonic_s() + LACKING_S

    def forget(self, gone: list[InstanceId]) -> None:
        """Drop what a reload has taken away."""
        self._lacking.clear()
        for id_ in gone:
            self._known.pop(id_, None)
