"""One look at one instance: what it answers, as events and facts. Only asks; the poll draws the conclusions."""

import ssl

import msgspec

from router.config.schema import PollRules
from router.fleet.health import Event
from router.fleet.instance import Facts, Instance
from router.probe.ask import Page, ask
from router.probe.props import read_props
from router.probe.pulse import Pulse, read_metrics, read_slots


class Felt(msgspec.Struct, frozen=True):
    """What asking for a pulse brought. `mute`: it answers, and neither /metrics nor /slots tells; asking is no use."""

    pulse: Pulse | None = None
    mute: bool = False


class Looker:
    """Asks one instance. Holds nothing open between two questions."""

    def __init__(self, instance: Instance, rules: PollRules) -> None:
        self._instance = instance
        self._rules = rules
        self._tls = ssl.create_default_context(cafile=instance.ca_file) if instance.tls else None

    def __repr__(self) -> str:
        return f"Looker({self._instance.id})"

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
            case status if status < 500 and self._instance.dialect in {"openai", "anthropic"}:
                return Event.ANSWERED  # hosted ones have no such path, and whoever says so is there
            case _:
                return Event.BROKE

    async def props(self) -> tuple[Page, Facts | None]:
        """The answer, and what it says of itself."""
        page = await self._get("/props")
        return page, read_props(page.body) if page.status == 200 else None

    async def has_messages(self) -> bool | None:
        """Whether it has /v1/messages; None: it did not say. Never ask a sleeping server: it would wake up.

        Any answer but 404 is a yes: an empty request is refused in many ways, and by none that lacks the route.
        """
        page = await ask(
            self._instance,
            "/v1/messages/count_tokens",
            tls=self._tls,
            deadline_s=self._rules.deadline_s,
            body=b"{}",
        )
        return None if page.status in {0, 503} else page.status != 404

    async def pulse(self) -> Felt:
        """What is going on in it: /metrics where it is on, else /slots.

        Never ask a sleeping server for /slots: it would wake up.
        """
        page = await self._get("/metrics")
        if page.status == 200:
            return _felt(read_metrics(page.body.decode(errors="replace"), page.restart_mark))
        if page.status == 0:
            return Felt()
        page = await self._get("/slots")
        if page.status == 0:
            return Felt()
        return _felt(read_slots(page.body) if page.status == 200 else None)

    async def _get(self, path: str) -> Page:
        return await ask(self._instance, path, tls=self._tls, deadline_s=self._rules.deadline_s)


def _felt(pulse: Pulse | None) -> Felt:
    return Felt(pulse, mute=pulse is None)
