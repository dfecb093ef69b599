"""POST /v1/messages and its kin: a key becomes a Caller, a request becomes an Exchange."""

from typing import Any

from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.types import Scope

from router.edge.auth import Keys
from router.edge.protocol import EXTENSION
from router.errors import NotSupported
from router.relay.corridor import Corridor
from router.relay.counting import CountTokens
from router.relay.exchange import Exchange


def message_routes(corridor: Corridor, keys: Keys) -> list[HTTPRouteHandler]:
    """Make the handlers; what they need is bound here, not injected per call."""

    @post("/v1/messages", status_code=200)
    async def messages(scope: Scope) -> Exchange:
        link = link_of(scope)
        return Exchange(corridor, link, keys.caller(link.headers))

    @post("/v1/messages/count_tokens", status_code=200)
    async def count_tokens(scope: Scope) -> CountTokens:
        link = link_of(scope)
        return CountTokens(corridor, link, keys.caller(link.headers))

    return [messages, count_tokens]


def link_of(scope: Scope) -> Any:
    """The connection's side of this request."""
    extensions: Any = scope["extensions"]
    return extensions[EXTENSION]


def not_offered(what: str) -> NotSupported:
    """The error for a part of the hosted API that a router of local models has no use for."""
    return NotSupported(f"{what} are not offered here; send each request to POST /v1/messages")
