"""What is asked by machines and by clients warming up: healthz, readyz, metrics, HEAD /; and what is not offered."""

from collections.abc import Callable
from typing import Any

from litestar import Response, get, head, route
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler

from router import __version__
from router.edge.messages import not_offered
from router.fleet.fleet import Fleet
from router.observe.metrics import Metrics

# Parts of the hosted API that clients may try; told apart from a mistyped path.
_NOT_OFFERED = {
    "/v1/messages/batches": "message batches",
    "/v1/messages/batches/{rest:path}": "message batches",
    "/v1/files": "files",
    "/v1/files/{rest:path}": "files",
}
_METHODS = ["GET", "POST", "DELETE"]
_LOOKS = [HttpMethod.GET, HttpMethod.HEAD]


def ops_routes(fleet: Fleet, metrics: Metrics, stopping: Callable[[], bool]) -> list[HTTPRouteHandler]:
    """Make the handlers. None of them asks for a key and none says more than it must."""

    @get("/")
    async def root() -> dict[str, Any]:
        return {
            "name": "llama-router",
            "version": __version__,
            "messages": "/v1/messages",
            "chat_completions": "/v1/chat/completions",
            "models": "/v1/models",
        }

    @head(["/", "/api/hello"])
    async def warm_up() -> None:
        """Claude Code opens its connection with one of these."""

    # Load balancers ask with HEAD too: the same answer, of which the connection sends the head only.
    @route("/healthz", http_method=_LOOKS)
    async def healthz() -> dict[str, str]:
        """The process runs; it says nothing of the instances."""
        return {"status": "ok"}

    @route("/readyz", http_method=_LOOKS)
    async def readyz() -> Response[dict[str, Any]]:
        """Some model can serve a call, and the router is not being stopped."""
        serving = [] if stopping() else serving_pools(fleet)
        status = 200 if serving else 503
        return Response({"ready": bool(serving), "models_serving": len(serving)}, status_code=status)

    @get("/metrics")
    async def scrape() -> Response[bytes]:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")

    return [
        root,
        warm_up,
        healthz,
        readyz,
        scrape,
        *(_refusing(path, what) for path, what in _NOT_OFFERED.items()),
    ]


def serving_pools(fleet: Fleet) -> list[str]:
    """The pools that have an instance which serves."""
    view = fleet.view
    return [name for name in view.registry.pools if any(row.serving for row in view.pool_rows(name))]


def _refusing(path: str, what: str) -> HTTPRouteHandler:
    @route(path, http_method=_METHODS, name=path)  # type: ignore[arg-type]  # the literal type does not widen
    async def not_here() -> None:
        raise not_offered(what)

    return not_here
