"""POST /v1/messages and its kin: a key becomes a Caller, a request becomes an Exchange."""

from collections.abc import Sequence
from typing import Any

from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from router.edge.auth import Keys
from router.edge.link import EXTENSION
from router.edge.protocol import RouterProtocol
from router.errors import MethodNotAllowed, NotSupported, Unauthorized
from router.relay.corridor import Corridor
from router.relay.counting import CountTokens
from router.relay.exchange import Caller
from router.relay.messages import MessagesCall


def message_routes(corridor: Corridor, keys: Keys, origins: frozenset[bytes]) -> list[ASGIRouteHandler]:
    """Make the handlers; what they need is bound here, not injected per call.

    `origins`: the web pages that may read the answers. Litestar answers their preflights and adds the headers to what
    it sends; a relayed answer goes past it.
    """

    # As bare ASGI: a typed handler would cost 10 us a call for a Request and a Response that nobody uses.
    @asgi("/v1/messages", copy_scope=False)
    async def messages(scope: Scope, receive: Receive, send: Send) -> None:
        link = posted(scope, origins)
        await MessagesCall(corridor, link, caller_of(keys, link))(scope, receive, send)

    @asgi("/v1/messages/count_tokens", copy_scope=False)
    async def count_tokens(scope: Scope, receive: Receive, send: Send) -> None:
        link = posted(scope, origins)
        await CountTokens(corridor, link, caller_of(keys, link))(scope, receive, send)

    return [messages, count_tokens]


def posted(scope: Scope, origins: frozenset[bytes]) -> Any:
    """The link of a POST; an ASGI route is called for every method."""
    if scope["method"] != "POST":  # type: ignore[typeddict-item]  # there are no websockets here
        words = f"{scope['method']} is not for this path; it is served with POST"  # type: ignore[typeddict-item]
        raise MethodNotAllowed(words, allow="POST")
    link = link_of(scope)
    if origins:
        link.relay_headers = _cors(link.headers, origins)
    return link


def caller_of(keys: Keys, link: Any) -> Caller:
    """Who calls; somebody who tries keys shows in the metrics."""
    try:
        return keys.caller(link.headers)
    except Unauthorized as error:
        RouterProtocol.on_refusal(error)
        raise


def _cors(headers: Sequence[tuple[bytes, bytes]], origins: frozenset[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    origin = next((value for name, value in headers if name == b"origin"), b"")
    if b"*" in origins:
        return ((b"access-control-allow-origin", b"*"),)
    vary = (b"vary", b"Origin")
    return ((b"access-control-allow-origin", origin), vary) if origin in origins else (vary,)


def link_of(scope: Scope) -> Any:
    """The connection's side of this request."""
    extensions: Any = scope["extensions"]
    return extensions[EXTENSION]


def not_offered(what: str) -> NotSupported:
    """The error for a part of the hosted API that a router of local models has no use for."""
    return NotSupported(f"{what} are not offered here; send each request to POST /v1/messages")
