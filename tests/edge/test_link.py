"""One request on its connection: what goes onto the wire, in which version, and what never does."""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from router.edge.link import ClientLink, new_request_id
from router.errors import ClientGone, ShuttingDown
from router.wire.anthropic import PING_EVENT

pytestmark = pytest.mark.anyio
STOP = ShuttingDown("over", retry_after_s=5)
TEXT = ((b"content-type", b"text/plain"),)


class Sent(asyncio.Transport):
    """A connection that only writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.data += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class Client:
    """A link that has read a head, and what came of it."""

    def __init__(
        self, *, version: str = "1.1", method: str = "POST", keep_alive: bool = True, expects_100: bool = False
    ) -> None:
        self.sent = Sent()
        self.answered = 0
        log = logging.getLogger("llama_router")
        self.link = ClientLink(
            scope={"type": "http", "http_version": version, "method": method},  # type: ignore[typeddict-item]
            transport=self.sent,
            flow=FlowControl(self.sent),
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=[(b"date", b"now")],
            message_event=asyncio.Event(),
            expect_100_continue=expects_100,
            keep_alive=keep_alive and version != "1.0",
            on_response=self._on_response,
        )
        self.link.prepare([(b"host", b"router")])

    def _on_response(self) -> None:
        self.answered += 1

    def comes(self, *parts: bytes, whole: bool = True) -> None:
        """Parts of the body, as the protocol hands them over."""
        self.link.parts.extend(parts)
        self.link.more_body = not whole
        self.link.message_event.set()


def stream(client: Client) -> None:
    client.link.begin(200, TEXT)
    client.link.write(PING_EVENT)
    client.link.write_frame(b"5\r\nhello\r\n")
    client.link.end()


# ---------------------------------------------------------------- answers


async def test_a_whole_answer_has_a_length_and_leaves_the_connection_open() -> None:
    client = Client()
    client.link.respond(200, TEXT, b"hello")
    head = b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n"
    assert (head + b"hello", False, 1) == (client.sent.data, client.sent.closed, client.answered)
    assert client.link.started


async def test_the_answer_to_head_has_the_length_and_no_body() -> None:
    client = Client(method="HEAD")
    client.link.respond(200, TEXT, b"hello")
    assert client.sent.data.endswith(b"content-length: 5\r\n\r\n")


async def test_a_connection_that_will_not_be_kept_says_so_and_is_closed() -> None:
    client = Client(keep_alive=False)
    client.link.respond(200, TEXT, b"hello")
    assert b"\r\nconnection: close\r\n" in client.sent.data
    assert client.sent.closed


async def test_a_stream_goes_out_in_chunks_and_ends_with_the_last_one() -> None:
    client = Client()
    stream(client)
    head = b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    ping = b"%x\r\n%b\r\n" % (len(PING_EVENT), PING_EVENT)
    assert head + ping + b"5\r\nhello\r\n0\r\n\r\n" == client.sent.data
    assert (False, 1) == (client.sent.closed, client.answered)


async def test_http_1_0_gets_its_stream_without_chunks_and_with_the_end_of_the_connection() -> None:
    client = Client(version="1.0")
    stream(client)
    head = b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    assert head + PING_EVENT + b"hello" == client.sent.data
    assert (True, 1) == (client.sent.closed, client.answered)


async def test_http_1_0_gets_a_whole_answer_as_any_other() -> None:
    client = Client(version="1.0")
    client.link.respond(200, TEXT, b"hello")
    assert client.sent.data.endswith(b"connection: close\r\ncontent-length: 5\r\n\r\nhello")
    assert client.sent.closed


async def test_headers_for_web_pages_stand_on_every_kind_of_answer() -> None:
    for answer in (stream, lambda client: client.link.respond(200, TEXT, b"hello")):
        client = Client()
        client.link.relay_headers = ((b"vary", b"Origin"),)
        answer(client)
        assert b"\r\nvary: Origin\r\n" in client.sent.data


LATE: dict[str, Callable[[ClientLink], None]] = {
    "a chunk": lambda link: link.write(b"late"),
    "a frame": lambda link: link.write_frame(b"4\r\nlate\r\n"),
    "the end": lambda link: link.end(),
    "a leaving": lambda link: link.client_left(),
}


BUGS: dict[str, Callable[[ClientLink], None]] = {
    **{what: late for what, late in LATE.items() if what != "a leaving"},
    "a head": lambda link: link.begin(200, TEXT),
    "an answer": lambda link: link.respond(200, TEXT, b"late"),
}


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("late", [*BUGS, "a leaving"])
async def test_nothing_is_written_after_the_end(version: str, late: str) -> None:
    client = Client(version=version)
    stream(client)
    before = client.sent.data
    {**LATE, **BUGS}[late](client.link)
    assert (before, 1, False) == (client.sent.data, client.answered, client.link.gone)


@pytest.mark.parametrize("late", BUGS)
async def test_who_writes_after_the_end_is_a_fault_of_ours_and_logged_once(
    late: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client()
    stream(client)
    with caplog.at_level(logging.ERROR, "llama_router"):
        for _ in range(3):
            BUGS[late](client.link)
    (said,) = caplog.records
    assert ("ERROR", True) == (said.levelname, client.link.request_id in said.getMessage())


async def test_an_answer_that_ends_well_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    with caplog.at_level(logging.DEBUG, "llama_router"):
        stream(client)
        client.link.client_left()
    assert [] == caplog.records


GONE: dict[str, Callable[[ClientLink], None]] = {
    **LATE,
    "a head": lambda link: link.begin(200, TEXT),
    "an answer": lambda link: link.respond(200, TEXT, b"late"),
}


@pytest.mark.parametrize("late", GONE)
async def test_to_a_client_that_has_gone_nothing_is_written_and_nothing_raised(late: str) -> None:
    client = Client()
    client.link.client_left()
    GONE[late](client.link)
    assert (b"", 0, True, False) == (client.sent.data, client.answered, client.link.gone, client.link.started)


# ---------------------------------------------------------------- the body


@pytest.mark.parametrize("parts", [(), (b"whole",), (b"in ", b"three ", b"parts")])
async def test_the_body_is_what_came_joined(parts: tuple[bytes, ...]) -> None:
    client = Client()
    client.comes(*parts)
    assert b"".join(parts) == await client.link.read_body()
    assert [] == client.link.parts


async def test_a_body_that_comes_later_is_waited_for() -> None:
    client = Client()
    reading = asyncio.ensure_future(client.link.read_body())
    for part in (b"a", b"b"):
        await asyncio.sleep(0)
        client.comes(part, whole=False)
    await asyncio.sleep(0)
    assert not reading.done()
    client.comes(b"c")
    assert b"abc" == await reading


async def test_whoever_weighs_the_body_hears_what_was_there_and_what_comes() -> None:
    client = Client()
    grown: list[int] = []
    client.link.take(b"ab")
    client.link.take(b"c")
    client.link.weigh(grown.append)
    client.link.take(b"defg")
    client.link.weigh(None)
    client.link.take(b"h")
    client.link.more_body = False
    assert ([3, 4], b"abcdefgh") == (grown, await client.link.read_body())


async def test_where_nothing_has_come_there_is_nothing_to_weigh() -> None:
    grown: list[int] = []
    Client().link.weigh(grown.append)
    assert [] == grown


async def test_a_client_that_waits_for_100_is_told_once_to_go_on() -> None:
    client = Client(expects_100=True)
    client.comes(b"body")
    for _ in range(2):
        await client.link.read_body()
    assert b"HTTP/1.1 100 Continue\r\n\r\n" == client.sent.data


async def test_a_client_that_leaves_in_its_body_ends_the_wait() -> None:
    client = Client()
    reading = asyncio.ensure_future(client.link.read_body())
    await asyncio.sleep(0)
    client.link.client_left()
    with pytest.raises(ClientGone):
        await reading


async def test_an_interrupt_ends_the_wait_with_its_error_and_the_connection_with_the_answer() -> None:
    client = Client()
    reading = asyncio.ensure_future(client.link.read_body())
    await asyncio.sleep(0)
    client.link.interrupt(STOP)
    with pytest.raises(ShuttingDown) as error:
        await reading
    assert error.value is STOP
    client.link.respond(503, (), b"over")  # the rest of the body would be taken for the next request
    assert client.sent.closed
    assert b"\r\nconnection: close\r\n" in client.sent.data


async def test_an_interrupt_before_anybody_reads_is_not_forgotten() -> None:
    client = Client()
    client.link.interrupt(STOP)
    with pytest.raises(ShuttingDown):
        await client.link.read_body()


async def test_an_interrupt_once_the_body_is_whole_changes_nothing() -> None:
    client = Client()
    client.comes(b"whole")
    client.link.interrupt(STOP)
    assert b"whole" == await client.link.read_body()
    client.link.respond(200, (), b"")
    assert not client.sent.closed


# ---------------------------------------------------------------- who is told


async def test_whoever_watches_is_told_once_that_the_client_has_gone() -> None:
    client, told = Client(), [0]

    def gone() -> None:
        told[0] += 1

    client.link.watch(on_gone=gone)
    for _ in range(2):
        client.link.client_left()
    assert [1] == told


async def test_whoever_begins_to_watch_a_client_that_has_gone_is_told_at_once() -> None:
    client = Client()
    told: list[str] = []
    client.link.client_left()
    client.link.watch(on_gone=lambda: told.append("gone"))
    assert ["gone"] == told


async def test_after_the_end_nobody_is_told_of_anything() -> None:
    client = Client()
    told: list[str] = []
    client.link.watch(on_gone=lambda: told.append("gone"), on_writable=lambda _: told.append("writable"))
    stream(client)
    client.link.client_left()
    client.link.socket_writable(can_write=True)
    assert [] == told


async def test_a_socket_that_fills_and_drains_is_told_as_it_is() -> None:
    client = Client()
    told: list[bool] = []
    client.link.socket_writable(can_write=False)  # nobody watches yet
    client.link.watch(on_writable=told.append)
    for can_write in (False, True):
        client.link.socket_writable(can_write=can_write)
    assert [False, True] == told


async def test_asgi_sees_the_body_and_then_the_end() -> None:
    client = Client()
    client.comes(b"a", b"b")
    assert {"type": "http.request", "body": b"ab", "more_body": False} == await client.link.receive()
    client.link.respond(200, (), b"")
    assert {"type": "http.disconnect"} == await client.link.receive()


async def test_asgi_sees_a_client_that_leaves() -> None:
    client = Client()
    client.link.client_left()
    assert {"type": "http.disconnect"} == await client.link.receive()


async def test_ids_are_unique_and_in_the_order_of_arrival() -> None:
    ids = [new_request_id() for _ in range(100)]
    assert (ids, 100) == (sorted(ids), len(set(ids)))
    assert all(re.fullmatch(r"req_[0-9a-f]{24}", id_) for id_ in ids)


async def test_the_head_of_the_request_is_kept() -> None:
    assert [(b"host", b"router")] == Client().link.headers
