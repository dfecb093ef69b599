"""A call that needs a slot: one instance after another until one answers, and the answer on its way to the client."""

import asyncio
import itertools

import msgspec

from router.admit.ticket import Ticket
from router.balance.policy import Decision, word
from router.clock import monotonic_s, wall_s
from router.errors import (
    CallTooLong,
    ClientGone,
    NoInstance,
    PromptTooLong,
    RequestInvalid,
    ShuttingDown,
    UpstreamAnswered,
    UpstreamBroke,
    UpstreamFailed,
    UpstreamTimedOut,
)
from router.fleet.health import Event
from router.fleet.instance import Instance, InstanceId
from router.fleet.registry import Pool
from router.fleet.view import Row
from router.relay.admission import Grant
from router.relay.attempt import Answer, Attempt
from router.relay.exchange import MAX_ATTEMPTS, Exchange
from router.relay.headers import Header, for_client
from router.relay.identity import call_of
from router.relay.notes import Notes
from router.relay.outgoing import Outgoing
from router.relay.send import ClientStream
from router.translate.answer import AnswerStream
from router.translate.fidelity import abilities
from router.translate.plan import About, Plan, Request

# From this share of the context on a guess is not good enough.
NEARLY = 0.85
# How long the count may take that could spare a call its wait; without it the call waits as others do.
COUNT_DEADLINE_S = 3.0
_ticket_numbers = itertools.count(1)


class ServedCall(Exchange):
    """One call, in whichever dialect."""

    __slots__ = ("_doubtful", "_outgoing")

    async def _serve(self, request: Request, pool: Pool) -> None:
        notes = self._notes
        settings = self._corridor.settings
        notes.stream = request.streams
        self._outgoing = Outgoing(self._link.headers)
        self._doubtful: Instance | None = None
        self._link.watch(on_gone=self._on_gone, on_writable=self._on_writable)
        if request.streams:
            self._client = ClientStream(
                self._link,
                voice=self.voice,
                request_id=self._link.request_id,
                headers=self._ids(),
                hold_s=settings.deadlines.hold_s,
            )
        unfit = self._unfit(request, pool)
        number = next(_ticket_numbers)
        call = call_of(
            request,
            pool,
            self._link.headers,
            number=number,
            now_s=notes.started_s,
            unfit=unfit,
            mirrored=not all(self._corridor.skills.of(row).exact for row in self._rows(pool)),
        )
        ticket = Ticket(
            number=number,
            call=call,
            arrived_s=notes.started_s,
            deadline_s=notes.started_s + min(settings.queue_deadline_s, settings.deadlines.call_s),
            size_bytes=request.size_bytes,
        )
        self._corridor.retries.pay_in(pool.name)
        book, answered = self._corridor.book, False
        book.arrived(call, notes.started_s)
        try:
            await self._refuse_if_too_long(request, pool)
            await self._try_until_served(ticket, request, pool)
            answered = True
        finally:
            book.left(call, monotonic_s(), answered=answered)

    def _rows(self, pool: Pool) -> list[Row]:
        return self._corridor.fleet.view.pool_rows(pool.name)

    def _unfit(self, request: Request, pool: Pool) -> frozenset[InstanceId]:
        """The instances that cannot do what it asks for.

        Raises:
            RequestInvalid: none of the pool can; in the words for the first.

        """
        skills, reasons = self._corridor.skills, {}
        asked: dict[int, str | None] = {}
        rows = self._corridor.fleet.view.pool_rows(pool.name)
        for row in rows:
            can = skills.of(row)
            if id(can) not in asked:
                asked[id(can)] = request.refusal(can, pass_tools=pool.pass_tools)
            if (reason := asked[id(can)]) is not None:
                reasons[row.instance.id] = reason
        if rows and len(reasons) == len(rows):
            raise RequestInvalid(next(iter(reasons.values())))
        return frozenset(reasons)

    async def _refuse_if_too_long(self, request: Request, pool: Pool) -> None:
        """Before a call waits for a slot, see that its prompt fits into one.

        With a free slot the instance says so itself, at once. A guess decides whether to ask; only a count refuses.
        """
        rows = self._corridor.fleet.view.pool_rows(pool.name)
        if any(row.free for row in rows):
            return
        known = [(row.facts.ctx_tokens, row) for row in rows if row.serving and row.facts and row.facts.ctx_tokens]
        if not known:
            return
        limit_tokens, row = max(known, key=lambda one: one[0])
        if self._corridor.token_sizes.guess_tokens(pool.name, request.size_bytes) < NEARLY * limit_tokens:
            return
        try:
            async with asyncio.timeout(COUNT_DEADLINE_S):
                tokens = await self._count_on(row, pool, request)
        except (UpstreamFailed, TimeoutError):
            return
        self._check_stopped()
        if tokens is not None and tokens >= limit_tokens:
            raise PromptTooLong(f"{tokens} tokens > {limit_tokens} maximum")

    async def _try_until_served(self, ticket: Ticket, request: Request, pool: Pool) -> None:
        """Try one instance after another, as long as nothing has been shown and the budgets last."""
        notes = self._notes
        last_error: UpstreamFailed | None = None
        while True:
            try:
                return await self._try_once(ticket, request, pool)
            except NoInstance:
                if last_error is not None:
                    raise last_error from None
                raise
            except UpstreamFailed as error:
                self._learn(error)
                if notes.committed_s is not None or notes.attempts >= MAX_ATTEMPTS or not self._worth_another(error):
                    raise
                granted_s = notes.started_s + (notes.queue_s or 0.0)
                ticket = ticket.moved(self._at_now(), granted_s=granted_s, now_s=monotonic_s())
                ends_s = notes.started_s + self._corridor.settings.deadlines.call_s
                ticket = msgspec.structs.replace(ticket, deadline_s=min(ticket.deadline_s, ends_s))
                if not self._may_move(ticket):
                    raise
                notes.failed_on = (*notes.failed_on, error.instance_id)
                notes.causes = (*notes.causes, error.cause)
                last_error = error

    def _worth_another(self, error: UpstreamFailed) -> bool:
        """Another instance may do better.

        500 is said of requests that cannot be handled, and by instances that can handle none: one other is asked.
        """
        if error.retryable:
            return True
        if self._doubtful is not None or not (isinstance(error, UpstreamAnswered) and error.status == 500):
            return False
        self._doubtful = self._at
        return True

    def _may_move(self, ticket: Ticket) -> bool:
        """There is an instance left that has not failed it, and the budget has one more attempt."""
        pool = ticket.call.pool
        rows = self._corridor.fleet.view.pool_rows(pool)
        if all(row.instance.id in ticket.call.excluded for row in rows):
            return False
        return self._corridor.retries.take(pool, slots=sum(row.slots for row in rows))

    async def _try_once(self, ticket: Ticket, request: Request, pool: Pool) -> None:
        corridor, notes = self._corridor, self._notes
        self._check_stopped()
        self._ticket = ticket
        grant = await corridor.admission.admit(ticket)
        self._ticket = None
        instance = self._at = grant.lease.instance
        self._sent = False
        try:
            notes.granted(monotonic_s(), instance.id, word(grant.decision.verdict))
            self._check_stopped()
            notes.foresee(grant.decision)
            await self._send_to(instance, request, pool, grant)
            corridor.admission.served(grant, notes.usage)
        except (CallTooLong, ClientGone, ShuttingDown, UpstreamBroke, UpstreamTimedOut, asyncio.CancelledError):
            # Over for us; the instance may not have noticed yet, and would make the next call wait inside it.
            if self._sent:
                corridor.admission.close(grant)
                corridor.closing(instance)
            raise
        finally:
            corridor.admission.give_back(grant)

    async def _send_to(self, instance: Instance, request: Request, pool: Pool, grant: Grant) -> None:
        corridor, notes = self._corridor, self._notes
        view = corridor.fleet.view
        pool = view.registry.pools.get(pool.name, pool)
        # By process: since the lease was given, a reload may have put another behind its id, or given it another id.
        row = view.rows.get(corridor.fleet.id_of(instance) or "")
        can = corridor.skills.of(row) if row is not None else abilities(instance, None)
        plan = request.plan(can, upstream_model=pool.upstream_models.get(instance.id), pass_tools=pool.pass_tools)
        notes.way, notes.dropped = plan.way, request.dropped
        about = About(
            instance_id=instance.id,
            message_id=self._link.request_id.replace("req_", "msg_"),
            created_s=int(wall_s()),
            guess_tokens=round(corridor.token_sizes.guess_tokens(pool.name, request.size_bytes)),
        )
        headers = _about(instance, notes, grant.decision, waited=grant.waited)
        attempt = self._attempt_at(instance, grant)
        stream: AnswerStream | None = None
        if self._client is not None:
            stream = answers = plan.stream(about)
            attempt.into(stream, self._client, headers, _comment(headers))
            attempt.on_committed = lambda: self._on_first_token(instance, grant, answers)
        self._attempt = attempt
        corridor.running.add(attempt)
        head = self._outgoing.head(instance, plan.path, len(plan.body), version=plan.version)
        try:
            answer = await attempt.run(corridor.pools[instance], head, plan.body)
        finally:
            corridor.running.remove(attempt)
            self._attempt = None
            if stream is not None:
                notes.streamed(stream, attempt)
        if answer is not None:
            self._respond(answer, plan, about, headers)

    def _attempt_at(self, instance: Instance, grant: Grant) -> Attempt:
        attempt = Attempt(instance, deadlines=self._corridor.settings.deadlines, started_s=self._notes.started_s)
        attempt.on_sent = lambda now_s: self._on_sent(grant, now_s)
        attempt.on_begun = lambda: self._corridor.admission.begun(grant)
        attempt.on_reading = grant.lease.reading
        attempt.on_committed = lambda: self._on_committed(instance)
        return attempt

    def _respond(self, answer: Answer, plan: Plan, about: About, headers: list[Header]) -> None:
        """Send a plain answer, repaired."""
        try:
            body, usage, stop_reason = plan.whole(answer.body, about)
        except msgspec.DecodeError:
            raise UpstreamBroke(
                f"instance {about.instance_id} sent an answer that cannot be read", instance_id=about.instance_id
            ) from None
        self._notes.answered(monotonic_s(), len(body), usage, stop_reason)
        self._link.respond(200, (*for_client(answer.headers), *self._ids(), *headers), body)

    def _ids(self) -> tuple[Header, ...]:
        """The request id, under the names that the SDKs of either API read."""
        request_id = self._link.request_id.encode()
        return (b"request-id", request_id), (b"x-request-id", request_id)

    def _on_first_token(self, instance: Instance, grant: Grant, stream: AnswerStream) -> None:
        self._on_committed(instance)
        self._corridor.admission.first_token(grant, stream.usage)

    def _on_committed(self, instance: Instance) -> None:
        self._corridor.observe(instance, Event.CALL_BEGAN)
        if self._doubtful is not None:  # another can: it was not the request's doing
            self._corridor.observe(self._doubtful, Event.CALL_FAILED)
            self._doubtful = None

    def _on_sent(self, grant: Grant, now_s: float) -> None:
        """From now on the instance may be busy with it; before, while it was connected to, it knew nothing of it."""
        self._sent = True
        grant.lease.sent(now_s)

    def _on_writable(self, can_write: bool) -> None:  # a callback with one meaning
        if self._attempt is not None:
            self._attempt.writable(can_write)


def _about(instance: Instance, notes: Notes, decision: Decision, *, waited: bool) -> list[Header]:
    """The headers that say who answered and why; the same on plain and streamed answers."""
    verdict = f"{word(decision.verdict)}{' after wait' if waited else ''}; {len(decision.ranking)} candidates"
    one = decision.placed
    if one is not None and one.prompt_tokens:  # other policies than ptx foresee nothing
        warm = f"{one.hit_tokens:.0f}/{one.prompt_tokens:.0f}"
        verdict = f"{verdict}; warm={warm} total={one.terms.total_s:.3f}s"
    return [
        (b"x-router-instance", instance.id.encode()),
        (b"x-router-queue-ms", b"%d" % (1000 * (notes.queue_s or 0.0))),
        (b"x-router-decision", verdict.encode()),
        (b"x-router-way", notes.way.encode()),
    ]


def _comment(headers: list[Header]) -> bytes:
    return b": " + b"; ".join([b"%b: %b" % header for header in headers]) + b"\n\n"
