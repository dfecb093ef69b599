"""Ask every instance how it is, again and again, and tell the fleet.

A look is GET /health, and GET /props when the facts may have changed: at first sight and after every time away.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable

import httpx

from router.clock import monotonic_s
from router.config.schema import PollRules
from router.errors import RouterError, UpstreamTimedOut
from router.fleet.fleet import Fleet
from router.fleet.health import Event, State
from router.fleet.instance import Facts, Instance, InstanceId
from router.probe.props import read_props

_log = logging.getLogger("llama_router")

Died = Callable[[InstanceId, Callable[[], RouterError]], None]


class Poll:
    """One loop per instance. Use as an async context manager; leaving it ends the loops."""

    def __init__(self, fleet: Fleet, rules: PollRules, *, changed: Callable[[], None], died: Died) -> None:
        """`changed` is called after every change of the fleet; `died` when an instance goes out."""
        self._fleet = fleet
        self._rules = rules
        self._changed = changed
        self._died = died
        self._wake: dict[InstanceId, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.looks_failed = 0

    def __repr__(self) -> str:
        return f"Poll[{len(self._tasks)} instances, every {self._rules.every_s:g} s]"

    async def __aenter__(self) -> "Poll":
        """Start looking."""
        loop = asyncio.get_running_loop()
        for row in self._fleet.view.rows.values():
            self._wake[row.instance.id] = asyncio.Event()
            self._tasks.append(loop.create_task(self._watch(row.instance)))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, and wait until every loop has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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

    async def _watch(self, instance: Instance) -> None:
        wake = self._wake[instance.id]
        async with self._client(instance) as client:
            while True:
                try:
                    await self._look(client, instance)
                except Exception:  # noqa: BLE001  # the top of a background loop: it outlives its own bugs, and says so
                    self.looks_failed += 1
                    _log.exception("looking at instance %s failed in the router", instance.id)
                wake.clear()
                try:
                    async with asyncio.timeout(self._rules.every_s):
                        await wake.wait()
                except TimeoutError:
                    pass

    def _client(self, instance: Instance) -> httpx.AsyncClient:
        verify = ssl.create_default_context(cafile=instance.ca_file) if instance.tls else False
        headers = {"authorization": f"Bearer {instance.api_key}"} if instance.api_key else {}
        # A new connection for each look: what is asked is whether the server still accepts them, and llama-server
        # would close an idle one between two looks anyway. The environment's proxies are for other hosts.
        return httpx.AsyncClient(
            base_url=instance.origin,
            headers=headers,
            timeout=self._rules.deadline_s,
            verify=verify,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def _look(self, client: httpx.AsyncClient, instance: Instance) -> None:
        event = await self._ask_health(client)
        row = self._fleet.view.rows[instance.id]
        if event is Event.ANSWERED and (row.facts is None or row.health.state is not State.SERVING):
            facts = await self._ask_props(client, instance)
            if facts is not None:
                self._fleet.learn(instance.id, facts)
            elif not instance.slots:
                event = Event.BROKE
        self.observe(instance.id, event)

    async def _ask_health(self, client: httpx.AsyncClient) -> Event:
        try:
            async with asyncio.timeout(self._rules.deadline_s):
                response = await client.get("/health")
        except (httpx.TimeoutException, TimeoutError):
            return Event.TIMED_OUT
        except httpx.HTTPError:
            return Event.REFUSED
        if response.status_code == 200:
            return Event.ANSWERED
        return Event.LOADING if response.status_code == 503 else Event.BROKE

    async def _ask_props(self, client: httpx.AsyncClient, instance: Instance) -> Facts | None:
        try:
            async with asyncio.timeout(self._rules.deadline_s):
                response = await client.get("/props")
        except (httpx.HTTPError, TimeoutError):
            return None
        if response.status_code in {401, 403}:
            _log.warning("instance %s wants a key for /props: set its api_key in the registry", instance.id)
            return None
        facts = read_props(response.content) if response.status_code == 200 else None
        if facts is None and not instance.slots:
            _log.warning("instance %s does not say how many slots it has: set slots in the registry", instance.id)
        return facts
