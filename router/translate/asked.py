"""What every kind of call is asked alike; see `plan.Request`."""

from typing import Generic, Protocol, TypeVar


class Head(Protocol):
    """A body, read as far as routing needs."""

    @property
    def model(self) -> str | None:
        """The name that the client asks for; None: it names none."""

    @property
    def stream(self) -> bool | None:
        """The client wants the answer as it comes."""


HeadT = TypeVar("HeadT", bound=Head)


class Asked(Generic[HeadT]):
    """A client's call: `head` is what was read of its body."""

    def __init__(self, head: HeadT, body: bytes) -> None:
        self.head = head
        self._body = body

    @property
    def body(self) -> bytes:
        """What the client sent."""
        return self._body

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model}, {len(self._body)} bytes)"

    @property
    def model(self) -> str | None:
        """See `Request`."""
        return self.head.model

    @property
    def streams(self) -> bool:
        """See `Request`."""
        return bool(self.head.stream)

    @property
    def size_bytes(self) -> int:
        """See `Request`."""
        return len(self._body)

    @property
    def dropped(self) -> tuple[str, ...]:
        """See `Request`: nothing, unless the kind of call says otherwise."""
        return ()

    def means(self, model: str) -> None:
        """See `Request`: most kinds of call always name one."""
