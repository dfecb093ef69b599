"""POST /v1/chat/completions, and the routes of OpenAI and llama.cpp that are only passed on."""

from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from router.edge.auth import Keys
from router.edge.messages import caller_of, posted
from router.relay.chat import ChatCall, passed_call
from router.relay.corridor import Corridor
from router.relay.exchange import Exchange

# What instances may have beside chat. What can change a server (/slots, /lora-adapters, /models/load, POST /props) or
# reaches into its host (/tools, /cors-proxy) is not here, and must not be.
PASSED = (
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/rerank",
    "/tokenize",
    "/detokenize",
    "/infill",
)


def chat_routes(corridor: Corridor, keys: Keys, origins: frozenset[bytes]) -> list[ASGIRouteHandler]:
    """Make the handlers; for `origins` see `message_routes`."""

    def route(path: str, kind: type[Exchange]) -> ASGIRouteHandler:
        @asgi(path, copy_scope=False)
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            link = posted(scope, origins)
            await kind(corridor, link, caller_of(keys, link))(scope, receive, send)

        return handler

    return [route("/v1/chat/completions", ChatCall), *(route(path, passed_call(path)) for path in PASSED)]
