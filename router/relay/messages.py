"""/v1/messages."""

from router.errors import RequestInvalid
from router.fleet.registry import Pool
from router.relay.serving import ServedCall
from router.translate.messages_plan import MessagesRequest
from router.translate.plan import Request
from router.wire.unread import decode_noting, unread_betas, unread_fields


class MessagesCall(ServedCall):
    """One call of the Messages API."""

    __slots__ = ()

    def _read(self, body: bytes) -> Request:
        head, notes = decode_noting(body), self._notes
        notes.unread_fields, notes.unread_betas = unread_fields(head), unread_betas(self._link.headers)
        return MessagesRequest(head, body)

    def _complete(self, request: Request, pool: Pool) -> None:
        """The registry may have a max_tokens for those who send none."""
        if request.max_tokens is not None:
            return
        if pool.default_max_tokens is None:
            raise RequestInvalid(
                "max_tokens: field required; say how many tokens the answer may have, for example 1024"
            )
        request.complete(pool.default_max_tokens)
