"""Connections that are kept: which are used again, which are not, and what happens when one has died meanwhile."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from router.errors import UpstreamBroke, UpstreamUnreachable
from router.fleet.instance import Instance
from router.relay import pool as pool_room
from router.relay.pool import ConnectionPool, Pools
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour
from tests.rig.legality import check
from tests.test_app import Stage, answered, ask, eventually, refused, text_of

SESSION = {"x_claude_code_session_id": "always-the-same"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    shared.at_rest()


def call(stage: Stage, *behaviours: Behaviour, stream: bool = False) -> str:
    """One call of the session, on whatever instance it is at home."""
    nonce = stage.planned(*behaviours)
    response = stage.post(ask(nonce, stream=stream), **SESSION)
    assert response.status_code == 200, response.text
    text = check(response.content, "exact").text if stream else response.json()["content"][0]["text"]
    assert text == text_of(nonce)
    return nonce


def path_of(stage: Stage, nonce: str) -> list[tuple[str | None, int]]:
    """Where the attempts went: host, and the how-manieth request it was on its connection."""
    return [(seen.header("host"), seen.nth) for seen in stage.seen(nonce)]


# ---------------------------------------------------------------- from outside


def test_the_second_call_takes_the_connection_of_the_first(stage: Stage) -> None:
    call(stage)
    (first,) = stage.seen(call(stage))
    (second,) = stage.seen(call(stage))
    assert (second.connection, second.nth) == (first.connection, first.nth + 1)


def test_after_an_error_the_connection_is_not_used_again(stage: Stage) -> None:
    nonce = stage.planned(behave.error(400, "bad", "invalid_request_error"))
    refused(stage.post(ask(nonce), **SESSION), 400, "invalid_request_error")
    assert [nth for _, nth in path_of(stage, call(stage))] == [1]


def test_after_a_stream_the_connection_that_the_instance_closes_is_not_used_again(stage: Stage) -> None:
    call(stage, stream=True)
    assert [nth for _, nth in path_of(stage, call(stage))] == [1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("death", [behave.close_before_head(), behave.reset_before_head()], ids=["closed", "reset"])
def test_a_kept_connection_that_dies_unused_is_made_good_on_the_same_instance(
    stage: Stage, death: Behaviour, stream: bool
) -> None:
    home, _ = path_of(stage, call(stage))[0]
    first, second = path_of(stage, call(stage, death, stream=stream))
    assert first[0] == second[0] == home
    assert first[1] > 1
    assert second[1] == 1


def test_that_is_done_once_and_then_another_instance_is_tried(stage: Stage) -> None:
    home, _ = path_of(stage, call(stage))[0]
    first, second, third = path_of(stage, call(stage, behave.close_before_head(), behave.close_before_head()))
    assert first[0] == second[0] == home
    assert third[0] != home


def test_after_one_byte_of_an_answer_the_request_is_not_sent_there_again(stage: Stage) -> None:
    home, _ = path_of(stage, call(stage))[0]
    first, second = path_of(stage, call(stage, behave.raw(b"H")))
    assert first[0] == home
    assert first[1] > 1
    assert second[0] != home


def test_a_fresh_connection_that_dies_is_the_instances_fault(stage: Stage) -> None:
    home, _ = path_of(stage, call(stage, stream=True))[0]
    first, second = path_of(stage, call(stage, behave.close_before_head()))
    assert (first[0], first[1]) == (home, 1)
    assert second[0] != home


def test_a_connection_that_the_instance_closes_at_rest_is_not_tried() -> None:
    with Stage(instances=1, fake={"idle_s": 0.05}, poll={"every": "20s"}) as stage:
        call(stage)
        eventually(lambda: not stage.fakes[0]._open)
        assert path_of(stage, call(stage))[0][1] == 1
        eventually(lambda: stage.fakes[0].answered == 2)


def test_no_connection_carries_a_hundred_requests() -> None:
    with Stage(instances=1, fake={"tokens": 1}, poll={"every": "20s"}) as stage:
        for _ in range(120):
            answer = stage.post(ask("nonce:again"))
            assert answer.status_code == 200
        assert max(seen.nth for seen in stage.fakes[0].calls) == 99
        assert len(stage.fakes[0].calls) == 120


def test_calls_at_the_same_time_do_not_share_a_connection(stage: Stage) -> None:
    nonces = [stage.planned(behave.stall_before_head()) for _ in range(4)]
    with ThreadPoolExecutor() as threads:
        calls = [threads.submit(stage.post, ask(nonce)) for nonce in nonces]
        eventually(lambda: sum(fake.in_flight for fake in stage.fakes) == 4)
        for fake in stage.fakes:
            fake.release()
        for running, nonce in zip(calls, nonces, strict=True):
            answered(running.result(), nonce)
    taken = [(seen.header("host"), seen.connection) for nonce in nonces for seen in stage.seen(nonce)]
    assert len(set(taken)) == 4


# ---------------------------------------------------------------- the pool itself


@pytest.fixture
def fake() -> Iterator[FakeInstance]:
    with FakeInstance() as fake:
        yield fake


def at(fake: FakeInstance, **changes: object) -> Instance:
    port = urlsplit(fake.url).port or 0
    options = {"id": "one", "address": "127.0.0.1", "port": port, "authority": f"127.0.0.1:{port}", **changes}
    return Instance(**options)  # type: ignore[arg-type]  # the changes fit


class Sink:
    """Waits for the end."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    def head(self, status: int, headers: object) -> None: ...

    def data(self, chunk: bytes) -> None: ...

    def framed(self, frame: bytes, start: int) -> bool:
        return False

    def ended(self) -> None:
        self.over.set()

    def failed(self, error: Exception, *, untouched: bool) -> None:
        raise AssertionError(error)


async def use(pool: ConnectionPool) -> object:
    """Carry one request on a kept connection or a new one; returns the connection."""
    connection = pool.take() or await pool.connect()
    sink = Sink()
    connection.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"", sink)
    await sink.over.wait()
    return connection


@pytest.mark.anyio
async def test_a_connection_that_has_rested_too_long_is_not_taken(
    fake: FakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ConnectionPool(at(fake), connect_s=1)
    first = await use(pool)
    assert await use(pool) is first
    monkeypatch.setattr(pool_room, "MAX_IDLE_S", 0.0)
    assert pool.take() is None
    assert await use(pool) is not first
    pool.close_idle()
    await asyncio.sleep(0)


@pytest.mark.anyio
async def test_idle_connections_are_closed_when_told_to(fake: FakeInstance) -> None:
    pools = Pools(connect_s=1)
    pool = pools[at(fake)]
    await use(pool)
    pools.close_idle(older_than_s=60)
    fake.wait_for(lambda it: len(it._open) == 1)
    pools.close_idle()
    assert pool.take() is None
    await asyncio.to_thread(eventually, lambda: not fake._open)


@pytest.mark.anyio
async def test_a_port_where_nobody_listens_is_unreachable(fake: FakeInstance) -> None:
    instance = at(fake)
    fake.stop()
    with pytest.raises(UpstreamUnreachable, match="one refused the connection"):
        await ConnectionPool(instance, connect_s=1).connect()


@pytest.mark.anyio
async def test_a_host_that_cannot_be_found_is_unreachable(fake: FakeInstance) -> None:
    with pytest.raises(UpstreamUnreachable) as caught:
        await ConnectionPool(at(fake, address="no-such-host.invalid"), connect_s=5).connect()
    assert "no-such-host" not in caught.value.message


@pytest.mark.anyio
async def test_an_instance_without_tls_is_not_mistaken_for_one_with_it(fake: FakeInstance) -> None:
    with pytest.raises((UpstreamBroke, UpstreamUnreachable)) as caught:
        await ConnectionPool(at(fake, tls=True), connect_s=0.3).connect()
    assert caught.value.instance_id == "one"
    assert str(fake.port) not in caught.value.message
