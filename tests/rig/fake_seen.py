"""A request as the scripted instance saw it, and what may be done about it."""

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from tests.rig.fake_turn import Turn

MESSAGES = "/v1/messages"
CHAT = "/v1/chat/completions"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it arrived. `connection` counts from 1; `nth` is its number on that connection."""

    connection: int
    nth: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def is_call(self) -> bool:
        """Whether it asks for generation, and so for a slot."""
        return self.method == "POST" and self.path in {MESSAGES, CHAT}

    @property
    def json(self) -> dict[str, object]:
        """The body as an object; empty for a body that is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


Behaviour = Callable[["Turn"], Awaitable[None]]
Script = Iterable[Behaviour] | Callable[[Seen], Behaviour]
