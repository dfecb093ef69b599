"""Ask every instance how it is, again and again, and tell the fleet.

A look is GET /health and GET /props, and /metrics while calls run there, to see that something is being decoded.
"""

import asyncio
import logging
from collections.abc import Callable

from router.clock import monotonic_s
from router.config.schema import PollRules
from router.errors import RouterError, UpstreamTimedOut
from router.fleet.fleet import Fleet
from router.fleet.health import Event, State
from router.fleet.instance import Instance, InstanceId
from router.observe.supervise import Supervisor
from router.probe.look import Looker
from router.probe.stuck import StuckWatch

_log = logging.getLogger("llama_router")

Died = Callable[[InstanceId, Callable[[], RouterError]], None]

# After a look that ran out of time the next one comes at once: two make a dead instance, and calls are waiting.
AGAIN_S = 0.1
# While slots are closing the instance is asked this often whether they are free.
CLOSING_EVERY_S = 0.15


class Poll:
    """One supervised loop per instance."""

    def __init__(self, fleet: Fleet, rules: PollRules, *, changed: Callable[[], None], died: Died) -> None:
        """`changed` is called after every change of the fleet; `died` when an instance goes out."""
        self._fleet = fleet
        self._rules = rules
        self._changed = changed
        self._died = died
        self._supervisor: Supervisor | None = None
        self._wake: dict[InstanceId, asyncio.Event] = {}
        self._lookers: dict[InstanceId, Looker] = {}

    def __repr__(self) -> str:
        return f"Poll[{len(self._wake)} instances, every {self._rules.every_s:g} s]"

    def start(self, supervisor: Supervisor) -> None:
        """Look at every instance of the fleet from now on."""
        self._supervisor = supervisor
        for row in self._fleet.view.rows.values():
            self._start(row.instance)

    def adopt(self, rules: PollRules, new: list[Instance], gone: list[InstanceId]) -> None:
        """Follow a reload: stop looking at what is gone, begin with what is new."""
        everybody = rules != self._rules
        self._rules = rules
        for id_ in gone:
            self._stop(id_)
        for instance in [row.instance for row in self._fleet.view.rows.values()] if everybody else new:
            self._start(instance)

    def suspect(self, instance_id: InstanceId) -> None:
        """Look at an instance now: a call has seen something odd."""
        if event := self._wake.get(instance_id):
            event.set()

    def observe(self, instance_id: InstanceId, event: Event) -> None:
        """Tell the fleet what was seen, by a look or by a call, and the others if that changed anything."""
        before, after = self._fleet.observe(instance_id, event, monotonic_s())
        if before is after:
            return
        _log.info("instance %s: %s -> %s (%s)", instance_id, before.value, after.value, event.value)
        if after is State.EJECTED:
            self._died(
                instance_id,
                lambda: UpstreamTimedOut(f"instance {instance_id} stopped answering", instance_id=instance_id),
            )
        self._changed()

    def closing(self, instance_id: InstanceId) -> None:
        """Watch an instance until none of its slots is closing any more."""
        name = f"closing {instance_id}"
        if self._supervisor is not None and not self._supervisor.running(name):
            self._supervisor.start(name, lambda: self._settle(instance_id), kind="closing")

    # ------------------------------------------------------------ the loops

    def _start(self, instance: Instance) -> None:
        if self._supervisor is None:
            return
        self._wake[instance.id] = asyncio.Event()
        self._supervisor.start(f"poll {instance.id}", lambda: self._watch(instance), kind="poll")

    def _stop(self, instance_id: InstanceId) -> None:
        self._wake.pop(instance_id, None)
        if self._supervisor is not None:
            self._supervisor.stop(f"poll {instance_id}")

    async def _watch(self, instance: Instance) -> None:
        wake = self._wake[instance.id]
        looker = self._lookers[instance.id] = Looker(instance, self._rules)
        stuck = StuckWatch()
        try:
            while True:
                wake.clear()
                event = await self._look(looker, instance, stuck)
                pause_s = AGAIN_S if event is Event.TIMED_OUT else self._rules.every_s
                try:
                    async with asyncio.timeout(pause_s):
                        await wake.wait()
                except TimeoutError:
                    pass
        finally:
            self._lookers.pop(instance.id, None)
            await looker.aclose()

    async def _look(self, looker: Looker, instance: Instance, stuck: StuckWatch) -> Event:
        event = await looker.health()
        if event is Event.ANSWERED:
            event = await self._facts(looker, instance)
        self.observe(instance.id, event)
        row = self._fleet.view.rows.get(instance.id)
        if event is Event.ANSWERED and row is not None and row.busy:
            pulse = await looker.pulse()
            if pulse is not None and stuck.look(pulse, monotonic_s()):
                _log.warning("instance %s: slots are busy and nothing is decoded", instance.id)
                self.observe(instance.id, Event.STUCK)
        return event

    async def _facts(self, looker: Looker, instance: Instance) -> Event:
        """Read /props; what it says of the model decides what kind of well it is."""
        status, facts = await looker.props()
        row = self._fleet.view.rows.get(instance.id)
        if facts is not None:
            return self._fleet.learn(instance.id, facts)
        if row is not None and row.slots:
            return Event.ANSWERED
        if status in {401, 403}:
            _log.warning("instance %s wants a key for /props: set its api_key in the registry", instance.id)
        elif status:
            _log.warning("instance %s does not say how many slots it has: set slots in the registry", instance.id)
        return Event.BROKE

    async def _settle(self, instance_id: InstanceId) -> None:
        while True:
            await asyncio.sleep(CLOSING_EVERY_S)
            row = self._fleet.view.rows.get(instance_id)
            if row is None or not row.closing:
                return
            looker = self._lookers.get(instance_id)
            asleep = row.health.state is State.SLEEPING
            pulse = await looker.pulse() if looker is not None and not asleep else None
            processing = pulse.processing if pulse is not None else None
            if self._fleet.settle_closing(instance_id, monotonic_s(), processing=processing):
                self._changed()
