"""The request as it goes to an instance: request line, headers by the table, the instance's own key."""

from collections.abc import Sequence

from router.fleet.instance import Instance
from router.relay.headers import Header, for_instance


class Outgoing:
    """One call's request head, rendered for whichever instance it goes to. All attempts share the filtered headers."""

    __slots__ = ("_headers", "_versioned")

    def __init__(self, headers: Sequence[Header]) -> None:
        """`headers`: the client's, in lower case."""
        self._headers = b"".join([b"%b: %b\r\n" % header for header in for_instance(headers)])
        self._versioned = any(name == b"anthropic-version" for name, _ in headers)

    def head(self, instance: Instance, path: bytes, length_bytes: int, *, version: bytes = b"") -> bytes:
        """Return the head, with the blank line.

        `path`: below the instance's prefix, such as b"/v1/messages". `version`: the anthropic-version for a client that
        sends none; empty: none is needed.
        """
        key = f"authorization: Bearer {instance.api_key}\r\n" if instance.api_key else ""
        asked = b"anthropic-version: %b\r\n" % version if version and not self._versioned else b""
        return b"POST %b%b HTTP/1.1\r\nhost: %b\r\n%b%b%bcontent-length: %d\r\n\r\n" % (
            instance.prefix.encode(),
            path,
            instance.authority.encode(),
            key.encode(),
            asked,
            self._headers,
            length_bytes,
        )
