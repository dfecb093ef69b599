"""/v1/messages."""

from router.errors import RequestInvalid
from router.fleet.registry import Pool
from router.relay.serving import ServedCall
from router.translate.plan import MessagesRequest, Request
from router.wire.anthropic import decode_messages


class MessagesCall(ServedCall):
    """One call of the Messages API."""

    __slots__ = ()

    def _read(self, body: bytes) -> Request:
        return MessagesRequest(decode_messages(body), body)

    def _complete(self, request: Request, pool: Pool) -> None:
        """The registry may have a max_tokens for those who send none."""
        if request.max_tokens is not None:
            return
        if pool.default_max_tokens is None:
            raise RequestInvalid(
                "max_tokens: field required; say how many tokens the answer may have, for example 1024"
            )
        request.complete(pool.default_max_tokens)
