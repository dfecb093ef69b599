"""One look at one instance: what it answers, as events and facts. Only asks; the poll draws the conclusions."""

import asyncio
import ssl

import httpx
import msgspec

from router.config.schema import PollRules
from router.fleet.health import Event
from router.fleet.instance import Facts, Instance
from router.probe.props import read_props
from router.probe.pulse import Pulse, read_metrics, read_slots


class Page(msgspec.Struct, frozen=True):
    """An answer. `status` 0: none came; then `event` says why."""

    status: int
    event: Event
    body: bytes = b""
    restart_mark: str = ""


class Looker:
    """Asks one instance. A new connection for each question: whether the server still accepts them is part of it."""

    def __init__(self, instance: Instance, rules: PollRules) -> None:
        self._instance = instance
        self._rules = rules
        self._verify = ssl.create_default_context(cafile=instance.ca_file) if instance.tls else False
        self._client = self._make_client()

    def _make_client(self) -> httpx.AsyncClient:
        key = self._instance.api_key
        # llama-server would close an idle connection between two looks anyway. The environment's proxies are for
        # other hosts.
        return httpx.AsyncClient(
            base_url=self._instance.origin,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=self._rules.deadline_s,
            verify=self._verify,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def aclose(self) -> None:
        """Give the client back."""
        await self._client.aclose()

    async def health(self) -> Event:
        """ANSWERED, LOADING, TIMED_OUT, REFUSED or BROKE."""
        page = await self._get("/health")
        match page.status:
            case 0:
                return page.event
            case 200:
                return Event.ANSWERED
            case 503:
                return Event.LOADING
            case _:
                return Event.BROKE

    async def props(self) -> tuple[Page, Facts | None]:
        """The answer, and what it says of itself."""
        page = await self._get("/props")
        return page, read_props(page.body) if page.status == 200 else None

    async def pulse(self) -> Pulse | None:
        """What is going on in it: /metrics where it is on, else /slots; None when neither tells.

        Never ask a sleeping server for /slots: it would wake up.
        """
        page = await self._get("/metrics")
        if page.status == 200:
            return read_metrics(page.body.decode(errors="replace"), page.restart_mark)
        if page.status in {404, 501}:
            page = await self._get("/slots")
            if page.status == 200:
                return read_slots(page.body)
        return None

    async def _get(self, path: str) -> Page:
        try:
            async with asyncio.timeout(self._rules.deadline_s):
                response = await self._client.get(path)
        except (httpx.TimeoutException, TimeoutError):
            # httpcore 1.0.9 forgets a connection whose deadline falls into its opening or closing; its socket would
            # stay open for ever. Only closing the whole client finds it.
            await self._client.aclose()
            self._client = self._make_client()
            return Page(0, Event.TIMED_OUT)
        except httpx.ConnectError:
            return Page(0, Event.REFUSED)
        except httpx.HTTPError:
            return Page(0, Event.BROKE)
        mark = response.headers.get("process-start-time-unix", "")
        return Page(response.status_code, Event.ANSWERED, response.content, mark)
