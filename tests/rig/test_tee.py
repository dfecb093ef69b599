"""The tee passes everything on as it came, and no stream that breaks a rule gets by it."""

import contextlib
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests import conftest
from tests.rig import behave, tee
from tests.rig.fake import FakeInstance
from tests.rig.fake_wire import LAST_CHUNK, chunk, head, stream_head
from tests.rig.legality import Illegal
from tests.rig.router import registry
from tests.rig.start import StartFake, StartRouter
from tests.rig.tee import Tee
from tests.rig.tee_exchange import Exchange, fault
from tests.rig.test_legality import STOP, TEXT, ends, start, wire
from tests.rig.test_legality_chat import DONE, HELLO, ROLE, usage
from tests.rig.test_legality_chat import STOP as CHAT_STOP
from tests.rig.test_legality_chat import wire as chat_wire
from tests.system.load import Crowd
from tests.test_app import Wire, as_bytes, ask, eventually

MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"
LEGAL = wire(start(), *TEXT, ends(), STOP)
HALF = wire(start(), *TEXT)
TWICE = wire(start(), start(), *TEXT, ends(), STOP)
WAIT_S = 10.0


def answer(body: bytes, *, whole: bool = True) -> bytes:
    return stream_head() + chunk(body) + (LAST_CHUNK if whole else b"")


@contextlib.contextmanager
def teed(*answers: bytes, close: bool = True) -> Iterator[Tee]:
    """A tee before somebody who gives these answers, whatever is asked."""
    with FakeInstance([behave.raw(it, close=close) for it in answers]) as fake, Tee(fake.port) as found:
        yield found


def post(tee: Tee, path: str = MESSAGES, **more: Any) -> bytes:
    return httpx.post(tee.url + path, json=ask(stream=True, **more), timeout=WAIT_S).content


# ------------------------------------------------------------------ what is checked


@pytest.mark.parametrize("body", [LEGAL, b": x-router-instance: one\n\n" + LEGAL], ids=["bare", "with our comment"])
def test_a_legal_stream_is_passed_on_and_counted(body: bytes) -> None:
    with teed(answer(body)) as tee:
        assert post(tee) == body
        tee.check()
        assert tee.streams == 1


def test_a_chat_stream_must_have_its_usage_when_it_was_asked_for() -> None:
    asked = {"stream_options": {"include_usage": True}}
    with teed(answer(chat_wire(ROLE, HELLO, CHAT_STOP, usage(), DONE))) as tee:
        post(tee, CHAT, **asked)
        tee.check()
        assert tee.streams == 1
    with teed(answer(chat_wire(ROLE, HELLO, CHAT_STOP, DONE))) as tee:
        post(tee, CHAT, **asked)
        with pytest.raises(Illegal, match="without the usage that was asked for"):
            tee.check()


@pytest.mark.parametrize(
    ("path", "body", "rule"),
    [
        (MESSAGES, TWICE, "a second message_start"),
        (MESSAGES, HALF, "ends without message_stop"),
        (MESSAGES, b": hello\n\n" + LEGAL, "a comment that is none of the router's"),
        (CHAT, chat_wire(ROLE, HELLO, CHAT_STOP), r"ends without \[DONE\]"),
        (CHAT, chat_wire(ROLE, HELLO, CHAT_STOP, usage(), DONE), "usage that nobody asked for"),
    ],
)
def test_a_stream_that_breaks_a_rule_is_passed_on_and_told(path: str, body: bytes, rule: str) -> None:
    with teed(answer(body)) as tee:
        assert post(tee, path) == body
        with pytest.raises(Illegal, match=rule):
            tee.check()
        tee.check()  # it is told once


def test_every_stream_on_a_connection_is_checked_and_answers_that_are_none_are_not() -> None:
    plain = head(200, "application/json", 2, close=False) + b"{}"
    empty = head(200, "application/json", 99, close=False)  # as to HEAD
    script = [behave.raw(it, close=False) for it in (plain, answer(LEGAL), answer(TWICE))]
    with (
        FakeInstance(script) as fake,
        Tee(fake.port) as tee,
        Wire(tee.port) as wire_,
    ):
        fake.on["/"] = behave.raw(empty, close=False)
        assert wire_.send(as_bytes(ask())).answer().content == b"{}"
        wire_.send(as_bytes(ask(), start="HEAD / HTTP/1.1")).answer(body=False)
        assert wire_.send(as_bytes(ask(stream=True))).answer().content == LEGAL
        assert wire_.send(as_bytes(ask(stream=True))).answer().content == TWICE
        (found,) = tee.faults()
        assert "a second message_start" in str(found)
        assert tee.streams == 2


def test_a_client_that_was_told_to_go_on_is_checked_as_any_other() -> None:
    with teed(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(TWICE)) as tee, Wire(tee.port) as wire_:
        wire_.send(as_bytes(ask(stream=True), "Expect: 100-continue"))
        assert [wire_.answer().status_code, wire_.answer().content] == [100, TWICE]
        assert len(tee.faults()) == 1


# ------------------------------------------------------------------ streams that do not end well


def test_a_stream_that_its_client_left_must_be_legal_as_far_as_it_went() -> None:
    for body, faults in ((LEGAL[: len(HALF) - 7], 0), (TWICE, 1)):
        with teed(answer(body, whole=False), close=False) as tee:
            with httpx.stream("POST", tee.url + MESSAGES, json=ask(stream=True), timeout=WAIT_S) as response:
                next(response.iter_raw())
            found = until_over(tee)
        assert (len(found), tee.streams) == (faults, 1)


def test_a_stream_that_goes_on_when_the_tee_ends_is_checked_then() -> None:
    behaviour = behave.raw(answer(TWICE, whole=False), close=False)
    with FakeInstance([behaviour]) as fake, pytest.raises(Illegal, match="a second message_start"):  # noqa: PT012
        with Tee(fake.port) as tee, Wire(tee.port) as wire_:
            wire_.send(as_bytes(ask(stream=True)))
            wire_.read(len(stream_head()) + 20)
            tee.check()  # it may yet end
        pytest.fail("nothing was told")


def test_a_stream_of_a_route_that_is_only_passed_on_must_be_whole_events() -> None:
    exchange = Exchange()
    exchange.path, exchange.content_type, exchange.whole = (
        "/v1/else?beta=true",
        "text/event-stream; charset=utf-8",
        True,
    )
    exchange.said = b'data: {"odd": 1}\n\ndata: {"od'
    assert "the bytes end inside an event" in str(fault(exchange))
    exchange.whole, exchange.left = False, True
    assert fault(exchange) is None
    exchange.whole, exchange.content_type = True, "application/json"
    assert fault(exchange) is None


def test_a_stream_inside_which_the_router_hangs_up_is_told() -> None:
    with teed(answer(LEGAL, whole=False)) as tee:
        with pytest.raises(httpx.RemoteProtocolError):
            post(tee)
        with pytest.raises(Illegal, match="the router hung up inside a stream"):
            tee.check()


def test_an_answer_that_is_no_http_is_told() -> None:
    with teed(stream_head() + b"zz\r\n") as tee:
        with pytest.raises(httpx.RemoteProtocolError):
            post(tee)
        with pytest.raises(Illegal, match="no HTTP"):
            tee.check()


def until_over(tee: Tee) -> list[Illegal]:
    """Wait until one stream has been checked."""
    found: list[Illegal] = []

    def seen() -> bool:
        found.extend(tee.faults())
        return tee.streams > 0

    eventually(seen)
    return found


# ------------------------------------------------------------------ the connection itself


@pytest.fixture
def ends_of() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client of a tee, and what it reaches."""
    with socket.create_server(("127.0.0.1", 0)) as server, Tee(server.getsockname()[1]) as tee:
        server.settimeout(WAIT_S)
        with socket.create_connection(("127.0.0.1", tee.port), timeout=WAIT_S) as client:
            far, _ = server.accept()
            far.settimeout(WAIT_S)
            with far:
                yield client, far


Ends = tuple[socket.socket, socket.socket]
BOTH = pytest.mark.parametrize("way", [1, -1], ids=["from the client", "from the router"])


@BOTH
def test_a_reset_arrives_as_a_reset(ends_of: Ends, way: int) -> None:
    near, far = ends_of[::way]
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, tee._RESET)
    near.close()
    with pytest.raises(ConnectionResetError):
        far.recv(1)


@BOTH
def test_an_end_arrives_as_an_end_and_the_other_direction_goes_on(ends_of: Ends, way: int) -> None:
    near, far = ends_of[::way]
    near.sendall(b"last")
    near.shutdown(socket.SHUT_WR)
    assert (far.recv(9), far.recv(9)) == (b"last", b"")
    far.sendall(b"still here")
    assert near.recv(99) == b"still here"
    far.close()
    assert near.recv(9) == b""


def test_who_does_not_read_is_not_written_to_without_end(ends_of: Ends) -> None:
    client, far = ends_of
    far.settimeout(0.5)
    sent, piece = 0, bytes(1 << 20)
    with contextlib.suppress(TimeoutError):
        while sent < 256 << 20:
            sent += far.send(piece)
    assert sent < 128 << 20
    far.close()
    while sent > 0 and (some := client.recv(1 << 20)):
        sent -= len(some)
    assert sent == 0


def test_where_nobody_listens_the_client_is_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        Tee(port) as tee,
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", tee.port), timeout=WAIT_S) as client,
    ):
        client.recv(1)


# ------------------------------------------------------------------ in a test


def test_after_a_test_all_tees_are_asked_and_one_that_failed_is_told_beside_its_failure() -> None:
    item: Any = SimpleNamespace(user_properties=[])
    for error in (None, ValueError("its own")):
        with teed(answer(TWICE)) as tee:
            running = conftest.pytest_runtest_call(item)
            next(running)
            post(tee)
            if error is None:
                with pytest.raises(Illegal, match="a second message_start"):
                    running.send(None)
            else:
                with pytest.raises(ValueError, match="its own") as caught:
                    running.throw(error)
                assert "a second message_start" in caught.value.__notes__[0]


@pytest.mark.parametrize("whole", [True, False])
def test_our_own_clients_hold_what_they_read_to_the_rules_too(whole: bool) -> None:
    with FakeInstance([behave.raw(answer(TWICE, whole=whole), close=whole)]) as fake:
        crowd = Crowd(fake.port)
        with pytest.raises(Illegal, match="a second message_start"), crowd:
            crowd.call(ask(stream=True)).wait_for(lambda call: len(call.raw) == len(TWICE))


def test_a_router_has_a_url_that_is_watched(start_fake: StartFake, start_router: StartRouter) -> None:
    router = start_router(registry([start_fake()]))
    watched = router.watched_url
    assert watched == router.watched_url != router.url
    response = httpx.post(f"{watched}/v1/messages", json=ask(stream=True), timeout=WAIT_S)
    assert response.text.endswith('message_stop"}\n\n')
    assert router._tee is not None
    router._tee.check()
    assert router._tee.streams == 1
    router.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(watched)
