"""Ask every instance how it is, again and again, and tell the fleet.

A look is GET /health and GET /props, and /metrics while calls run there, to see that something is being decoded.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Protocol

import msgspec

from router.clock import monotonic_s
from router.config.schema import PollRules
from router.errors import RouterError, UpstreamTimedOut
from router.fleet.fleet import Fleet
from router.fleet.health import Event, State
from router.fleet.instance import Facts, Instance, InstanceId, Process
from router.fleet.view import Row
from router.observe.supervise import Supervisor
from router.probe.look import Looker
from router.probe.settle import Settler
from router.probe.stuck import StuckWatch

_log = logging.getLogger("llama_router")

# After a look that ran out of time the next one comes at once: two make a dead instance, and calls are waiting.
AGAIN_S = 0.1
SILENT_IS_DEAD = 2
# After these nothing of before is left in an instance's caches.
_COLD = frozenset((Event.REFUSED, Event.LOADING, Event.SLEEPS, Event.SWAPPED))


class Runs(Protocol):
    """The calls under way by the process at which they run, also at one that a reload has taken away."""

    def at(self, instance: Instance) -> bool:
        """Calls run there."""

    def heard_s(self, instance: Instance) -> float:
        """When an answer last brought something from there; 0 when none did."""

    def instance_died(self, instance: Instance, error: Callable[[], RouterError], *, begun: bool = False) -> None:
        """End the calls there that have shown nothing yet; `begun`: the others too."""


class _Watch:
    """What the loop over one process knows of it. Its loop ends when another takes its place."""

    __slots__ = ("instance", "looker", "messages", "said", "silent", "started", "stuck", "wake")

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.looker: Looker | None = None
        self.messages: bool | None = None  # it has /v1/messages; None: not asked yet
        self.stuck = StuckWatch()
        self.wake = asyncio.Event()
        self.silent = 0
        self.said = ""
        self.started = ""  # the mark of its start, as it last told it


class Poll:
    """One supervised loop per process."""

    def __init__(
        self,
        fleet: Fleet,
        rules: PollRules,
        *,
        changed: Callable[[], None],
        runs: Runs,
        cold: Callable[[InstanceId], None] = lambda _: None,
    ) -> None:
        """`changed` is called after every change of the fleet; `runs` is told of instances that go out.

        `cold`: of those whose process or model is a new one, so that nothing is in its caches.
        """
        self._cold = cold
        self._runs = runs
        self._fleet = fleet
        self._rules = rules
        self._changed = changed
        self._supervisor: Supervisor | None = None
        self._watches: dict[Process, _Watch] = {}
        self._settling: set[Process] = set()
        self._settler = Settler(fleet, looker=self._looker, changed=changed)
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"Poll[{len(self._watches)} instances, every {self._rules.every_s:g} s]"

    def start(self, supervisor: Supervisor) -> None:
        """Look at every instance of the fleet from now on."""
        self._supervisor = supervisor
        for row in self._fleet.view.rows.values():
            self._start(row.instance)

    def adopt(self, rules: PollRules) -> None:
        """Follow a reload: begin with what is new or is to be asked in another way; let go of what is gone.

        A loop whose process is gone goes on while calls run there: nobody else would notice that it has died.
        """
        everybody = rules != self._rules
        self._rules = rules
        for watch in self._watches.values():
            row = self._row(watch.instance)
            if row is None or row.health.state is State.UNKNOWN:
                watch.wake.set()
        for row in self._fleet.view.rows.values():
            known = self._watches.get(row.instance.process)
            if everybody or known is None or known.instance != row.instance:
                self._start(row.instance)
            if row.closing:
                self.closing(row.instance)

    def suspect(self, instance: Instance) -> None:
        """Look at a process now: a call has seen something odd."""
        if watch := self._watches.get(instance.process):
            watch.wake.set()

    def observe(self, instance: Instance, event: Event) -> None:
        """Tell the fleet what was seen, by a look or by a call, and the others if that changed anything.

        What was seen of a process that is not ours any more changes nothing, whoever has its id now.
        """
        id_ = self._fleet.id_of(instance)
        if id_ is None:
            return
        if event in _COLD:
            self._cold(id_)
        before, after = self._fleet.observe(id_, event, monotonic_s())
        if before is after:
            return
        _log.info("instance %s: %s -> %s (%s)", id_, before.value, after.value, event.value)
        if after is State.MISPLACED:
            _log.warning(
                "instance %s serves another model than it did, and no pool is for that one; if it is meant to: "
                "llama-router resume %s",
                id_, id_,
            )  # fmt: skip
        if after is State.EJECTED:
            self._tell(instance, "stopped answering")
        self._changed()

    def closing(self, instance: Instance) -> None:
        """Watch a process until none of its slots is closing any more."""
        process = instance.process
        if self._supervisor is not None and process not in self._settling:
            self._settling.add(process)
            name = f"closing {instance.id} #{next(self._numbers)}"
            self._supervisor.start(name, lambda: self._settle(instance), kind="closing")

    # ------------------------------------------------------------ the loops

    def _start(self, instance: Instance) -> None:
        if self._supervisor is None:
            return
        watch = self._watches[instance.process] = _Watch(instance)
        self._supervisor.start(f"poll {instance.id} #{next(self._numbers)}", lambda: self._keep(watch), kind="poll")

    def _is_mine(self, watch: _Watch) -> bool:
        """No other loop has taken its place."""
        return self._watches.get(watch.instance.process) is watch

    async def _keep(self, watch: _Watch) -> None:
        watch.looker = looker = Looker(watch.instance, self._rules)
        while self._is_mine(watch):
            if self._row(watch.instance) is None and not self._runs.at(watch.instance):
                del self._watches[watch.instance.process]
                return
            watch.wake.clear()
            event = await self._look(watch, looker)
            await self._pause(watch, AGAIN_S if event is Event.TIMED_OUT else self._rules.every_s)

    async def _pause(self, watch: _Watch, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await watch.wake.wait()
        except TimeoutError:
            pass

    async def _look(self, watch: _Watch, looker: Looker) -> Event:
        event = await looker.health()
        if event is Event.ANSWERED:
            event = await self._facts(watch, looker)
        if not self._is_mine(watch):
            return event
        if event is Event.REFUSED:
            watch.messages = None  # another build may come up there
        self.observe(watch.instance, event)
        self._mourn(watch, event)
        if not self._runs.at(watch.instance):
            watch.stuck.rest()
        elif event is Event.ANSWERED and not await self._feel(watch, looker):
            return Event.TIMED_OUT  # for the next look, which comes at once: it may have stopped just now
        return event

    async def _facts(self, watch: _Watch, looker: Looker) -> Event:
        """Read /props; what it says of the model decides what kind of well it is."""
        page, facts = await looker.props()
        row = self._row(watch.instance)
        if row is None or not self._is_mine(watch):
            return Event.ANSWERED if page.status else page.event
        if facts is not None:
            watch.said = ""
            await self._ask_once(watch, looker, facts)
            if (now := self._row(watch.instance)) is None:
                return Event.ANSWERED
            return self._fleet.learn(now.instance.id, msgspec.structs.replace(facts, messages=watch.messages))
        if page.status == 0:
            return page.event
        if row.slots:
            return Event.ANSWERED
        if page.status in {401, 403}:
            self._say(watch, "wants a key for /props: set its api_key in the registry")
        else:
            self._say(watch, "does not say how many slots it has: set slots in the registry")
        return Event.BROKE

    async def _ask_once(self, watch: _Watch, looker: Looker, facts: Facts) -> None:
        """Find out at first sight whether it has /v1/messages, unless the registry says so."""
        said = watch.instance.capabilities.messages is not None or watch.instance.dialect not in {"auto", "llama"}
        if watch.messages is None and not said and not facts.sleeping:
            watch.messages = await looker.has_messages()

    def _say(self, watch: _Watch, what: str) -> None:
        """Warn once, not at every look."""
        if watch.said != what:
            watch.said = what
            _log.warning("instance %s %s", watch.instance.id, what)

    # ------------------------------------------------------------ what ends calls

    def _mourn(self, watch: _Watch, event: Event) -> None:
        """End what waits at a dead process that takes no calls anyway, and so changes no state by dying."""
        watch.silent = watch.silent + 1 if event in {Event.TIMED_OUT, Event.REFUSED} else 0
        row = self._row(watch.instance)
        dead = event is Event.REFUSED or watch.silent >= SILENT_IS_DEAD
        if dead and (row is None or row.health.state is State.DRAINING):
            self._tell(watch.instance, "stopped answering")

    async def _feel(self, watch: _Watch, looker: Looker) -> bool:
        """See that it works; where it does not, no call there will end by itself, begun or not. False: no answer."""
        felt = await looker.pulse()
        if felt.mute or not self._is_mine(watch):
            return True
        if felt.pulse is not None and felt.pulse.restart_mark != watch.started:
            if watch.started and felt.pulse.restart_mark:
                self._cold(watch.instance.id)
            watch.started = felt.pulse.restart_mark or watch.started
        if felt.pulse is None:  # older builds answer between two batches: tokens show that there are some
            watch.stuck.moved(self._runs.heard_s(watch.instance))
        if watch.stuck.look(felt.pulse, monotonic_s()):
            watch.stuck.rest()  # the last of its pool stays in, and a call that comes to it has its own time
            _log.warning("instance %s: slots are busy and nothing is decoded", watch.instance.id)
            self._tell(watch.instance, "is stuck: it is busy and decodes nothing", begun=True)
            self.observe(watch.instance, Event.STUCK)
        return felt.pulse is not None

    def _tell(self, instance: Instance, what: str, *, begun: bool = False) -> None:
        def error() -> RouterError:
            return UpstreamTimedOut(f"instance {instance.id} {what}", instance_id=instance.id)

        self._runs.instance_died(instance, error, begun=begun)

    # ------------------------------------------------------------ closing slots

    async def _settle(self, instance: Instance) -> None:
        await self._settler.settle(instance)
        self._settling.discard(instance.process)

    def _looker(self, instance: Instance) -> Looker | None:
        watch = self._watches.get(instance.process)
        return watch.looker if watch is not None else None

    def _row(self, instance: Instance) -> Row | None:
        """The row of this process as it is called now; None when it is not ours any more."""
        id_ = self._fleet.id_of(instance)
        return self._fleet.view.rows[id_] if id_ is not None else None
