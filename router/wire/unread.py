"""What a request says to the hosted API that is passed over here: fields and betas that mean nothing to a local model.

Clients bring new ones with every release, and nobody is refused for them. That they came is told by name, so that a
feature that is missed can be seen; a name that is not in these sets is "other", since it may be anything.
"""

from collections.abc import Iterable
from functools import lru_cache
from operator import attrgetter

import msgspec

from router.errors import RequestInvalid
from router.wire.anthropic import NOTHING, MessagesHead, decode_messages

OTHER = "other"
# A beta only allows something: where it is used, it shows in a field or a block, which is told itself. So those that
# clients name in every call, or whose work is done here, are not worth a word.
COMMON_BETAS = frozenset(
    [
        "advanced-tool-use-2025-11-20", "afk-mode-2026-01-31", "claude-code-20250219",
        "context-management-2025-06-27", "dangerous-tool-use-2026-09-03", "effort-2025-11-24",
        "extended-cache-ttl-2025-04-11", "fine-grained-tool-streaming-2025-05-14", "interleaved-thinking-2025-05-14",
        "mid-conversation-system-2026-04-07", "mid-conversation-tool-changes-2026-07-01",
        "model-context-window-exceeded-2025-08-26", "output-128k-2025-02-19", "prompt-caching-2024-07-31",
        "prompt-caching-scope-2026-01-05", "structured-outputs-2025-11-13", "thinking-display-updates-2026-08-18",
        "thinking-token-count-2026-05-13", "token-counting-2024-11-01", "token-efficient-tools-2025-02-19",
    ]
)  # fmt: skip
# Those that change what the hosted API does with a message (anthropic-sdk-python, types/anthropic_beta_param.py).
HOSTED_BETAS = frozenset(
    [
        "advisor-tool-2026-03-01", "cache-diagnosis-2026-04-07", "code-execution-2025-05-22", "compact-2026-01-12",
        "compact-2026-09-04", "computer-use-2024-10-22", "computer-use-2025-01-24", "computer-use-2025-11-24",
        "context-1m-2025-08-07", "fallback-credit-2026-06-01", "fallback-credit-2026-07-01", "fast-mode-2026-02-01",
        "files-api-2025-04-14", "inline-tools-2026-09-15", "mcp-client-2025-04-04", "mcp-client-2025-11-20",
        "mcp-client-2026-09-15", "message-threads-2026-08-12", "mid-conversation-output-config-2026-07-01",
        "mid-conversation-system-clear-at-2026-08-21", "output-300k-2026-03-24", "pdfs-2024-09-25",
        "server-side-fallback-2026-06-01", "server-side-fallback-2026-07-01", "skills-2025-10-02",
        "task-budgets-2026-03-13", "thinking-binding-controls-2026-08-01",
    ]
)  # fmt: skip
_BETA = b"anthropic-beta"


class KnownHead(MessagesHead, frozen=True, gc=False, forbid_unknown_fields=True):
    """A /v1/messages body that has no field but those that are read, and these, which are passed over."""

    billing_policy: msgspec.Raw = NOTHING
    cache_control: msgspec.Raw = NOTHING
    compaction: msgspec.Raw = NOTHING
    context_management: msgspec.Raw = NOTHING
    diagnostics: msgspec.Raw = NOTHING
    fallback_credit_token: msgspec.Raw = NOTHING
    fallbacks: msgspec.Raw = NOTHING
    inference_geo: msgspec.Raw = NOTHING
    service_tier: msgspec.Raw = NOTHING
    speed: msgspec.Raw = NOTHING
    thread: msgspec.Raw = NOTHING
    user_profile_id: msgspec.Raw = NOTHING
    workspace_id: msgspec.Raw = NOTHING


known_decoder = msgspec.json.Decoder(KnownHead)
"""Refuses a body with any other field, so that the usual one is read once and asked nothing more."""
HOSTED_FIELDS = KnownHead.__struct_fields__[len(MessagesHead.__struct_fields__) :]
_of = attrgetter(*HOSTED_FIELDS)
_NONE = (NOTHING,) * len(HOSTED_FIELDS)


def decode_noting(body: bytes) -> MessagesHead:
    """Read a request body such that `unread_fields` can tell what is passed over. RequestInvalid as decode_messages.

    A body with a field that nobody knows is read twice.
    """
    try:
        return decode_messages(body, known_decoder)
    except RequestInvalid:
        return decode_messages(body)


def unread_fields(head: MessagesHead) -> tuple[str, ...]:
    """Name the fields of a body that are passed over; one that is not a KnownHead has others than those."""
    if not isinstance(head, KnownHead):
        return (OTHER,)
    values = _of(head)
    if values == _NONE:
        return ()
    return tuple(name for name, value in zip(HOSTED_FIELDS, values, strict=True) if value)


def unread_betas(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """Name the betas that are asked for and passed over, each once; the names of headers are in lower case."""
    values = [value for name, value in headers if name == _BETA]
    return _betas(values[0] if len(values) == 1 else b",".join(values)) if values else ()


@lru_cache(maxsize=256)  # a client says the same with every call
def _betas(value: bytes) -> tuple[str, ...]:
    asked = dict.fromkeys(word.strip() for word in value.decode("latin-1").split(","))
    named = dict.fromkeys(
        word if word in HOSTED_BETAS else OTHER for word in asked if word and word not in COMMON_BETAS
    )
    return tuple(named)
