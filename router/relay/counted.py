"""Token counts that were asked for before: clients count the same prompt again and again, many at a time."""

import xxhash

_MOST = 4096


class Counted:
    """By pool and by the canonical body that was counted; the oldest goes first. A reload forgets all of them."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, int], int] = {}

    def __repr__(self) -> str:
        return f"Counted[{len(self._tokens)}]"

    def key(self, pool: str, model: str | None, body: bytes) -> tuple[str, int]:
        """`model`: what answered the count; the same text has other tokens in another model."""
        digest = xxhash.xxh3_128((model or "").encode() + b"\x00")
        digest.update(body)
        return pool, digest.intdigest()

    def get(self, key: tuple[str, int]) -> int | None:
        """Give the count; None: not known."""
        tokens = self._tokens.pop(key, None)
        if tokens is not None:
            self._tokens[key] = tokens
        return tokens

    def put(self, key: tuple[str, int], tokens: int) -> None:
        """Remember one."""
        self._tokens[key] = tokens
        if len(self._tokens) > _MOST:
            del self._tokens[next(iter(self._tokens))]

    def clear(self) -> None:
        """Instances may mean other models now."""
        self._tokens.clear()
