"""count_tokens: the same body as a message, and no slot.

llama-server counts on its HTTP threads, at once, even when every slot is busy; so no lease is taken and nothing waits.
"""

from router.balance.affinity import affinity
from router.balance.policy import Call, choose, word
from router.clock import monotonic_s
from router.errors import NoInstance, UpstreamFailed
from router.fleet.instance import Instance
from router.fleet.registry import Pool
from router.relay.attempt import Answer
from router.relay.exchange import COUNT_PATH, MAX_ATTEMPTS, Exchange, session_of
from router.relay.headers import for_client
from router.relay.outgoing import Outgoing
from router.translate.repair import Usage
from router.wire.anthropic import MessagesHead


class CountTokens(Exchange):
    """One count_tokens call."""

    endpoint = "count_tokens"
    path = COUNT_PATH

    __slots__ = ()

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
                answer, tokens = await self._count_on(instance, pool, outgoing)
            except UpstreamFailed as error:
                self._learn(error)
                if not error.retryable:
                    raise
                last_error = error
                self._notes.failed_on = (*self._notes.failed_on, instance.id)
            else:
                self._tell(answer, tokens, instance)
                return
        if last_error is not None:
            raise last_error

    def _tell(self, answer: Answer, tokens: int, instance: Instance) -> None:
        body = b'{"input_tokens":%d}' % tokens
        self._notes.answered(monotonic_s(), len(body), Usage(input_tokens=tokens), "")
        request_id = (b"request-id", self._link.request_id.encode())
        about = (b"x-router-instance", instance.id.encode())
        self._link.respond(200, (*for_client(answer.headers), request_id, about), body)
