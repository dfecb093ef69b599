"""GET /v1/models: one list that the Anthropic and the OpenAI SDKs both read.

An entry has the keys of both. Context sizes and capabilities are what the instances say of themselves: of several, the
smallest and the least, so that no client is promised what one of them cannot keep.
"""

from typing import Annotated, Any

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from litestar.types import Scope

from router.edge.auth import Keys
from router.edge.messages import link_of
from router.errors import RequestInvalid
from router.fleet.fleet import Fleet
from router.fleet.registry import Pool
from router.fleet.view import Row

MAX_LIMIT = 1000

Entry = dict[str, Any]


def model_routes(fleet: Fleet, keys: Keys, *, started_at: str, started_s: int) -> list[HTTPRouteHandler]:
    """Make the handlers. `started_at` (RFC 3339) and `started_s` (Unix) stand for when a model was made."""

    def entries() -> list[Entry]:
        view = fleet.view
        named = {name: view.registry.resolve(name) for name in view.registry.names()}
        return [_entry(name, pool, view.pool_rows(pool.name), started_at, started_s) for name, pool in named.items()]

    @get("/v1/models")
    async def models(
        scope: Scope,
        limit: int = MAX_LIMIT,
        after_id: str | None = None,
        before_id: str | None = None,
    ) -> dict[str, Any]:
        keys.caller(link_of(scope).headers)
        if not 1 <= limit <= MAX_LIMIT:
            raise RequestInvalid(f"limit: must be from 1 to {MAX_LIMIT}")
        return _page(entries(), limit, after_id, before_id)

    @get("/v1/models/{model_id:path}")
    async def model(scope: Scope, model_id: Annotated[str, Parameter()]) -> Entry:
        keys.caller(link_of(scope).headers)
        name = model_id.lstrip("/")
        view = fleet.view
        pool = view.registry.resolve(name)
        return _entry(name, pool, view.pool_rows(pool.name), started_at, started_s)

    return [models, model]


def _entry(name: str, pool: Pool, rows: list[Row], started_at: str, started_s: int) -> Entry:
    facts = [row.facts for row in rows if row.facts is not None]
    sizes = [fact.ctx_tokens for fact in facts if fact.ctx_tokens]
    ctx_tokens = min(sizes) if sizes else None
    display = pool.display_name if name == pool.name else f"{pool.display_name} ({name})"
    return {
        "type": "model",
        "id": name,
        "display_name": display,
        "created_at": started_at,
        "lifecycle": "active",
        "max_input_tokens": ctx_tokens,
        "max_tokens": ctx_tokens,
        "capabilities": _capabilities(rows) if facts else None,
        "line": None,
        "deprecated_at": None,
        "retires_at": None,
        "object": "model",
        "created": started_s,
        "owned_by": "llama-router",
    }


def _capabilities(rows: list[Row]) -> dict[str, Any]:
    facts = [row.facts for row in rows if row.facts is not None]
    no: dict[str, Any] = {"supported": False}
    thinking = {"supported": all(bool(fact.thinking) for fact in facts)}
    return {
        "batch": no,
        "citations": no,
        "code_execution": no,
        "context_management": no,
        "effort": no | dict.fromkeys(("low", "medium", "high", "xhigh", "max"), no),
        "image_input": {"supported": all(fact.vision for fact in facts)},
        "pdf_input": no,
        "server_tools": no | dict.fromkeys(("code_execution", "web_search"), no),
        "structured_outputs": no,
        "thinking": thinking
        | {"types": {"adaptive": no, "between_tools": no, "disabled": no, "enabled": dict(thinking)}},
        "tools": {"supported": all(fact.tools is not False for fact in facts)},
    }


def _page(entries: list[Entry], limit: int, after_id: str | None, before_id: str | None) -> dict[str, Any]:
    """One page, by the Messages API's rules: `has_more` is always there, or its SDK asks for ever."""
    ids = [entry["id"] for entry in entries]
    for cursor, given in (("after_id", after_id), ("before_id", before_id)):
        if given is not None and given not in ids:
            raise RequestInvalid(f"{cursor}: no model has this id; use first_id or last_id of a page")
    start = ids.index(after_id) + 1 if after_id is not None else 0
    end = ids.index(before_id) if before_id is not None else len(entries)
    window = entries[start:end]
    page = window[-limit:] if before_id is not None and after_id is None else window[:limit]
    return {
        "object": "list",
        "data": page,
        "has_more": len(page) < len(window),
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }
