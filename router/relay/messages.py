"""/v1/messages: a slot, one instance after another until one answers, and the answer on its way to the client."""

import asyncio
import itertools

import msgspec

from router.admit.desk import Ticket
from router.balance.affinity import affinity
from router.balance.policy import Call, Decision, word
from router.clock import monotonic_s
from router.errors import (
    CallTooLong,
    ClientGone,
    NoInstance,
    RequestInvalid,
    ShuttingDown,
    UpstreamBroke,
    UpstreamFailed,
    UpstreamTimedOut,
)
from router.fleet.health import Event
from router.fleet.instance import Instance
from router.fleet.registry import Pool
from router.relay.admission import Grant
from router.relay.attempt import Answer, Attempt
from router.relay.exchange import COUNT_PATH, MAX_ATTEMPTS, Exchange, session_of
from router.relay.headers import Header, for_client
from router.relay.notes import Notes
from router.relay.outgoing import Outgoing
from router.relay.send import ClientStream
from router.translate.repair import NativeStream, repair_message, with_max_tokens, with_model
from router.wire.anthropic import MessagesHead

# From this share of the context on a guess is not good enough.
NEARLY = 0.85
_ticket_numbers = itertools.count(1)


class MessagesCall(Exchange):
    """One call for an answer."""

    __slots__ = ()

    def _complete(self, body: bytes, head: MessagesHead, pool: Pool) -> bytes:
        """The registry may have a max_tokens for those who send none."""
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
        await self._refuse_if_too_long(pool, outgoing)
        await self._try_until_served(ticket, head, pool, outgoing)

    async def _refuse_if_too_long(self, pool: Pool, outgoing: Outgoing) -> None:
        """Before a call waits for a slot, see that its prompt fits into one.

        With a free slot the instance says so itself, at once. A guess decides whether to ask; only a count refuses.
        """
        rows = self._corridor.fleet.view.pool_rows(pool.name)
        if any(row.free for row in rows):
            return
        facts = [(row.facts, row.instance) for row in rows if row.serving and row.facts]
        known = [(fact.ctx_tokens, instance) for fact, instance in facts if fact.ctx_tokens]
        if not known:
            return
        limit_tokens, instance = max(known, key=lambda one: one[0])
        if self._corridor.token_sizes.guess_tokens(pool.name, len(outgoing.body)) < NEARLY * limit_tokens:
            return
        try:
            _, tokens = await self._count_on(instance, pool, outgoing.to(COUNT_PATH))
        except UpstreamFailed:
            return
        self._check_stopped()
        if tokens >= limit_tokens:
            raise RequestInvalid(f"prompt is too long: {tokens} tokens > {limit_tokens} maximum")

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
                if not self._corridor.retries.take(pool.name):
                    raise
                notes.failed_on = (*notes.failed_on, error.instance_id)
                notes.causes = (*notes.causes, error.cause)
                last_error = error
                excluded = ticket.call.excluded | {error.instance_id}
                ticket = msgspec.structs.replace(ticket, call=msgspec.structs.replace(ticket.call, excluded=excluded))

    async def _try_once(self, ticket: Ticket, head: MessagesHead, pool: Pool, outgoing: Outgoing) -> None:
        corridor, notes = self._corridor, self._notes
        self._check_stopped()
        self._ticket = ticket
        grant = await corridor.admission.admit(ticket)
        self._ticket = None
        instance = grant.lease.instance
        self._sent = False
        try:
            notes.granted(monotonic_s(), instance.id, word(grant.decision.verdict))
            self._check_stopped()
            await self._send_to(instance, head, pool, outgoing, grant)
            corridor.admission.served(grant)
        except (CallTooLong, ClientGone, ShuttingDown, UpstreamBroke, UpstreamTimedOut, asyncio.CancelledError):
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
        attempt.on_sent = grant.lease.sent
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

    def _on_writable(self, can_write: bool) -> None:  # a callback with one meaning
        if self._attempt is not None:
            self._attempt.writable(can_write)


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
