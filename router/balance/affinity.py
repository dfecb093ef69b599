"""What makes two calls turns of one conversation, as one number."""

import msgspec
import xxhash

from router.wire.reading import read

_SEPARATOR = b"\x00"


class Session(msgspec.Struct, frozen=True, gc=False):
    """Who a client says it is, from headers. One session holds several prompts: each subagent has its own."""

    session_id: bytes = b""
    agent_id: bytes = b""


_texts = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def affinity(pool: str, session: Session, system: bytes, first_user: bytes) -> int:
    """Return 64 bits that stay the same for every turn of one conversation, and across restarts and replicas.

    From the session and agent ids where the client sends them (Claude Code does); else from the text of the system
    prompt and of the first user message, given as raw JSON: clients move cache marks about and write `"x"` in one turn
    and `[{"text": "x"}]` in the next. Only a tie between instances is decided by it.
    """
    digest = xxhash.xxh3_64(pool.encode())
    if session.session_id:
        digest.update(_SEPARATOR + session.session_id + _SEPARATOR + session.agent_id)
        return digest.intdigest()
    digest.update(_SEPARATOR)
    digest.update(_text(system))
    digest.update(_SEPARATOR)
    digest.update(_text(first_user))
    return digest.intdigest()


def _text(content: bytes) -> bytes:
    """Of a string or an array of blocks."""
    if not content.startswith(b"["):
        return content
    try:
        blocks = read(_texts, content)
    except msgspec.DecodeError:
        return content
    return b"".join([bytes(block["text"]) for block in blocks if "text" in block])
