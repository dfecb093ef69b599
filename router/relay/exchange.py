"""The life of one call, from its last body byte to its end. What is acquired here is released here, on every path."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from router.admit.ticket import Ticket
from router.clock import monotonic_s
from router.errors import (
    ClientGone,
    RequestInvalid,
    RouterError,
    UpstreamAnswered,
    UpstreamBroke,
    UpstreamFailed,
    UpstreamLoading,
    UpstreamUnreachable,
)
from router.fleet.health import Event
from router.fleet.instance import Instance, InstanceId
from router.fleet.registry import Pool
from router.fleet.view import Row
from router.relay.attempt import Attempt
from router.relay.corridor import Corridor
from router.relay.headers import Header
from router.relay.notes import Notes
from router.relay.outgoing import Outgoing
from router.relay.send import ClientStream, Link
from router.relay.voice import MESSAGES_VOICE, Telling, Voice
from router.translate.plan import Count, Request
from router.wire.reading import read

MAX_ATTEMPTS = 3


class _Count(msgspec.Struct, frozen=True):
    """llama-server's word and vLLM's."""

    input_tokens: int | None = None
    count: int | None = None


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

    def weigh(self, grown: Callable[[int], None] | None) -> None:
        """Say whom to tell by how many bytes the body has grown; None: nobody. What it raises refuses the request."""


class Exchange:
    """One call as an ASGI application: `edge` makes it, Litestar runs it."""

    endpoint = "messages"
    voice: Voice = MESSAGES_VOICE

    __slots__ = (
        "_at",
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
        self._at: Instance | None = None  # where it was last sent
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
            self._client.fail(corridor.tell(error))
        except Exception:  # the top of an exchange: a fault of ours still ends the stream and is counted
            self._record(RouterError("internal"))
            if self._client is None or not self._client.begun:
                raise
            why = "the router failed; its log has the reason under this request id"
            self._client.fail(Telling(status=500, type="api_error", message=why))
            raise
        finally:
            corridor.calls.end(self._stop)
            self._link.weigh(None)
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
        body = await self._read_body()
        notes = self._notes
        notes.started_s = monotonic_s()
        notes.bytes_in = len(body)
        request = self._read(body)
        notes.model = (request.model or "")[:100]
        pool = self._pool_of(request)
        notes.pool = pool.name
        self._complete(request, pool)
        await self._serve(request, pool)
        self._record()
        if notes.usage.input_tokens is not None:
            prompt_tokens = notes.usage.input_tokens + (notes.usage.cache_read_input_tokens or 0)
            self._corridor.token_sizes.observe(pool.name, len(body), prompt_tokens)

    def _pool_of(self, request: Request) -> Pool:
        """Find the pool by the model's name; a call that names none means the only one there is."""
        registry = self._corridor.fleet.view.registry
        if request.model is not None:
            return registry.resolve(request.model)
        if len(registry.pools) == 1:
            pool = next(iter(registry.pools.values()))
            request.means(pool.name)
            return pool
        raise RequestInvalid("Missing required parameter: 'model'. Name a model; GET /v1/models lists them.")

    async def _read_body(self) -> bytes:
        """Read the body, counted for its key from the start, so that slow uploads cannot fill the memory uncounted.

        A length that was declared is reserved before a byte is read; a chunked body counts as it grows.
        """
        declared_bytes = declared_length(self._link.headers)
        if declared_bytes:
            self._weigh(declared_bytes)
        else:
            self._link.weigh(self._weigh)
        return await self._link.read_body()

    def _weigh(self, size_bytes: int) -> None:
        self._corridor.weights.add(self._caller.key_id, size_bytes)
        self._weighed_bytes += size_bytes

    def _read(self, body: bytes) -> Request:
        """Read the body, in this endpoint's dialect. Raises RequestInvalid."""
        raise NotImplementedError

    def _complete(self, request: Request, pool: Pool) -> None:
        """Add what the client may leave out and the instance may not."""

    async def _serve(self, request: Request, pool: Pool) -> None:
        """Get the answer and send it; each endpoint has its own way."""
        raise NotImplementedError

    async def _count_on(self, row: Row, pool: Pool, request: Request) -> int | None:
        """Have an instance count the tokens; it needs no slot for that. None: nobody counts such a call."""
        corridor, instance = self._corridor, row.instance
        self._at = instance
        model = pool.upstream_models.get(instance.id)
        count = request.count(corridor.skills.of(row), upstream_model=model)
        if count is None:
            return None
        key = corridor.counted.key(pool.name, row.facts.model if row.facts else None, count.body)
        tokens = corridor.counted.get(key)
        if tokens is None:
            tokens = await self._ask_count(instance, count)
            corridor.counted.put(key, tokens)
        return tokens

    async def _ask_count(self, instance: Instance, count: Count) -> int:
        corridor = self._corridor
        attempt = Attempt(instance, deadlines=corridor.settings.deadlines, started_s=self._notes.started_s)
        self._attempt = attempt
        corridor.running.add(attempt)
        head = Outgoing(self._link.headers).head(instance, count.path, len(count.body))
        try:
            answer = await attempt.run(corridor.pools[instance], head, count.body)
            said = read(_count, answer.body) if answer is not None else _Count()
            tokens = said.input_tokens if said.input_tokens is not None else said.count
            if tokens is not None:
                return tokens
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
        """Tell the fleet what this call saw where it was sent last; a doubtful case is looked at by the poll, now."""
        instance = self._at
        if instance is None:
            return
        match error:
            case UpstreamUnreachable():
                self._corridor.observe(instance, Event.REFUSED)
                self._corridor.suspect(instance)
            case UpstreamLoading():
                self._corridor.observe(instance, Event.LOADING)
            case UpstreamAnswered(retryable=False) if self._notes.committed_s is None:
                # Its twin may say the same: more likely the request's doing than the instance's.
                self._corridor.suspect(instance)
            case _:
                self._corridor.observe(instance, Event.CALL_FAILED)
                self._corridor.suspect(instance)

    def _at_now(self) -> InstanceId:
        """What the instance where it was sent last is called now; "" when it is not ours, whoever has its id."""
        return (self._corridor.fleet.id_of(self._at) if self._at is not None else None) or ""


def declared_length(headers: Sequence[Header]) -> int:
    """What Content-Length says; 0 where there is none, as with chunks. The parser has seen that it is a number."""
    return next((int(value) for name, value in headers if name == b"content-length" and value.isdigit()), 0)
