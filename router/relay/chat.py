"""/v1/chat/completions, and the routes that are only passed on: what clients of the OpenAI API call."""

from router.errors import NotSupported, UpstreamAnswered, UpstreamFailed
from router.fleet.instance import InstanceId
from router.fleet.registry import Pool
from router.relay.serving import ServedCall
from router.relay.voice import CHAT_VOICE
from router.translate.chat_plan import ChatRequest
from router.translate.passing_plan import PassRequest
from router.translate.plan import Request
from router.wire.chat import decode_chat
from router.wire.passing import decode_passing

# What an instance answers that does not have a route, or was not started with what it takes.
_NO_ROUTE = frozenset((404, 501))


class ChatCall(ServedCall):
    """One chat completion."""

    endpoint = "chat_completions"
    voice = CHAT_VOICE

    __slots__ = ()

    def _read(self, body: bytes) -> Request:
        return ChatRequest(decode_chat(body), body)

    def _complete(self, request: Request, pool: Pool) -> None:
        """Without a limit of the client's the registry's holds, if it has one."""
        if request.max_tokens is None and pool.default_max_tokens is not None:
            request.complete(pool.default_max_tokens)


class PassedCall(ServedCall):
    """One call to a route that instances may have and the router knows nothing of; each route is a subclass."""

    path = b""
    voice = CHAT_VOICE

    __slots__ = ()

    def _read(self, body: bytes) -> Request:
        return PassRequest(decode_passing(body), body, self.path)

    async def _serve(self, request: Request, pool: Pool) -> None:
        """An instance that answers 404 or 501 does not have the route; that is no failure of it."""
        try:
            await super()._serve(request, pool)
        except UpstreamAnswered as error:
            if error.status not in _NO_ROUTE:
                raise
            raise self._not_offered(pool) from None

    def _learn(self, error: UpstreamFailed) -> None:
        """Blame nobody for lacking a route, and do not ask it again: a client that does would put out a whole pool."""
        if not (isinstance(error, UpstreamAnswered) and error.status in _NO_ROUTE):
            super()._learn(error)
            return
        row = self._corridor.fleet.view.rows.get(error.instance_id)
        if row is not None:
            self._corridor.skills.lacking(row, self.path)

    def _unfit(self, request: Request, pool: Pool) -> frozenset[InstanceId]:
        """Those that have said that they do not have the route are left out. NotSupported: that is all of them."""
        rows = self._corridor.fleet.view.pool_rows(pool.name)
        lacking = frozenset(row.instance.id for row in rows if self._corridor.skills.lacks(row, self.path))
        if rows and len(lacking) == len(rows):
            raise self._not_offered(pool)
        return lacking | super()._unfit(request, pool)

    def _not_offered(self, pool: Pool) -> NotSupported:
        return NotSupported(f"{self.path.decode()} is not offered by the instances of {pool.name}")


def passed_call(path: str) -> type[PassedCall]:
    """Make the call of one route."""
    name = path.strip("/").removeprefix("v1/").replace("/", "_")
    return type(f"Passed_{name}", (PassedCall,), {"path": path.encode(), "endpoint": name, "__slots__": ()})
