"""The life of one call, from its last body byte to its end. What is acquired here is released here, on every path."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from router.admit.desk import Ticket
from router.balance.affinity import Session, affinity
from router.balance.policy import Call, Decision, word
from router.clock import monotonic_s
from router.errors import (
    ClientGone,
    NoInstance,
    RequestInvalid,
    RouterError,
    ShuttingDown,
    UpstreamBroke,
    UpstreamFailed,
    UpstreamLoading,
    UpstreamTimedOut,
    UpstreamUnreachable,
)
from router.fleet.health import Event
from router.fleet.instance import Instance
from router.fleet.registry import Pool
from router.relay.admission import Grant
from router.relay.attempt import Answer, Attempt
from router.relay.corridor import Corridor
from router.relay.headers import Header, for_client
from router.relay.notes import Notes
from router.relay.outgoing import Outgoing
from router.relay.send import ClientStream, Link
from router.translate.repair import NativeStream, repair_message, with_max_tokens, with_model
from router.wire.anthropic import MessagesHead, decode_messages

MAX_ATTEMPTS = 3
_ticket_numbers = itertools.count(1)


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

    def _complete(self, body: bytes, head: MessagesHead, pool: Pool) -> bytes:
        """Add what the client may leave out and the instance may not."""
        if head.max_tokens is not None:
            return body
        if pool.default_max_tokens is None:
            raise RequestInvalid(
                "max_tokens: field required; say how many tokens the answer may have, for example 1024"
            )
        return with_max_tokens(body, pool.default_max_tokens)

    async def _serve(self, head: MessagesHead, pool: Pool, outgoing: Outgoing) -> None:
        notes = self._notes
        settings = self._corridor.settings
        notes.stream = bool(head.stream)
        self._link.watch(on_gone=self._on_gone, on_writable=self._on_writable)
        if head.stream:
            self._client = ClientStream(
                self._link,
                request_id=self._link.request_id,
                headers=((b"request-id", self._link.request_id.encode()),),
                hold_s=settings.deadlines.hold_s,
            )
        ticket = Ticket(
            number=next(_ticket_numbers),
            call=Call(pool=pool.name, affinity=affinity(pool.name, session_of(self._link.headers), head)),
            arrived_s=notes.started_s,
            deadline_s=notes.started_s + settings.queue_deadline_s,
            size_bytes=len(outgoing.body),
        )
        self._corridor.retries.pay_in(pool.name)
        await self._try_until_served(ticket, head, pool, outgoing)

    async def _try_until_served(self, ticket: Ticket, head: MessagesHead, pool: Pool, outgoing: Outgoing) -> None:
        """Try one instance after another, as long as nothing has been shown and the budgets last."""
        notes = self._notes
        last_error: UpstreamFailed | None = None
        while True:
            try:
                return await self._try_once(ticket, head, pool, outgoing)
            except NoInstance:
                if last_error is not None:
                    raise last_error from None
                raise
            except UpstreamFailed as error:
                self._learn(error)
                if not error.retryable or notes.committed_s is not None or notes.attempts >= MAX_ATTEMPTS:
                    raise
                notes.failed_on = (*notes.failed_on, error.instance_id)
                notes.causes = (*notes.causes, error.cause)
                if not self._corridor.retries.take(pool.name):
                    raise
                last_error = error
                excluded = ticket.call.excluded | {error.instance_id}
                ticket = msgspec.structs.replace(ticket, call=msgspec.structs.replace(ticket.call, excluded=excluded))

    async def _try_once(self, ticket: Ticket, head: MessagesHead, pool: Pool, outgoing: Outgoing) -> None:
        corridor, notes = self._corridor, self._notes
        self._ticket = ticket
        grant = await corridor.admission.admit(ticket)
        self._ticket = None
        instance = grant.lease.instance
        self._sent = False
        try:
            notes.granted(monotonic_s(), instance.id, word(grant.decision.verdict))
            self._check_stopped()
            await self._send_to(instance, head, pool, outgoing, grant)
        except (ClientGone, ShuttingDown, UpstreamBroke, UpstreamTimedOut, asyncio.CancelledError):
            # Over for us; the instance may not have noticed yet, and would make the next call wait inside it.
            if self._sent:
                corridor.admission.close(grant)
                corridor.closing(instance.id)
            raise
        finally:
            corridor.admission.give_back(grant)

    async def _send_to(
        self,
        instance: Instance,
        head: MessagesHead,
        pool: Pool,
        outgoing: Outgoing,
        grant: Grant,
    ) -> None:
        corridor, notes = self._corridor, self._notes
        pool = corridor.fleet.view.registry.pools.get(pool.name, pool)
        upstream_model = pool.upstream_models.get(instance.id)
        body = with_model(outgoing.body, upstream_model) if upstream_model else outgoing.body
        attempt = Attempt(instance, deadlines=corridor.settings.deadlines, started_s=notes.started_s)
        attempt.on_begun = grant.lease.begin
        attempt.on_reading = grant.lease.reading
        attempt.on_committed = lambda: corridor.observe(instance.id, Event.CALL_BEGAN)
        about = _about(instance, notes, grant.decision, waited=grant.waited)
        stream: NativeStream | None = None
        if self._client is not None:
            message_id = self._link.request_id.replace("req_", "msg_")
            stream = NativeStream(model=head.model, instance_id=instance.id, message_id=message_id)
            attempt.into(stream, self._client, about, _comment(about))
        self._attempt = attempt
        corridor.running.add(attempt)
        self._sent = True
        try:
            answer = await attempt.run(corridor.pools[instance], outgoing.head(instance, len(body)), body)
        finally:
            corridor.running.remove(attempt)
            self._attempt = None
            if stream is not None:
                notes.streamed(stream, attempt)
        if answer is not None:
            self._respond(answer, instance, head, about)

    def _respond(self, answer: Answer, instance: Instance, head: MessagesHead, about: list[Header]) -> None:
        """Send a plain answer, repaired."""
        try:
            body, usage, stop_reason = repair_message(answer.body, model=head.model)
        except msgspec.DecodeError:
            raise UpstreamBroke(
                f"instance {instance.id} sent an answer that is not a message", instance_id=instance.id
            ) from None
        self._notes.answered(monotonic_s(), len(body), usage, stop_reason)
        request_id = (b"request-id", self._link.request_id.encode())
        self._link.respond(200, (*for_client(answer.headers), request_id, *about), body)

    # ------------------------------------------------------------ what happens from outside

    def _on_gone(self) -> None:
        """The client has left: whatever waits for it stops at once."""
        self._stop(ClientGone("the client closed its connection"))

    def _stop(self, error: RouterError) -> None:
        """End the call with this error, wherever it is; between two places it finds out at the next."""
        self._stopped = error
        if self._ticket is not None:
            self._corridor.admission.withdraw(self._ticket, error)
        if self._attempt is not None:
            self._attempt.abandon(error)

    def _on_writable(self, can_write: bool) -> None:  # a callback with one meaning
        if self._attempt is not None:
            self._attempt.writable(can_write)

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


def _about(instance: Instance, notes: Notes, decision: Decision, *, waited: bool) -> list[Header]:
    """The headers that say who answered and why; the same on plain and streamed answers."""
    verdict = f"{word(decision.verdict)}{' after wait' if waited else ''}; {len(decision.ranking)} candidates"
    return [
        (b"x-router-instance", instance.id.encode()),
        (b"x-router-queue-ms", b"%d" % (1000 * (notes.queue_s or 0.0))),
        (b"x-router-decision", verdict.encode()),
    ]


def _comment(headers: list[Header]) -> bytes:
    return b": " + b"; ".join([b"%b: %b" % header for header in headers]) + b"\n\n"
