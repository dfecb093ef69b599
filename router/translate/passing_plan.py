"""How a call that is only passed on goes to an instance that has its route."""

from router.translate.asked import Asked
from router.translate.fidelity import Abilities
from router.translate.passing import PassStream, passed
from router.translate.plan import Count, Plan
from router.translate.splice import with_model
from router.wire.passing import PassHead


class PassRequest(Asked[PassHead]):
    """A call that is only passed on, to an instance that has its route."""

    def __init__(self, head: PassHead, body: bytes, path: bytes) -> None:
        super().__init__(head, body)
        self._named = head.model or ""
        self._path = path

    def __repr__(self) -> str:
        return f"PassRequest({self._path.decode()}, {len(self._body)} bytes)"

    @property
    def max_tokens(self) -> int | None:
        """See `Request`: nobody asks."""
        return 0

    @property
    def opening(self) -> tuple[bytes, bytes]:
        """See `Request`: what begins alike leans to one instance."""
        return b"", self._body[:512]

    def means(self, model: str) -> None:
        """See `Request`."""
        self._named = model

    def complete(self, max_tokens: int) -> None:
        """See `Request`: these routes have limits of their own."""

    def refusal(self, can: Abilities, *, pass_tools: bool) -> str | None:
        """See `Request`."""
        return f"{self._path.decode()}: not offered by an instance of the Messages API" if can.exact else None

    def plan(self, can: Abilities, *, upstream_model: str | None, pass_tools: bool) -> Plan:
        """See `Request`."""
        model = self._named
        return Plan(
            path=self._path,
            body=with_model(self._body, upstream_model) if upstream_model and self.head.model else self._body,
            way="native",
            stream=lambda about: PassStream(model=model, instance_id=about.instance_id),
            whole=lambda body, about: passed(body, model=model),
        )

    def count(self, can: Abilities, *, upstream_model: str | None) -> Count | None:
        """See `Request`."""
        return None
