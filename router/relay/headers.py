"""Which headers pass, in one table read from both sides.

Everything passes but what is listed: clients and servers add headers with every release, and a list of what may pass
would be wrong the next day. What is listed is listed with its reason.
"""

from collections.abc import Iterable

Header = tuple[bytes, bytes]

# Only between two neighbours (RFC 9110, 7.6.1), or set anew by whoever sends the message on.
_HOP_BY_HOP = frozenset(
    [
        b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
        b"content-length", b"expect", b"proxy-authenticate", b"proxy-authorization",
    ]
)  # fmt: skip

# A client's secrets are ours to check and nobody else's to see; the instance gets its own key.
_CREDENTIALS = frozenset(
    [
        b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie", b"cookie2", b"x-auth-token",
        b"x-amz-security-token",
    ]
)  # fmt: skip

_REQUEST_ONLY = frozenset(
    [
        b"host",  # the instance's own
        b"accept-encoding",  # llama-server never compresses; what stands in front of one must not begin to
        b"origin", b"referer",  # CORS is settled here; llama-server echoes any origin with credentials allowed
        b"access-control-request-method", b"access-control-request-headers",
        b"x-conversation-id",  # llama-server never cancels a call that carries it (server-stream.cpp)
        b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip",  # who asks is ours
    ]
)  # fmt: skip

_RESPONSE_ONLY = frozenset(
    [
        b"server", b"date",  # ours
        b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-allow-methods",
        b"access-control-allow-headers", b"access-control-expose-headers", b"access-control-max-age",
        b"set-cookie", b"alt-svc", b"www-authenticate", b"strict-transport-security",
        b"process-start-time-unix", b"location", b"content-location", b"request-id", b"x-request-id",
    ]
)  # fmt: skip

DROPPED_FROM_REQUEST = _HOP_BY_HOP | _CREDENTIALS | _REQUEST_ONLY
DROPPED_FROM_RESPONSE = _HOP_BY_HOP | _CREDENTIALS | _RESPONSE_ONLY
_COMMON_TOKENS = frozenset([b"close", b"keep-alive", b""])
_OUR_NAMES = b"x-router-"  # only we may speak under these, in either direction


def for_instance(headers: Iterable[Header]) -> list[Header]:
    """Return what an instance may see of a client's headers. Names must be in lower case."""
    return _filtered(headers, DROPPED_FROM_REQUEST)


def for_client(headers: Iterable[Header]) -> list[Header]:
    """Return what a client may see of an instance's headers. Names must be in lower case."""
    return _filtered(headers, DROPPED_FROM_RESPONSE)


def _filtered(headers: Iterable[Header], dropped: frozenset[bytes]) -> list[Header]:
    kept = []
    named: set[bytes] = set()
    for header in headers:
        name = header[0]
        if name in dropped:
            if name == b"connection":
                named.update([token.strip().lower() for token in header[1].split(b",")])
        elif not name.startswith(_OUR_NAMES):
            kept.append(header)
    if named - _COMMON_TOKENS:
        kept = [header for header in kept if header[0] not in named]
    return kept
