"""The life of one call, from its last body byte to its end. What is acquired here is released here, on every path."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from router.admit.desk import Ticket
from router.balance.affinity import Session
from router.clock import monotonic_s
from router.errors import (
    ClientGone,
    RouterError,
    UpstreamAnswered,
    UpstreamBroke,
    UpstreamFailed,
    UpstreamLoading,
    UpstreamUnreachable,
)
from router.fleet.health import Event
from router.fleet.instance import Instance
from router.fleet.registry import Pool
from router.relay.attempt import Answer, Attempt
from router.relay.corridor import Corridor
from router.relay.headers import Header
from router.relay.notes import Notes
from router.relay.outgoing import Outgoing
from router.relay.send import ClientStream, Link
from router.translate.repair import with_model
from router.wire.anthropic import MessagesHead, decode_messages
from router.wire.reading import read

MAX_ATTEMPTS = 3
COUNT_PATH = b"/v1/messages/count_tokens"


class _Count(msgspec.Struct, frozen=True):
    input_tokens: int


_count = msgspec.json.Decoder(_Count)


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Who calls. Empty names where no keys are asked for. `admin`: may use /admin from elsewhere."""

    key_id: str = ""
    team: str = ""
    admin: bool = False


class CallLink(Link, Protocol):
    """The client's side of a call, with what its head said."""

    @property
    def request_id(self) -> str:
        """`req_` and 24 hex digits; the client gets it on every answer."""

    @property
    def headers(self) -> Sequence[Header]:
        """The request's headers, names in lower case."""


class Exchange:
    """One call as an ASGI application: `edge` makes it, Litestar runs it."""

    endpoint = "messages"
    path = b"/v1/messages"

    __slots__ = (
        "_attempt",
        "_caller",
        "_client",
        "_corridor",
        "_link",
        "_notes",
        "_sent",
        "_stopped",
        "_ticket",
        "_weighed_bytes",
    )

    def __init__(self, corridor: Corridor, link: CallLink, caller: Caller) -> None:
        self._corridor = corridor
        self._link = link
        self._caller = caller
        self._notes = Notes(link.request_id, self.endpoint, caller.key_id, caller.team)
        self._client: ClientStream | None = None
        self._ticket: Ticket | None = None
        self._attempt: Attempt | None = None
        self._sent = False
        self._stopped: RouterError | None = None
        self._weighed_bytes = 0

    def __repr__(self) -> str:
        return f"Exchange({self._link.request_id}, {self._attempt or self._ticket or 'arriving'})"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the call. Errors before the first byte are raised for `edge.rescue`; later ones end the stream."""
        corridor = self._corridor
        try:
            corridor.calls.begin(self._stop)
            await self._run()
        except ClientGone as error:
            self._record(error)
        except RouterError as error:
            self._record(error)
            if self._client is None or not self._client.begun:
                raise
            told = corridor.tell(error)
            self._client.fail(told.type, told.message)
        except Exception:  # the top of an exchange: a fault of ours still ends the stream and is counted
            self._record(RouterError("internal"))
            if self._client is None or not self._client.begun:
                raise
            self._client.fail("api_error", "the router failed; its log has the reason under this request id")
            raise
        finally:
            corridor.calls.end(self._stop)
            if self._weighed_bytes:
                corridor.weights.remove(self._caller.key_id, self._weighed_bytes)
            if self._client is not None:
                self._client.drop()

    def _record(self, error: RouterError | None = None) -> None:
        bytes_out = self._client.bytes_out if self._client is not None else None
        status = self._corridor.tell(error).status if error is not None else 200
        if self._client is not None and self._client.begun:
            status = 200
        self._corridor.record(self._notes.record(monotonic_s(), error, status=status, bytes_out=bytes_out))

    # ------------------------------------------------------------ the phases

    async def _run(self) -> None:
        body = await self._link.read_body()
        notes = self._notes
        notes.started_s = monotonic_s()
        notes.bytes_in = len(body)
        self._corridor.weights.add(self._caller.key_id, len(body))
        self._weighed_bytes = len(body)
        head = decode_messages(body)
        notes.model = head.model[:100]
        pool = self._corridor.fleet.view.registry.resolve(head.model)
        notes.pool = pool.name
        body = self._complete(body, head, pool)
        outgoing = Outgoing(path=self.path, headers=self._link.headers, body=body)
        await self._serve(head, pool, outgoing)
        self._record()
        if notes.usage.input_tokens is not None:
            prompt_tokens = notes.usage.input_tokens + (notes.usage.cache_read_input_tokens or 0)
            self._corridor.token_sizes.observe(pool.name, len(body), prompt_tokens)

    def _complete(self, body: bytes, head: MessagesHead, pool: Pool) -> bytes:
        """Return the body with what the client may leave out and the instance may not."""
        return body

    async def _serve(self, head: MessagesHead, pool: Pool, outgoing: Outgoing) -> None:
        """Get the answer and send it; each endpoint has its own way."""
        raise NotImplementedError

    async def _count_on(self, instance: Instance, pool: Pool, outgoing: Outgoing) -> tuple[Answer, int]:
        """Have an instance count the tokens; it needs no slot for that."""
        corridor = self._corridor
        upstream_model = pool.upstream_models.get(instance.id)
        body = with_model(outgoing.body, upstream_model) if upstream_model else outgoing.body
        attempt = Attempt(instance, deadlines=corridor.settings.deadlines, started_s=self._notes.started_s)
        self._attempt = attempt
        corridor.running.add(attempt)
        try:
            answer = await attempt.run(corridor.pools[instance], outgoing.head(instance, len(body)), body)
            if answer is not None:
                return answer, read(_count, answer.body).input_tokens
        except msgspec.DecodeError:
            pass
        finally:
            corridor.running.remove(attempt)
            self._attempt = None
        raise UpstreamBroke(f"instance {instance.id} sent a token count that cannot be read", instance_id=instance.id)

    # ------------------------------------------------------------ what happens from outside

    def _on_gone(self) -> None:
        """The client has left: whatever waits for it stops at once."""
        self._stop(ClientGone("the client closed its connection"))

    def _stop(self, error: RouterError) -> None:
        """End the call with this error, wherever it is; between two places it finds out at the next."""
        self._stopped = error
        self._link.interrupt(error)
        if self._ticket is not None:
            self._corridor.admission.withdraw(self._ticket, error)
        if self._attempt is not None:
            self._attempt.abandon(error)

    def _check_stopped(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    def _learn(self, error: UpstreamFailed) -> None:
        """Tell the fleet what this call saw of an instance; a doubtful case is looked at by the poll, now."""
        match error:
            case UpstreamUnreachable():
                self._corridor.observe(error.instance_id, Event.REFUSED)
                self._corridor.suspect(error.instance_id)
            case UpstreamLoading():
                self._corridor.observe(error.instance_id, Event.LOADING)
            case UpstreamAnswered(retryable=False):
                # Its twin would have said the same: more likely the request's doing than the instance's.
                self._corridor.suspect(error.instance_id)
            case _:
                self._corridor.observe(error.instance_id, Event.CALL_FAILED)
                self._corridor.suspect(error.instance_id)


def session_of(headers: Sequence[Header]) -> Session:
    """Read who the client says it is."""
    session_id = agent_id = b""
    for name, value in headers:
        if name == b"x-claude-code-session-id":
            session_id = value
        elif name == b"x-claude-code-agent-id":
            agent_id = value
    return Session(session_id, agent_id)
