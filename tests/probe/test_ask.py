"""One GET: every way in which an instance may answer or fail to, and nothing is left behind."""

import asyncio
import ssl
import time

import pytest

from router.fleet.health import Event
from router.fleet.instance import Instance
from router.probe import ask as ask_module
from router.probe.ask import Page, ask
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour
from tests.rig.fake_turn import Turn
from tests.rig.start import StartFake

pytestmark = pytest.mark.anyio
PATH = "/props"
DEADLINE_S = 5.0


def at(fake: FakeInstance, *, api_key: str | None = None, prefix: str = "") -> Instance:
    return Instance(
        id="one",
        address="127.0.0.1",
        port=fake.port,
        authority="rig1:8080",
        prefix=prefix,
        api_key=api_key,
    )


async def asked(fake: FakeInstance, behaviour: Behaviour, deadline_s: float = DEADLINE_S) -> Page:
    fake.on[PATH] = behaviour
    return await ask(at(fake), PATH, tls=None, deadline_s=deadline_s)


def whole(body: bytes, *, status: bytes = b"200 OK", head: bytes = b"") -> Behaviour:
    length = b"Content-Length: %d\r\n" % len(body)
    return behave.raw(b"HTTP/1.1 %b\r\n%b%b\r\n%b" % (status, head, length, body))


WELL: dict[str, tuple[Behaviour, Page]] = {
    "a length": (whole(b"{}"), Page(200, Event.ANSWERED, b"{}")),
    "a length, and the connection stays open": (
        behave.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", close=False),
        Page(200, Event.ANSWERED, b"{}"),
    ),
    "no body": (whole(b""), Page(200, Event.ANSWERED)),
    "no length": (behave.raw(b"HTTP/1.0 200 OK\r\n\r\nuntil the end"), Page(200, Event.ANSWERED, b"until the end")),
    "chunks": (
        behave.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n3\r\nabc\r\n0\r\n\r\n"),
        Page(200, Event.ANSWERED, b"{}abc"),
    ),
    "another status": (whole(b"no", status=b"503 No"), Page(503, Event.ANSWERED, b"no")),
    "no length, another status": (behave.raw(b"HTTP/1.1 404 No\r\n\r\n"), Page(404, Event.ANSWERED)),
    "a start": (
        whole(b"x", head=b"Process-Start-Time-Unix: 490941210\r\n"),
        Page(200, Event.ANSWERED, b"x", "490941210"),
    ),
}


@pytest.mark.parametrize("name", WELL)
async def test_an_answer_is_read_however_it_is_framed(start_fake: StartFake, name: str) -> None:
    behaviour, page = WELL[name]
    assert page == await asked(start_fake(), behaviour)


async def test_an_answer_that_comes_byte_by_byte_is_the_same(start_fake: StartFake) -> None:
    async def drip(turn: Turn) -> None:
        turn.drip_s = 0.0
        await whole(b'{"status":"ok"}')(turn)

    assert Page(200, Event.ANSWERED, b'{"status":"ok"}') == await asked(start_fake(), drip)


BROKEN: dict[str, Behaviour] = {
    "reset before a byte": behave.reset_before_head(),
    "closed before a byte": behave.close_before_head(),
    "no HTTP": behave.raw(b"SSH-2.0-server\r\n"),
    "half a head": behave.raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half a status line": behave.raw(b"HTTP/1."),
    "shorter than its length": behave.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"),
    "no last chunk": behave.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
    "a chunk that is none": behave.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
    "two lengths": behave.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_no_whole_answer_is_broken(start_fake: StartFake, name: str) -> None:
    assert Page(0, Event.BROKE) == await asked(start_fake(), BROKEN[name])


@pytest.mark.parametrize(("size_bytes", "status"), [(64, 200), (65, 0)])
async def test_a_page_without_end_is_not_collected(
    start_fake: StartFake, monkeypatch: pytest.MonkeyPatch, size_bytes: int, status: int
) -> None:
    monkeypatch.setattr(ask_module, "MAX_PAGE_BYTES", 64)
    page = await asked(start_fake(), behave.raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * size_bytes))
    assert status == page.status


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 2", HEAD], ids=["nothing", "half a head", "half a body"])
async def test_silence_ends_at_the_deadline(start_fake: StartFake, said: bytes) -> None:
    async def stall(turn: Turn) -> None:
        await turn.write(said)
        await turn.stall()

    started = time.monotonic()
    assert Page(0, Event.TIMED_OUT) == await asked(start_fake(), stall, deadline_s=0.1)
    assert time.monotonic() - started < 1.0


async def test_a_port_where_nobody_listens_refuses(start_fake: StartFake) -> None:
    fake = start_fake()
    fake.stop()
    assert Page(0, Event.REFUSED) == await ask(at(fake), PATH, tls=None, deadline_s=DEADLINE_S)


async def test_a_port_where_tls_is_not_spoken_refuses() -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port: int = server.sockets[0].getsockname()[1]
        instance = Instance(id="one", address="127.0.0.1", port=port, authority="localhost", tls=True)
        page = await ask(instance, PATH, tls=ssl.create_default_context(), deadline_s=DEADLINE_S)
    assert Page(0, Event.REFUSED) == page


@pytest.mark.parametrize(
    ("api_key", "prefix", "target", "authorization"),
    [(None, "", "/props", None), ("k1", "/llm", "/llm/props", "Bearer k1")],
)
async def test_the_question_carries_the_instances_host_prefix_and_key(
    start_fake: StartFake, api_key: str | None, prefix: str, target: str, authorization: str | None
) -> None:
    fake = start_fake()
    await ask(at(fake, api_key=api_key, prefix=prefix), PATH, tls=None, deadline_s=DEADLINE_S)
    (seen,) = fake.requests
    assert ("GET", target, "rig1:8080", authorization, "close", b"") == (
        seen.method,
        seen.target,
        seen.header("host"),
        seen.header("authorization"),
        seen.header("connection"),
        seen.body,
    )


async def test_however_it_ends_no_connection_is_left(start_fake: StartFake) -> None:
    fake = start_fake()
    for behaviour in (whole(b"{}"), behave.raw(HEAD, close=False), behave.broken_head(), behave.stall_before_head()):
        await asked(fake, behaviour, deadline_s=0.1)
    fake.on[PATH] = behave.stall_before_head()
    cut = asyncio.ensure_future(ask(at(fake), PATH, tls=None, deadline_s=DEADLINE_S))
    await asyncio.to_thread(fake.wait_for, lambda it: len(it.requests) == 5)
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut
    await asyncio.to_thread(fake.wait_for, lambda it: not it._open)
    assert fake.connections == 5
