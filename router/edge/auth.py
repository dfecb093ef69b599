"""Keys: from a header to a Caller.

The file holds SHA-256 sums, never keys. A sum is found by its first bytes and then compared in constant time; the
prefix of a digest tells nothing of the key behind it.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from router.config.keys import KeyEntry
from router.errors import Unauthorized
from router.relay.exchange import Caller

Header = tuple[bytes, bytes]
ANYBODY = Caller()
_PREFIX_BYTES = 8


class Keys:
    """The keys that may call. None of them: everybody on loopback may."""

    def __init__(self, entries: Iterable[KeyEntry] | None) -> None:
        """`entries` None: no keys are asked for."""
        self._by_prefix: dict[bytes, list[tuple[bytes, Caller]]] | None = None
        self.replace(entries)

    def replace(self, entries: Iterable[KeyEntry] | None) -> None:
        """Take other keys in place of these; calls that run already are not asked again."""
        if entries is None:
            self._by_prefix = None
            return
        by_prefix: dict[bytes, list[tuple[bytes, Caller]]] = {}
        for entry in entries:
            digest = bytes.fromhex(entry.sha256)
            caller = Caller(key_id=entry.id, team=entry.team, admin=entry.admin)
            by_prefix.setdefault(digest[:_PREFIX_BYTES], []).append((digest, caller))
        self._by_prefix = by_prefix

    def __repr__(self) -> str:
        count = "nobody is asked" if self._by_prefix is None else f"{sum(map(len, self._by_prefix.values()))} keys"
        return f"Keys[{count}]"

    def caller(self, headers: Sequence[Header]) -> Caller:
        """Return who calls, from `x-api-key` or `Authorization: Bearer`; x-api-key wins, as on the hosted API.

        Raises:
            Unauthorized: no key, an unknown one, or two different ones in one header.

        """
        if self._by_prefix is None:
            return ANYBODY
        key = _key(headers)
        digest = hashlib.sha256(key).digest()
        for known, caller in self._by_prefix.get(digest[:_PREFIX_BYTES], ()):
            if hmac.compare_digest(known, digest):
                return caller
        raise Unauthorized("this key is not known here; ask whoever runs the router for one")


def _key(headers: Sequence[Header]) -> bytes:
    api_keys = [value for name, value in headers if name == b"x-api-key"]
    bearers = [value for name, value in headers if name == b"authorization"]
    if len(api_keys) > 1 or len(bearers) > 1:
        raise Unauthorized("the same key header came twice; send x-api-key or Authorization once")
    if api_keys and api_keys[0].strip():
        return api_keys[0].strip()
    if not bearers:
        raise Unauthorized("no key came; send it as `x-api-key: KEY` or `Authorization: Bearer KEY`")
    scheme, _, key = bearers[0].strip().partition(b" ")
    if scheme.lower() != b"bearer" or not key.strip():
        raise Unauthorized("Authorization must be `Bearer KEY`")
    return key.strip()
