"""What makes two calls turns of one conversation, as one number."""

import re
from collections.abc import Iterable

import msgspec
import xxhash

from router.wire.reading import read

_SEPARATOR = b"\x00"
# Under these clients name a session, the surest first. Not x-session-token: that is a login, or names a server.
_SESSION_HEADERS = (
    b"x-claude-code-session-id",
    b"session-id",  # Codex
    b"session_id",  # Codex before 2026
    b"x-session-id",  # OpenCode
    b"x-session-affinity",
    b"x-litellm-session-id",
    b"x-olla-session-id",
    b"x-smg-routing-key",
    b"x-dynamo-session-id",
    b"x-bf-session-id",
)
_NO = (b"", b"0", b"false")


class Session(msgspec.Struct, frozen=True, gc=False):
    """Who a client says it is. One session holds several prompts: each subagent has its own.

    `agent_id` empty: the main one. `cache_key`: OpenAI's prompt_cache_key, of a client that names no session.
    """

    session_id: bytes = b""
    agent_id: bytes = b""
    cache_key: bytes = b""
    compacting: bool = False
    """This call sums the conversation up: what it finds warm it needs, and nobody will need it when it is over."""
    compacted: bool = False
    """The conversation goes on from a summary: what it has had warm so far is dead."""


class _UserId(msgspec.Struct, frozen=True, gc=False):
    session_id: str = ""


_texts = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_user_id = msgspec.json.Decoder(_UserId)
_old_user_id = re.compile(rb"user_.*_session_([0-9A-Za-z-]+)", re.DOTALL).fullmatch
_ATTRIBUTION = b'"x-anthropic-billing-header:'


def session_of(headers: Iterable[tuple[bytes, bytes]], user_id: bytes = b"", prompt_cache_key: bytes = b"") -> Session:
    """Read who the client says it is, from headers (names in lower case) and from the fields of the two APIs.

    `user_id`: the text of the Messages API's `metadata.user_id`, in which Claude Code names the session, too, in either
    of its two forms; any other text there names a person.
    """
    named = dict(headers)
    session_id = next((value for name in _SESSION_HEADERS if (value := named.get(name))), b"")
    session_id = session_id or _in_user_id(user_id)
    agent_id = named.get(b"x-claude-code-agent-id", b"")
    kind = named.get(b"x-claude-code-request-class", b"")
    if kind == b"auxiliary" and not agent_id:
        agent_id = kind  # a title, a check: a prompt of its own, that must not pass for the main one
    return Session(
        session_id=session_id,
        agent_id=agent_id,
        cache_key=b"" if session_id else prompt_cache_key,
        compacting=kind == b"compaction" or named.get(b"x-claude-code-compaction", b"").lower() not in _NO,
        compacted=named.get(b"x-claude-code-context-compacted", b"").lower() not in _NO,
    )


def session_key(pool: str, session: Session, system: bytes, first_user: bytes) -> int:
    """Return 64 bits that stay the same for every turn of one conversation, and across restarts and replicas.

    From the session and agent ids where the client sends them; else from the text of the system prompt and of the first
    user message, given as raw JSON: clients move cache marks about and write `"x"` in one turn and `[{"text": "x"}]` in
    the next. A prompt_cache_key is taken with these texts, not for them: a client may send one key with all it asks.
    """
    digest = xxhash.xxh3_64(pool.encode())
    if session.session_id:
        digest.update(_SEPARATOR + session.session_id + _SEPARATOR + session.agent_id)
        return digest.intdigest()
    if session.cache_key:
        digest.update(_SEPARATOR + _SEPARATOR + session.cache_key)
    digest.update(_SEPARATOR)
    digest.update(_text(system))
    digest.update(_SEPARATOR)
    digest.update(_text(first_user))
    return digest.intdigest()


def _in_user_id(user_id: bytes) -> bytes:
    if user_id.startswith(b"{"):
        try:
            return read(_user_id, user_id).session_id.encode()
        except msgspec.DecodeError:
            return b""
    old = _old_user_id(user_id)
    return old[1] if old else b""


def _text(content: bytes) -> bytes:
    """Of a string or an array of blocks; without Claude Code's attribution line, which changes from turn to turn."""
    if not content.startswith(b"["):
        return content
    try:
        blocks = read(_texts, content)
    except msgspec.DecodeError:
        return content
    texts = [bytes(block["text"]) for block in blocks if "text" in block]
    return b"".join([text for text in texts if not text.startswith(_ATTRIBUTION)])
