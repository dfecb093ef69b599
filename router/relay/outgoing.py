"""The request as it goes to an instance: request line, headers by the table, the instance's own key."""

from collections.abc import Sequence

from router.fleet.instance import Instance
from router.relay.headers import Header, for_instance


class Outgoing:
    """One call's request, rendered for whichever instance it goes to. All attempts share the filtered headers."""

    __slots__ = ("_headers", "_path", "body")

    def __init__(self, *, path: bytes, headers: Sequence[Header], body: bytes) -> None:
        """`path`: below the instance's prefix, such as b"/v1/messages". `headers`: the client's, in lower case."""
        self._path = path
        self._headers = b"".join([b"%b: %b\r\n" % header for header in for_instance(headers)])
        self.body = body

    def to(self, path: bytes) -> "Outgoing":
        """The same request to another path."""
        other = Outgoing(path=path, headers=(), body=self.body)
        other._headers = self._headers
        return other

    def head(self, instance: Instance, length_bytes: int) -> bytes:
        """The request head, with the blank line."""
        key = f"authorization: Bearer {instance.api_key}\r\n" if instance.api_key else ""
        return b"POST %b%b HTTP/1.1\r\nhost: %b\r\n%b%bcontent-length: %d\r\n\r\n" % (
            instance.prefix.encode(),
            self._path,
            instance.authority.encode(),
            key.encode(),
            self._headers,
            length_bytes,
        )
