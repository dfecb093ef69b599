"""What a rule is, what it may look at, and the front that asks it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from router.sim.dice import Dice
from router.sim.front import Dispatch
from router.sim.prompt import Prompt
from router.sim.server import Event, Server, What
from router.sim.talk import Ask


class Loads:
    """The servers as they are now. A call counts as in flight from the moment it is sent to its end."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers

    def __repr__(self) -> str:
        return f"Loads{self.in_flight}"

    def __len__(self) -> int:
        return len(self._servers)

    @property
    def in_flight(self) -> list[int]:
        """Running and waiting, by server."""
        return [server.running + server.waiting for server in self._servers]

    @property
    def waiting(self) -> list[int]:
        """In a server's own queue."""
        return [server.waiting for server in self._servers]

    def kv_share(self, context_tokens: int) -> list[float]:
        """The KV that running calls use, as a share of slots that hold so many tokens each."""
        return [server.context_tokens / (server.slots * context_tokens) for server in self._servers]

    def warm_tokens(self, prompt: Prompt) -> list[int]:
        """What each server really has of a prompt, in slots or RAM; for rules that are told of every KV event."""
        return [
            max(
                (held.shared(prompt) for held in [*(slot.held for slot in one.kv.slots), *one.kv.ram] if held),
                default=0,
            )
            for one in self._servers
        ]


class Rule(ABC):
    """Picks a server for a call, and may remember what became of calls."""

    @abstractmethod
    def pick(self, ask: Ask, loads: Loads, now_s: float) -> int:
        """Return the place of the server."""

    def first_token(self, place: int, ask: Ask, now_s: float) -> None:  # noqa: B027 - most rules keep nothing
        """A call's prompt has been read."""

    def finished(self, place: int, ask: Ask, now_s: float) -> None:  # noqa: B027
        """A call is over."""


class BindFront:
    """Sends every call the moment it comes."""

    waiting = 0

    def __init__(self, rule: Rule, servers: Sequence[Server]) -> None:
        self._rule = rule
        self._loads = Loads(servers)

    def __repr__(self) -> str:
        return f"BindFront[{type(self._rule).__name__}]"

    def arrive(self, ask: Ask, now_s: float) -> list[Dispatch]:
        return [(ask, self._rule.pick(ask, self._loads, now_s))]

    def told(self, server: int, ask: Ask, event: Event, now_s: float) -> list[Dispatch]:
        if event.what is What.FIRST_TOKEN:
            self._rule.first_token(server, ask, now_s)
        elif event.what is What.FINISHED:
            self._rule.finished(server, ask, now_s)
        return []

    def tick(self, _now_s: float) -> list[Dispatch]:
        return []


def least(values: Sequence[float], dice: Dice) -> int:
    """The place of the least value, ties by dice."""
    lowest = min(values)
    places = [place for place, value in enumerate(values) if value == lowest]
    return places[dice.below(len(places))] if len(places) > 1 else places[0]
