"""Errors become statuses and envelopes here and nowhere else."""

import logging
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from router.config.problem import ConfigInvalid
from router.errors import (
    CallTooLong,
    ClientGone,
    Forbidden,
    HeadTooLarge,
    MethodNotAllowed,
    NoInstance,
    NotFound,
    NotSupported,
    Overloaded,
    RateLimited,
    RequestInvalid,
    RequestStalled,
    RequestTooLarge,
    RouterError,
    ShuttingDown,
    Unauthorized,
    UpstreamAnswered,
    UpstreamFailed,
    UpstreamLoading,
    UpstreamTimedOut,
)
from router.relay.voice import CHAT_VOICE, MESSAGES_VOICE, Telling, Voice

AnyRequest = Request[Any, Any, Any]
_log = logging.getLogger("llama_router")

# Read from the top: a leaf stands before the branch that it hangs on. Types are the Messages API's.
_TABLE: tuple[tuple[type[RouterError], int, str], ...] = (
    (RequestTooLarge, 413, "request_too_large"),
    (HeadTooLarge, 431, "invalid_request_error"),
    (RequestStalled, 408, "timeout_error"),
    (RequestInvalid, 400, "invalid_request_error"),
    (Unauthorized, 401, "authentication_error"),
    (Forbidden, 403, "permission_error"),
    (NotFound, 404, "not_found_error"),
    (MethodNotAllowed, 405, "invalid_request_error"),
    (NotSupported, 501, "api_error"),
    (NoInstance, 503, "api_error"),
    (ShuttingDown, 503, "api_error"),
    (RateLimited, 429, "rate_limit_error"),
    (Overloaded, 529, "overloaded_error"),
    (CallTooLong, 504, "timeout_error"),
    (ClientGone, 499, "api_error"),
    (UpstreamLoading, 529, "overloaded_error"),
    (UpstreamTimedOut, 504, "timeout_error"),
    (UpstreamAnswered, 502, "api_error"),
    (UpstreamFailed, 502, "api_error"),
    (ConfigInvalid, 400, "invalid_request_error"),
    (RouterError, 500, "api_error"),
)


# What an instance says of itself and a client should know: it is to wait, and not to think that we are broken.
_PASSING = {
    429: (429, "rate_limit_error"),
    503: (503, "api_error"),
    504: (504, "timeout_error"),
    529: (529, "overloaded_error"),
}


def tell(error: RouterError) -> Telling:
    """Say how an error is told to a client of the Messages API."""
    status, type_ = next((status, type_) for leaf, status, type_ in _TABLE if isinstance(error, leaf))
    if isinstance(error, UpstreamAnswered):
        status, type_ = _PASSING.get(error.status, (status, type_))
    return Telling(status=status, type=type_, message=error.message, cause=error.cause)


def headers_of(error: RouterError) -> dict[str, str]:
    """The headers that an error brings along."""
    match error:
        case Overloaded() | UpstreamAnswered(retry_after_s=int()):
            return {"retry-after": str(error.retry_after_s)}
        case MethodNotAllowed():
            return {"allow": error.allow}
        case _:
            return {}


def answer_router_error(request: AnyRequest, error: RouterError) -> Response[bytes]:
    """Litestar's handler for our own tree."""
    return _response(request, tell(error), headers_of(error))


def answer_http_exception(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    """Litestar's own 404 and 405, in our envelope."""
    match error.status_code:
        case 404:
            path = str(request.scope.get("path", ""))[:200]
            there = "/v1/chat/completions" if is_openai(path) else "/v1/messages"
            return answer_router_error(request, NotFound(f"there is no {path!r} here; POST {there} is"))
        case 405:
            path = request.scope["path"]
            methods = {method for one in request.app.routes if one.path == path for method in one.methods}
            allow = ", ".join(sorted(methods - {"OPTIONS"})) or "GET, POST"
            words = f"{request.method} is not for this path; it is served with {allow}"
            return answer_router_error(request, MethodNotAllowed(words, allow=allow))
        case _:
            return answer_router_error(request, RequestInvalid(error.detail))


def answer_bug(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Anything else is a fault of ours: the client gets the request id, the log gets the traceback."""
    request_id = request_id_of(request)
    _log.error("request %s failed in the router", request_id, exc_info=error)
    why = "the router failed; its log has the reason under this request id"
    return _response(request, Telling(status=500, type="api_error", message=why), {})


def request_id_of(request: AnyRequest) -> str:
    """The id that the connection gave the request."""
    extensions: Any = request.scope["extensions"]
    return str(extensions["llama_router"].request_id)


def _response(request: AnyRequest, told: Telling, headers: dict[str, str]) -> Response[bytes]:
    request_id = request_id_of(request)
    voice = voice_of(str(request.scope.get("path", "")))
    ids = {"request-id": request_id, "x-request-id": request_id}  # the SDKs of either API read one of them
    return Response(
        voice.error_body(told, request_id),
        status_code=told.status,
        media_type="application/json",
        headers={**ids, **headers},
    )


# Roots of what clients of the OpenAI API and of llama.cpp's own routes call.
_OPENAI = (
    "/v1/chat/", "/chat/", "/v1/completions", "/completion", "/v1/responses", "/v1/embeddings", "/embedding",
    "/v1/rerank", "/rerank", "/tokenize", "/detokenize", "/infill", "/v1/audio/", "/v1/images/", "/v1/moderations",
)  # fmt: skip


def voice_of(path: str) -> Voice:
    """How somebody who calls this path, or URL, is spoken to."""
    return CHAT_VOICE if is_openai(path) else MESSAGES_VOICE


def is_openai(path: str) -> bool:
    """Whoever calls this path expects errors in OpenAI's shape."""
    return path.startswith(_OPENAI)
