"""count_tokens: the same body as a message, and no slot.

llama-server counts on its HTTP threads, at once, even when every slot is busy; so no lease is taken and nothing waits.
"""

import msgspec

from router.balance.affinity import affinity
from router.balance.policy import Call, choose, word
from router.clock import monotonic_s
from router.errors import NoInstance, UpstreamBroke, UpstreamFailed
from router.fleet.instance import Instance
from router.fleet.registry import Pool
from router.relay.attempt import Attempt
from router.relay.exchange import MAX_ATTEMPTS, Exchange, session_of
from router.relay.headers import for_client
from router.relay.outgoing import Outgoing
from router.translate.repair import Usage, with_model
from router.wire.anthropic import MessagesHead
from router.wire.reading import read


class _Count(msgspec.Struct, frozen=True):
    input_tokens: int


_decoder = msgspec.json.Decoder(_Count)


class CountTokens(Exchange):
    """One count_tokens call."""

    endpoint = "count_tokens"
    path = b"/v1/messages/count_tokens"

    __slots__ = ()

    def _complete(self, body: bytes, head: MessagesHead, pool: Pool) -> bytes:
        """Nothing is missing: a count needs no max_tokens."""
        return body

    async def _serve(self, head: MessagesHead, pool: Pool, outgoing: Outgoing) -> None:
        """Ask the instance that the conversation leans to, then the others, until one has counted."""
        self._link.watch(on_gone=self._on_gone)
        call = Call(pool=pool.name, affinity=affinity(pool.name, session_of(self._link.headers), head))
        decision = choose(call, self._corridor.fleet.view)
        if not decision.ranking:
            raise NoInstance(f"no instance of {pool.name} is serving at present", retry_after_s=5)
        last_error: UpstreamFailed | None = None
        for candidate in decision.ranking[:MAX_ATTEMPTS]:
            instance = self._corridor.fleet.view.rows[candidate.instance_id].instance
            self._notes.granted(monotonic_s(), instance.id, word(decision.verdict))
            try:
                await self._count_on(instance, pool, outgoing)
            except UpstreamFailed as error:
                self._learn(error)
                if not error.retryable:
                    raise
                last_error = error
                self._notes.failed_on = (*self._notes.failed_on, instance.id)
            else:
                return
        if last_error is not None:
            raise last_error

    async def _count_on(self, instance: Instance, pool: Pool, outgoing: Outgoing) -> None:
        upstream_model = pool.upstream_models.get(instance.id)
        body = with_model(outgoing.body, upstream_model) if upstream_model else outgoing.body
        attempt = Attempt(instance, deadlines=self._corridor.settings.deadlines, started_s=self._notes.started_s)
        self._attempt = attempt
        self._corridor.running.add(attempt)
        try:
            answer = await attempt.run(self._corridor.pools[instance], outgoing.head(instance, len(body)), body)
        finally:
            self._corridor.running.remove(attempt)
            self._attempt = None
        if answer is None:
            return
        try:
            count = read(_decoder, answer.body)
        except msgspec.DecodeError:
            raise UpstreamBroke(
                f"instance {instance.id} sent a token count that cannot be read", instance_id=instance.id
            ) from None
        body = msgspec.json.encode(count)
        self._notes.answered(monotonic_s(), len(body), Usage(input_tokens=count.input_tokens), "")
        request_id = (b"request-id", self._link.request_id.encode())
        about = (b"x-router-instance", instance.id.encode())
        self._link.respond(200, (*for_client(answer.headers), request_id, about), body)
