"""count_tokens: the same body as a message, and no slot.

llama-server counts on its HTTP threads, at once, even when every slot is busy; so no lease is taken and nothing waits.
"""

from router.balance.affinity import session_key, session_of
from router.balance.call import Call
from router.balance.policy import least, word
from router.clock import monotonic_s
from router.errors import NoInstance, NotSupported, RequestInvalid, UpstreamAnswered, UpstreamFailed
from router.fleet.instance import Instance
from router.fleet.registry import Pool
from router.relay.exchange import MAX_ATTEMPTS, Exchange
from router.translate.answer import Usage
from router.translate.messages_plan import MessagesRequest
from router.translate.plan import Request
from router.wire.anthropic import decode_messages


class CountTokens(Exchange):
    """One count_tokens call."""

    endpoint = "count_tokens"

    __slots__ = ()

    def _read(self, body: bytes) -> Request:
        return MessagesRequest(decode_messages(body), body)

    async def _serve(self, request: Request, pool: Pool) -> None:
        """Ask the instance that the conversation leans to, then the others, until one has counted."""
        self._link.watch(on_gone=self._on_gone)
        session = session_key(pool.name, session_of(self._link.headers), *request.opening)
        view = self._corridor.fleet.view
        decision = least(Call(pool=pool.name, session=session), view, monotonic_s())
        if not decision.ranking:
            raise NoInstance(f"no instance of {pool.name} is serving at present", retry_after_s=5)
        reasons = [
            request.refusal(self._corridor.skills.of(row), pass_tools=pool.pass_tools)
            for row in view.pool_rows(pool.name)
        ]
        if reasons and all(reasons):
            raise RequestInvalid(reasons[0] or "")  # as the message itself would be
        last_error: UpstreamFailed | None = None
        for candidate in decision.ranking[:MAX_ATTEMPTS]:
            row = view.rows[candidate.instance_id]
            self._notes.granted(monotonic_s(), row.instance.id, word(decision.verdict))
            try:
                tokens = await self._count_on(row, pool, request)
            except UpstreamFailed as error:
                if isinstance(error, UpstreamAnswered) and error.status in {404, 501}:
                    continue  # it has no such route, which is no failure
                last_error = error
                self._learn(error)
                if not error.retryable:
                    raise
                self._notes.failed_on = (*self._notes.failed_on, row.instance.id)
            else:
                self._tell(tokens or 0, row.instance)
                return
        raise last_error or NotSupported(f"the instances of {pool.name} cannot count tokens")

    def _tell(self, tokens: int, instance: Instance) -> None:
        body = b'{"input_tokens":%d}' % tokens
        self._notes.answered(monotonic_s(), len(body), Usage(input_tokens=tokens), "")
        headers = (
            (b"content-type", b"application/json"),
            (b"request-id", self._link.request_id.encode()),
            (b"x-router-instance", instance.id.encode()),
        )
        self._link.respond(200, headers, body)
