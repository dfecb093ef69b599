"""One question on a connection of its own, and nothing left behind however it ends.

Not httpx: httpcore 1.0.9 forgets connections whose deadline falls into their opening or closing, and a poll that meets
a slow instance a thousand times a day would run out of sockets. Whether a fresh connection is accepted is part of the
question anyway.
"""

import asyncio
import ssl

import httptools
import msgspec

from router.fleet.health import Event
from router.fleet.instance import Instance

_READ_BYTES = 64 * 1024
MAX_PAGE_BYTES = 16 * 1024 * 1024


class Page(msgspec.Struct, frozen=True):
    """An answer. `status` 0: none came; then `event` says why. `restart_mark` changes with every start of a server."""

    status: int
    event: Event
    body: bytes = b""
    restart_mark: str = ""


class _Answer:
    """What httptools found."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.parts: list[bytes] = []
        self.size_bytes = 0
        self.restart_mark = ""
        self.framed = self.headed = self.whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note what matters."""
        name = name.lower()
        if name in {b"content-length", b"transfer-encoding"}:
            self.framed = True
        elif name == b"process-start-time-unix":
            self.restart_mark = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """What has no length from here on ends with its connection."""
        self.headed = True

    def on_body(self, body: bytes) -> None:
        """Collect."""
        self.size_bytes += len(body)
        self.parts.append(body)

    def on_message_complete(self) -> None:
        """It has all come."""
        self.whole = True

    def page(self) -> Page:
        """The whole answer."""
        status = self.parser.get_status_code()
        return Page(status, Event.ANSWERED, b"".join(self.parts), self.restart_mark)


async def ask(
    instance: Instance, path: str, *, tls: ssl.SSLContext | None, deadline_s: float, body: bytes | None = None
) -> Page:
    """GET `path` (below the instance's prefix), or POST a JSON `body` there.

    Never raises for anything that the instance does.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(deadline_s):
            reader, writer = await asyncio.open_connection(instance.address, instance.port, ssl=tls)
            writer.write(_head(instance, path, body) + (body or b""))
            return await _read(reader)
    except TimeoutError:
        return Page(0, Event.TIMED_OUT)
    except OSError:
        return Page(0, Event.BROKE if writer is not None else Event.REFUSED)
    except httptools.HttpParserError:
        return Page(0, Event.BROKE)
    finally:
        if writer is not None:
            writer.transport.abort()


def _head(instance: Instance, path: str, body: bytes | None) -> bytes:
    key = f"authorization: Bearer {instance.api_key}\r\n" if instance.api_key else ""
    if body is not None:
        key += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    where = f"{'GET' if body is None else 'POST'} {instance.prefix}{path} HTTP/1.1\r\nhost: {instance.authority}\r\n"
    return f"{where}{key}connection: close\r\n\r\n".encode()


async def _read(reader: asyncio.StreamReader) -> Page:
    answer = _Answer()
    while not answer.whole:
        data = await reader.read(_READ_BYTES)
        if not data:
            # Without a length the end of the connection is the end of the answer.
            cut = answer.framed or not answer.headed
            return Page(0, Event.BROKE) if cut else answer.page()
        answer.parser.feed_data(data)
        if answer.size_bytes > MAX_PAGE_BYTES:
            return Page(0, Event.BROKE)
    return answer.page()
