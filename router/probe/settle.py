"""Watch an instance until none of its slots is closing any more."""

import asyncio
from collections.abc import Callable

from router.clock import monotonic_s
from router.fleet.fleet import Fleet
from router.fleet.health import State
from router.fleet.instance import Instance
from router.fleet.view import Row
from router.probe.look import Felt, Looker

# While slots are closing the instance is asked this often whether they are free, and as long after it has answered its
# answer is weighed: the end of a call that was over by then has come to us in between.
CLOSING_EVERY_S = 0.15


class Settler:
    """Frees the closing slots of an instance, by what it says."""

    def __init__(
        self, fleet: Fleet, *, looker: Callable[[Instance], Looker | None], changed: Callable[[], None]
    ) -> None:
        """`looker` gives the one that looks at this process now; None: nobody does, and only time frees its slots."""
        self._fleet = fleet
        self._looker = looker
        self._changed = changed

    def __repr__(self) -> str:
        return f"Settler({self._fleet!r})"

    async def settle(self, instance: Instance) -> None:
        """Go on until no slot is closing at this process, whatever it is called by then."""
        fleet = self._fleet
        while row := self._closing(instance):
            asked = fleet.asking(row.instance.id, monotonic_s())
            felt = await self._feel(row)
            await asyncio.sleep(CLOSING_EVERY_S)
            id_, pulse = fleet.id_of(instance), felt.pulse
            if id_ is not None and fleet.settle_closing(
                id_,
                monotonic_s(),
                asked=asked,
                processing=pulse.calls if pulse is not None else None,
                decodes=pulse.decodes if pulse is not None else None,
                mute=felt.mute,
            ):
                self._changed()

    def _closing(self, instance: Instance) -> Row | None:
        """Its row, while slots are closing there."""
        id_ = self._fleet.id_of(instance)
        row = self._fleet.view.rows[id_] if id_ is not None else None
        return row if row is not None and row.closing else None

    async def _feel(self, row: Row) -> Felt:
        # Who sleeps has no call, and some questions would wake it.
        if row.health.state is State.SLEEPING or (row.facts is not None and row.facts.sleeping):
            return Felt(mute=True)
        looker = self._looker(row.instance)
        return await looker.pulse() if looker is not None else Felt()
