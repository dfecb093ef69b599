"""Every error that the router raises on purpose, in one tree.

    RouterError
    ├── RequestInvalid            the body or a field is wrong                  client    400
    │   ├── PromptTooLong         more tokens than the model's context holds    client    400
    │   ├── RequestTooLarge       body over the cap                             client    413
    │   ├── HeadTooLarge          head or header count over the cap             client    431
    │   └── RequestStalled        head or body stopped coming                   client    408
    ├── Unauthorized              no key, or not one of ours                    client    401
    ├── Forbidden                 a key that may not do this                    client    403
    ├── NotFound                  no such path                                  client    404
    │   └── ModelNotFound         no such model; says which names are near      client    404
    ├── MethodNotAllowed          the path exists, the method does not          client    405
    ├── NotSupported              a route that we know and do not offer         router    501
    ├── Overloaded                held too long or no room to wait              router    529
    │   ├── TooManyConnections    over the limit; cut without an answer         router    never
    │   ├── RateLimited           this key has too much under way               client    429
    │   ├── NoInstance            nobody in the pool can serve now              router    503
    │   └── ShuttingDown          told to stop; another router, or later        router    503
    ├── CallTooLong               the whole call took longer than it may        client    504
    ├── ClientGone                the client left; nobody is there to be told   client    499
    ├── UpstreamFailed            an instance failed us                         instance  502
    │   ├── UpstreamUnreachable   refused, or no connection in time             instance  502
    │   ├── UpstreamBroke         reset, cut or malformed after it connected    instance  502
    │   ├── UpstreamTimedOut      connected, then silent past a deadline        instance  504
    │   ├── UpstreamLoading       503 while it loads its model                  instance  529
    │   └── UpstreamAnswered      answered with an error of its own              instance  502
    └── ConfigInvalid             (config.problem) a registry that cannot run   router    exit 1

The leaf is raised where the fact is known; `edge.rescue` alone turns it into a status and an envelope.
`side` says who has to act, `retryable` whether the same call may succeed elsewhere or later.
Messages go to clients: they never hold a key, a prompt, a path of this host or the URL of an instance.
"""

from typing import ClassVar, Literal

Side = Literal["client", "router", "instance"]


class RouterError(Exception):
    """A failure with a sentence for the person who meets it."""

    side: ClassVar[Side] = "router"
    retryable: bool = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def cause(self) -> str:
        """The name under which metrics and the log count this error: the class, in snake case."""
        return _snake(type(self).__name__)


class RequestInvalid(RouterError):
    """The request cannot be served as it is; the message names the field, the reason and the fix."""

    side = "client"


class PromptTooLong(RequestInvalid):
    """The prompt has more tokens than a slot's context; the sentence has the words that clients look for."""

    def __init__(self, reason: str) -> None:
        """`reason`: what comes after "prompt is too long: ", at best `9031 tokens > 8192 maximum`."""
        super().__init__(f"prompt is too long: {reason}")


class RequestTooLarge(RequestInvalid):
    """The body is larger than the cap."""


class HeadTooLarge(RequestInvalid):
    """The request head is over 64 KiB or 100 headers."""


class RequestStalled(RequestInvalid):
    """The client stopped sending in the middle of a head or a body."""


class Unauthorized(RouterError):
    """No key came, or one that is not in the keys file."""

    side = "client"


class Forbidden(RouterError):
    """The caller is known, or is local, and still may not do this."""

    side = "client"


class NotFound(RouterError):
    """There is nothing at this path."""

    side = "client"


class ModelNotFound(NotFound):
    """No model, alias or pattern of the registry matches the name."""


class MethodNotAllowed(RouterError):
    """The path is served, but not with this method. `allow`: those it is served with, as the header lists them."""

    side = "client"

    def __init__(self, message: str, *, allow: str = "POST") -> None:
        super().__init__(message)
        self.allow = allow


class NotSupported(RouterError):
    """A route of the hosted API that this router knows and does not offer."""


class Overloaded(RouterError):
    """The call could not be given a slot in time, or there was no room to wait for one."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        """`retry_after_s`: 1 to 30, whole seconds, since clients obey larger values for hours."""
        super().__init__(message)
        self.retry_after_s = min(30, max(1, retry_after_s))


class TooManyConnections(Overloaded):
    """More client connections than are allowed. Only counted: to answer would take what there is too little of."""


class RateLimited(Overloaded):
    """A key has as much under way as it may."""

    side = "client"


class ShuttingDown(Overloaded):
    """The router has been told to stop."""


class NoInstance(Overloaded):
    """No instance of the pool is serving."""


class CallTooLong(RouterError):
    """The call has lasted as long as a call may; that says nothing of the instance that was serving it."""

    side = "client"


class ClientGone(RouterError):
    """The client closed its connection; there is nobody left to answer."""

    side = "client"


class UpstreamFailed(RouterError):
    """An instance did not do its part. `instance_id` names it; its URL is never in the message."""

    side = "instance"
    retryable = True

    def __init__(self, message: str, *, instance_id: str) -> None:
        super().__init__(message)
        self.instance_id = instance_id


class UpstreamUnreachable(UpstreamFailed):
    """The connection was refused, or not made within the connect deadline."""


class UpstreamBroke(UpstreamFailed):
    """The connection was reset, ended early, or carried something that is not HTTP."""


class UpstreamTimedOut(UpstreamFailed):
    """Connected, then silent for longer than the deadline of its phase."""


class UpstreamLoading(UpstreamFailed):
    """llama-server answers 503 on every path while it loads its model."""


class UpstreamAnswered(UpstreamFailed):
    """The instance answered with an error of its own.

    `status` is the one it sent, or that an error event inside a stream means; 200 where such an event names none.
    Another instance may do better only where the fault lies in this one (a wrong key, a missing route), so the one who
    reads the answer says so. `retry_after_s`: what it asks for, 1 to 30; None: nothing.
    """

    def __init__(
        self, message: str, *, instance_id: str, status: int, retryable: bool, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message, instance_id=instance_id)
        self.status = status
        self.retryable = retryable
        self.retry_after_s = None if retry_after_s is None else min(30, max(1, retry_after_s))


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
