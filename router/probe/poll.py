"""Ask every instance how it is, again and again, and tell the fleet.

A look is GET /health and GET /props, and /metrics while calls run there, to see that something is being decoded.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable

from router.clock import monotonic_s
from router.config.schema import PollRules
from router.errors import RouterError, UpstreamTimedOut
from router.fleet.fleet import Fleet
from router.fleet.health import Event, State
from router.fleet.instance import Instance, InstanceId
from router.observe.supervise import Supervisor
from router.probe.look import Felt, Looker
from router.probe.stuck import StuckWatch

_log = logging.getLogger("llama_router")

Died = Callable[[InstanceId, Callable[[], RouterError]], None]

# After a look that ran out of time the next one comes at once: two make a dead instance, and calls are waiting.
AGAIN_S = 0.1
SILENT_IS_DEAD = 2
# While slots are closing the instance is asked this often whether they are free.
CLOSING_EVERY_S = 0.15


class Poll:
    """One supervised loop per instance."""

    def __init__(
        self,
        fleet: Fleet,
        rules: PollRules,
        *,
        changed: Callable[[], None],
        died: Died,
        runs_at: Callable[[InstanceId], bool],
    ) -> None:
        """`changed` is called after every change of the fleet; `died` when an instance goes out.

        `runs_at`: whether calls of ours run at an instance, also at one that a reload has taken away.
        """
        self._runs_at = runs_at
        self._fleet = fleet
        self._rules = rules
        self._changed = changed
        self._died = died
        self._supervisor: Supervisor | None = None
        self._started: dict[InstanceId, Instance] = {}
        self._numbers = itertools.count(1)
        self._wake: dict[InstanceId, asyncio.Event] = {}
        self._said: dict[InstanceId, str] = {}
        self._lookers: dict[InstanceId, Looker] = {}

    def __repr__(self) -> str:
        return f"Poll[{len(self._wake)} instances, every {self._rules.every_s:g} s]"

    def start(self, supervisor: Supervisor) -> None:
        """Look at every instance of the fleet from now on."""
        self._supervisor = supervisor
        for row in self._fleet.view.rows.values():
            self._start(row.instance)

    def adopt(self, rules: PollRules, gone: list[InstanceId]) -> None:
        """Follow a reload: begin with what is new or is reached in another way; let go of what is gone.

        A loop whose instance is gone goes on while calls run there: nobody else would notice that it has died.
        """
        everybody = rules != self._rules
        self._rules = rules
        for id_ in gone:
            self._started.pop(id_, None)
            self.suspect(id_)
        for id_, row in self._fleet.view.rows.items():
            if everybody or self._started.get(id_) != row.instance:
                self._start(row.instance)

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
            self._tell_dead(instance_id)
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
        self._started[instance.id] = instance
        self._wake[instance.id] = asyncio.Event()
        self._supervisor.start(f"poll {instance.id} #{next(self._numbers)}", lambda: self._watch(instance), kind="poll")

    def _is_over(self, instance: Instance) -> bool:
        """Another loop looks at it now, or it is gone and nothing of ours runs there."""
        now = self._started.get(instance.id)
        if now is None or not now.same_process(instance):
            return not self._runs_at(instance.id)
        return now is not instance

    async def _watch(self, instance: Instance) -> None:
        looker = Looker(instance, self._rules)
        self._lookers.setdefault(instance.id, looker)
        stuck = StuckWatch()
        silent = 0
        try:
            while not self._is_over(instance):
                ours = self._started.get(instance.id) is instance
                if ours:
                    self._lookers[instance.id] = looker
                    self._wake[instance.id].clear()
                event = await self._look(looker, instance, stuck)
                silent = silent + 1 if event in {Event.TIMED_OUT, Event.REFUSED} else 0
                self._mourn(instance.id, event, silent)
                await self._pause(instance.id if ours else None, AGAIN_S if event is Event.TIMED_OUT else None)
        finally:
            if self._lookers.get(instance.id) is looker:
                del self._lookers[instance.id]

    async def _pause(self, instance_id: InstanceId | None, pause_s: float | None) -> None:
        try:
            async with asyncio.timeout(self._rules.every_s if pause_s is None else pause_s):
                if instance_id is None:
                    await asyncio.sleep(self._rules.every_s)
                else:
                    await self._wake[instance_id].wait()
        except TimeoutError:
            pass

    def _mourn(self, instance_id: InstanceId, event: Event, silent: int) -> None:
        """End what waits at a dead instance that takes no calls anyway, and so changes no state by dying."""
        row = self._fleet.view.rows.get(instance_id)
        if (row is None or row.health.state is State.DRAINING) and (event is Event.REFUSED or silent >= SILENT_IS_DEAD):
            self._tell_dead(instance_id)

    def _tell_dead(self, instance_id: InstanceId) -> None:
        self._died(
            instance_id,
            lambda: UpstreamTimedOut(f"instance {instance_id} stopped answering", instance_id=instance_id),
        )

    async def _look(self, looker: Looker, instance: Instance, stuck: StuckWatch) -> Event:
        event = await looker.health()
        if event is Event.ANSWERED:
            event = await self._facts(looker, instance)
        if self._started.get(instance.id) is not instance:
            return event  # what is called by this id now is another process, or nothing
        self.observe(instance.id, event)
        row = self._fleet.view.rows.get(instance.id)
        if row is None or not row.busy:
            stuck.rest()
        elif event is Event.ANSWERED:
            felt = await looker.pulse()
            if felt.pulse is not None and stuck.look(felt.pulse, monotonic_s()):
                _log.warning("instance %s: slots are busy and nothing is decoded", instance.id)
                self.observe(instance.id, Event.STUCK)
        return event

    async def _facts(self, looker: Looker, instance: Instance) -> Event:
        """Read /props; what it says of the model decides what kind of well it is."""
        page, facts = await looker.props()
        if self._started.get(instance.id) is not instance:
            return Event.ANSWERED
        if facts is not None:
            self._said.pop(instance.id, None)
            return self._fleet.learn(instance.id, facts)
        if page.status == 0:
            return page.event
        row = self._fleet.view.rows.get(instance.id)
        if row is not None and row.slots:
            return Event.ANSWERED
        if page.status in {401, 403}:
            self._say(instance.id, "wants a key for /props: set its api_key in the registry")
        else:
            self._say(instance.id, "does not say how many slots it has: set slots in the registry")
        return Event.BROKE

    def _say(self, instance_id: InstanceId, what: str) -> None:
        """Warn once, not at every look."""
        if self._said.get(instance_id) != what:
            self._said[instance_id] = what
            _log.warning("instance %s %s", instance_id, what)

    async def _settle(self, instance_id: InstanceId) -> None:
        while True:
            await asyncio.sleep(CLOSING_EVERY_S)
            row = self._fleet.view.rows.get(instance_id)
            if row is None or not row.closing:
                return
            looker = self._lookers.get(instance_id)
            asleep = row.health.state is State.SLEEPING
            asked = self._fleet.asking(instance_id, monotonic_s())
            felt = await looker.pulse() if looker is not None and not asleep else Felt(mute=asleep)
            processing = felt.pulse.calls if felt.pulse is not None else None
            if self._fleet.settle_closing(
                instance_id, monotonic_s(), asked=asked, processing=processing, mute=felt.mute
            ):
                self._changed()
