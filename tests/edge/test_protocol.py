"""A client's connection, byte by byte: what is refused, how it is told, and that nothing is left behind.

The router of this module gives a head 1 s and a body 1.5 s, so that a test can wait for a deadline.
"""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_turn import Turn
from tests.rig.legality import check
from tests.rig.router import RouterProcess, registry
from tests.test_app import Stage, Wire, answered, as_bytes, ask, eventually, refused, text_of

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    with Stage(glass=True) as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    shared.at_rest()
    answered(shared.post(ask("nonce:after")), "nonce:after")


@pytest.fixture
def wire(stage: Stage) -> Iterator[Wire]:
    with Wire(stage.router.port) as wire:
        yield wire


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunked(*lines: str) -> bytes:
    return head("POST /v1/messages HTTP/1.1", "Host: x", *lines, "Transfer-Encoding: chunked")


# ---------------------------------------------------------------- well

BODY = json.dumps(ask("nonce:w1")).encode()


def test_a_request_that_comes_byte_by_byte_is_answered(wire: Wire) -> None:
    wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in as_bytes(ask("nonce:w2")):
        wire.send(bytes([byte]))
    answered(wire.answer(), "nonce:w2")


def test_requests_follow_one_another_on_one_connection(wire: Wire) -> None:
    for nonce in ("nonce:k1", "nonce:k2"):
        answered(wire.send(as_bytes(ask(nonce))).answer(), nonce)
        raw = wire.send(as_bytes(ask(nonce, stream=True))).answer().content
        assert check(raw, "exact").text == text_of(nonce)


def test_a_chunked_request_is_answered_and_goes_on_with_a_length(stage: Stage, wire: Wire) -> None:
    nonce = stage.planned()
    body = json.dumps(ask(nonce)).encode()
    half = len(body) // 2
    wire.send(chunked() + b"%x;name=value\r\n%b\r\n" % (half, body[:half]))
    wire.send(b"%x\r\n%b\r\n0\r\nTrailer: 1\r\n\r\n" % (len(body) - half, body[half:]))
    answered(wire.answer(), nonce)
    (seen,) = stage.seen(nonce)
    assert (seen.header("transfer-encoding"), seen.header("content-length")) == (None, str(len(seen.body)))
    assert seen.json["messages"] == ask(nonce)["messages"]


def test_pipelined_requests_are_answered_in_their_order(wire: Wire) -> None:
    nonces = [f"nonce:p{number}" for number in range(4)]
    wire.send(b"".join(as_bytes(ask(nonce)) for nonce in nonces))
    for nonce in nonces:
        answered(wire.answer(), nonce)


def test_a_stream_and_the_request_piped_behind_it_do_not_mix(stage: Stage, wire: Wire) -> None:
    first, second = stage.planned(behave.drip(0.0005)), stage.planned()
    wire.send(as_bytes(ask(first, stream=True)) + as_bytes(ask(second)))
    assert check(wire.answer().content, "exact").text == text_of(first)
    answered(wire.answer(), second)


async def think(turn: Turn) -> None:
    """Say nothing for 4 s: an instance that would have to be told that nobody waits any more."""
    await asyncio.sleep(4)
    await turn.json(200, {})


def test_a_client_that_leaves_with_a_request_piped_behind_another_ends_both(stage: Stage) -> None:
    first, second = stage.planned(think), stage.planned()
    with Wire(stage.router.port) as wire:
        wire.send(as_bytes(ask(first)) + as_bytes(ask(second)))
        eventually(lambda: stage.seen(first))
    eventually(lambda: sum(fake.in_flight for fake in stage.fakes) == 0, within_s=1)
    assert stage.seen(second) == []


def test_a_bad_request_piped_behind_a_good_one_does_not_cost_the_good_one_its_answer(wire: Wire) -> None:
    wire.send(as_bytes(ask("nonce:good")) + b"NONSENSE\r\n\r\n")
    answered(wire.answer(), "nonce:good")
    refused(wire.answer(), 400, "invalid_request_error")


def test_a_large_request_piped_behind_another_is_refused_before_it_is_all_in_memory(stage: Stage, wire: Wire) -> None:
    first = stage.planned(think)
    wire.send(as_bytes(ask(first)))
    eventually(lambda: stage.seen(first))
    large = as_bytes(ask(messages=[{"role": "user", "content": "x" * 400_000}]))
    with contextlib.suppress(OSError):
        wire.send(large)
    answered(wire.answer(), first)
    assert "256 KiB" in refused(wire.answer(), 400, "invalid_request_error")


def test_the_head_of_a_piped_request_has_its_own_deadline(stage: Stage, wire: Wire) -> None:
    nonce = stage.planned(behave.drip(0.001))
    raw = as_bytes(ask("nonce:late"))
    wire.send(as_bytes(ask(nonce, stream=True)))
    eventually(lambda: stage.seen(nonce))
    time.sleep(1.2)  # longer than a head may take, shorter than the stream takes
    wire.send(raw[:20])
    assert check(wire.answer().content, "exact").text == text_of(nonce)
    answered(wire.send(raw[20:]).answer(), "nonce:late")


def test_a_client_is_told_to_continue_when_it_asks(wire: Wire) -> None:
    raw = as_bytes(ask("nonce:e1"), "Expect: 100-continue")
    start, _, body = raw.partition(b"\r\n\r\n")
    wire.send(start + b"\r\n\r\n")
    assert wire.answer().status_code == 100
    answered(wire.send(body).answer(), "nonce:e1")


def test_a_body_over_the_cap_is_not_asked_for(wire: Wire) -> None:
    wire.send(head("POST /v1/messages HTTP/1.1", "Host: x", f"Content-Length: {33 * MIB}", "Expect: 100-continue"))
    refused(wire.answer(), 413, "request_too_large")


def test_http_1_0_is_answered_without_chunks_and_closed(stage: Stage) -> None:
    for stream in (False, True):
        nonce = stage.planned()
        with Wire(stage.router.port) as wire:
            start = "POST /v1/messages HTTP/1.0"
            response = wire.send(as_bytes(ask(nonce, stream=stream), start=start)).answer()
            assert response.headers.get("transfer-encoding") is None
            if stream:
                assert check(response.content, "exact").text == text_of(nonce)
            else:
                answered(response, nonce)
            assert wire.at_end()


def test_a_client_that_wants_the_connection_closed_has_it_closed(wire: Wire) -> None:
    response = wire.send(as_bytes(ask("nonce:c1"), "Connection: close")).answer()
    answered(response, "nonce:c1")
    assert response.headers["connection"] == "close"
    assert wire.at_end()


def test_an_offer_to_upgrade_to_http_2_is_ignored(wire: Wire) -> None:
    """Java's client makes it on its first request; a server that does not want it just answers (RFC 9110, 7.8)."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
    raw = as_bytes(ask("nonce:h2"), *offer)
    for split in (len(raw), len(raw) - 30):
        wire.send(raw[:split])
        time.sleep(0.02)
        response = wire.send(raw[split:]).answer()
        answered(response, "nonce:h2")
        assert "upgrade" not in response.headers


def test_an_offer_of_a_websocket_is_not_taken(wire: Wire) -> None:
    offer = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    assert wire.send(head("GET /healthz HTTP/1.1", HOST, *offer)).answer().status_code == 200
    refused(wire.send(head("GET /v1/messages HTTP/1.1", HOST, *offer)).answer(), 405, ERROR)
    answered(wire.send(as_bytes(ask("nonce:ws"))).answer(), "nonce:ws")


def test_requests_without_end_are_not_read_ahead(stage: Stage, wire: Wire) -> None:
    nonces = [stage.planned() for _ in range(40)]
    wire.send(b"".join(as_bytes(ask(nonce)) for nonce in nonces))
    for nonce in nonces:
        response = wire.answer()
        if response.status_code != 200:
            assert "sent ahead" in refused(response, 400, ERROR)
            break
        answered(response, nonce)
    else:
        pytest.fail("forty requests were read before the first was answered")
    assert wire.at_end()


# ---------------------------------------------------------------- refused

ERROR = "invalid_request_error"
HOST = "Host: x"
POST = "POST /v1/messages HTTP/1.1"
BAD_BYTES = {
    "no HTTP at all": b"hello there\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "an unknown version": head("GET /healthz HTTP/3.7", HOST),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown method": head("FETCH /v1/messages HTTP/1.1", HOST),
    "two lengths": head(POST, HOST, "Content-Length: 5", "Content-Length: 6") + b"hello",
    "length and chunks": head(POST, HOST, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunks and length": head(POST, HOST, "Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n",
    "chunks not last": head(POST, HOST, "Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "a negative length": head(POST, HOST, "Content-Length: -1"),
    "a length with a sign": head(POST, HOST, "Content-Length: +5") + b"hello",
    "a length in hex": head(POST, HOST, "Content-Length: 0x5") + b"hello",
    "a chunk without a size": chunked() + b"zz\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than it says": chunked() + b"3\r\nhello\r\n0\r\n\r\n",
    "a chunk of absurd size": chunked() + b"fffffffffffffffff\r\nhello\r\n",
    "a space before the colon": head(POST, "Host : x"),
    "a header without a colon": head(POST, HOST, "nonsense"),
    "a NUL in a header": head(POST, HOST, "X-A: a\0b"),
    "a lone CR in a header": head(POST, HOST, "X-A: a\rb: c"),
    "a URL that is none": head("GET http://[ HTTP/1.1", HOST),
    "a tunnel": head("CONNECT example.org:443 HTTP/1.1", "Host: example.org:443"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_what_is_not_http_is_refused_in_an_envelope_and_the_connection_closed(wire: Wire, name: str) -> None:
    response = wire.send(BAD_BYTES[name]).answer()
    message = refused(response, 400, ERROR)
    assert response.headers["connection"] == "close"
    assert "callback" not in message
    assert "; " in message  # what is wrong, and what to do
    assert wire.at_end()


def test_tls_on_a_plain_port_is_called_by_its_name(wire: Wire) -> None:
    assert "write http://" in refused(wire.send(BAD_BYTES["TLS on a plain port"]).answer(), 400, ERROR)


def test_a_broken_chunk_is_told_what_a_chunk_is(wire: Wire) -> None:
    assert "its size in hex" in refused(wire.send(BAD_BYTES["a chunk without a size"]).answer(), 400, ERROR)


@pytest.mark.parametrize("digits", ["9" * 18, "9" * 25, "9" * 5000])
def test_an_absurd_length_is_refused_unread(wire: Wire, digits: str) -> None:
    response = wire.send(head(POST, HOST, f"Content-Length: {digits}")).answer()
    if response.status_code == 400:
        refused(response, 400, ERROR)
    else:
        refused(response, 413, "request_too_large")


def test_a_length_over_the_cap_is_refused_before_the_body_comes(wire: Wire) -> None:
    response = wire.send(head(POST, HOST, f"Content-Length: {33 * MIB}")).answer()
    message = refused(response, 413, "request_too_large")
    assert "larger than 32 MiB;" in message
    assert "shorten" in message
    assert wire.at_end()


def test_a_client_that_is_still_sending_can_read_why_it_was_refused(stage: Stage, wire: Wire) -> None:
    before = stage.router.rss_bytes
    wire.send(head(POST, HOST, f"Content-Length: {33 * MIB}"))
    with contextlib.suppress(ConnectionError):
        for _ in range(33):
            wire.send(b"x" * MIB)
    refused(wire.answer(), 413, "request_too_large")
    assert stage.router.rss_bytes < before + 16 * MIB


def test_chunks_over_the_cap_are_refused_and_the_client_can_read_it(wire: Wire) -> None:
    wire.send(chunked())
    with contextlib.suppress(ConnectionError):
        for _ in range(34):
            wire.send(b"%x\r\n" % MIB + b"x" * MIB + b"\r\n")
    refused(wire.answer(), 413, "request_too_large")


def test_a_client_that_never_stops_sending_is_cut_off(stage: Stage) -> None:
    with Wire(stage.router.port) as wire:
        wire.send(head(POST, HOST, f"Content-Length: {10**12}"))
        with pytest.raises(ConnectionError):
            wire.send(b"x" * (100 * MIB))


def test_a_head_of_two_megabytes_is_refused(wire: Wire) -> None:
    with contextlib.suppress(ConnectionError):
        wire.send(head(POST, HOST, f"X-Big: {'x' * 2 * MIB}"))
    message = refused(wire.answer(), 431, ERROR)
    assert "64 KiB" in message
    assert "send fewer or shorter ones" in message


@pytest.mark.parametrize("extra", [99, 100])
def test_a_hundred_headers_pass_and_one_more_does_not(wire: Wire, extra: int) -> None:
    wire.send(head("GET /healthz HTTP/1.1", HOST, *(f"X-{number}: 1" for number in range(extra))))
    response = wire.answer()
    if extra == 99:
        assert response.status_code == 200
    else:
        assert "100 headers" in refused(response, 431, ERROR)


def test_a_url_of_a_hundred_kilobytes_is_refused(wire: Wire) -> None:
    refused(wire.send(head(f"GET /{'x' * 100_000} HTTP/1.1", HOST)).answer(), 431, ERROR)


def test_headers_in_small_pieces_do_not_slip_past_the_cap(wire: Wire) -> None:
    wire.send(f"{POST}\r\nX-Big: ".encode())
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            wire.send(b"x" * 1024)
    refused(wire.answer(), 431, ERROR)


# ---------------------------------------------------------------- deadlines


def test_a_head_that_stops_in_the_middle_is_refused_in_time(wire: Wire) -> None:
    wire.send(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nConte")
    assert "head" in refused(wire.answer(), 408, "timeout_error")
    assert wire.at_end()


def test_a_head_that_drips_is_refused_as_well(wire: Wire) -> None:
    started = time.monotonic()
    stop = threading.Event()

    def drip() -> None:
        wire.send(b"POST /v1/messages HTTP/1.1\r\nX-A: ")
        with contextlib.suppress(OSError):
            while not stop.wait(0.05):
                wire.send(b"a")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        refused(wire.answer(), 408, "timeout_error")
        assert time.monotonic() - started < 4
    finally:
        stop.set()
        dripping.join()


def test_the_head_of_a_second_request_has_the_same_deadline(wire: Wire) -> None:
    answered(wire.send(as_bytes(ask("nonce:d1"))).answer(), "nonce:d1")
    wire.send(b"POST /v1")
    refused(wire.answer(), 408, "timeout_error")


@pytest.mark.parametrize(
    "raw",
    [head(POST, HOST, "Content-Length: 100") + b'{"model":', chunked() + b"5\r\nhel", chunked() + b"5\r\nhello\r\n"],
)
def test_a_body_that_stops_coming_is_refused_in_time(wire: Wire, raw: bytes) -> None:
    assert "body" in refused(wire.send(raw).answer(), 408, "timeout_error")
    assert wire.at_end()


@pytest.mark.parametrize("rest", [b"", b"zz\r\n"], ids=["stalls", "is broken"])
def test_a_body_that_nobody_waits_for_any_more_is_not_answered_twice(wire: Wire, rest: bytes) -> None:
    raw = chunked().replace(b"/v1/messages", b"/v1/nowhere")
    refused(wire.send(raw).answer(), 404, "not_found_error")
    wire.send(rest)
    assert wire.at_end()


def test_a_body_that_comes_slowly_is_waited_for(wire: Wire) -> None:
    raw = as_bytes(ask("nonce:slow"))
    wire.send(raw[:-4])
    for byte in raw[-4:]:
        time.sleep(0.6)  # each pause is shorter than a body may rest, all together are longer
        wire.send(bytes([byte]))
    answered(wire.answer(), "nonce:slow")


def test_a_client_that_leaves_in_the_middle_of_a_head_or_a_body_leaves_nothing(stage: Stage) -> None:
    raw = as_bytes(ask("nonce:left"))
    for length in (0, 5, len(raw) // 2, len(raw) - 1):
        with Wire(stage.router.port) as wire:
            wire.send(raw[:length])
    assert stage.seen("nonce:left") == []


@pytest.mark.slow
def test_the_deadlines_of_a_real_router_are_those_that_are_documented() -> None:
    with FakeInstance() as fake, RouterProcess(registry([fake])) as router:
        router.wait_ready()
        started = time.monotonic()
        with Wire(router.port) as stalled_head, Wire(router.port) as stalled_body:
            stalled_head.send(b"POST /v1/mess")
            stalled_body.send(head(POST, HOST, "Content-Length: 100") + b"{")
            stalled_head.sock.settimeout(40)
            stalled_body.sock.settimeout(40)
            refused(stalled_head.answer(), 408, "timeout_error")
            assert 9 < time.monotonic() - started < 12
            refused(stalled_body.answer(), 408, "timeout_error")
            assert 29 < time.monotonic() - started < 35


def refusals(stage: Stage, cause: str) -> float:
    lines = stage.http.get("/metrics").text.splitlines()
    name = f'llama_router_refused_total{{cause="{cause}"}} '
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_refusals_are_counted_by_their_cause(stage: Stage, wire: Wire) -> None:
    before = refusals(stage, "head_too_large")
    refused(wire.send(head(f"GET /{'x' * 70_000} HTTP/1.1", HOST)).answer(), 431, ERROR)
    assert refusals(stage, "head_too_large") == before + 1


# ---------------------------------------------------------------- limits of the registry

KEY_BYTES = 100 * 1024


@pytest.fixture(scope="module")
def narrow() -> Iterator[Stage]:
    with Stage(glass=True, limits={"connections": 12, "key_bytes": "100KiB"}) as stage:
        yield stage


def test_connections_over_the_limit_are_cut_and_counted(narrow: Stage) -> None:
    before = refusals(narrow, "too_many_connections")
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(narrow.router.port)) for _ in range(11)]
        for wire in wires:
            assert wire.send(head("GET /healthz HTTP/1.1", HOST)).answer().status_code == 200
        for _ in range(3):
            assert stack.enter_context(Wire(narrow.router.port)).at_end()
        assert refusals(narrow, "too_many_connections") == before + 3
    narrow.at_rest()


def read_by_now(stage: Stage) -> None:
    """What was sent before this has been read: it came before, and the router reads all that has come in one turn."""
    for _ in range(3):
        assert stage.http.get("/healthz").status_code == 200


def posts(length_bytes: int) -> bytes:
    return head(POST, HOST, f"Content-Length: {length_bytes}")


@pytest.mark.parametrize("left", ["leaves", "stalls", "is answered"])
def test_a_body_that_is_still_to_come_counts_for_its_key_and_is_given_back(narrow: Stage, left: str) -> None:
    body = json.dumps(ask("nonce:slow")).encode()
    body += b" " * (KEY_BYTES - len(body))
    with Wire(narrow.router.port) as slow, Wire(narrow.router.port) as other:
        slow.send(posts(KEY_BYTES) + body[:1])
        read_by_now(narrow)
        response = other.send(as_bytes(ask("nonce:no"))).answer()
        assert "this key has" in refused(response, 429, "rate_limit_error")
        assert response.headers["retry-after"] == "5"
        if left == "stalls":
            refused(slow.answer(), 408, "timeout_error")
        elif left == "is answered":
            answered(slow.send(body[1:]).answer(), "nonce:slow")
        else:
            slow.sock.shutdown(2)
        eventually(lambda: narrow.post(ask("nonce:yes")).status_code == 200)
        answered(other.send(as_bytes(ask("nonce:yes"))).answer(), "nonce:yes")  # the connection was kept
    narrow.at_rest()


def test_a_length_that_is_too_much_for_its_key_is_refused_before_the_body_comes(narrow: Stage) -> None:
    with Wire(narrow.router.port) as wire:
        wire.send(posts(KEY_BYTES + 1))
        assert "this key has 0 B" in refused(wire.answer(), 429, "rate_limit_error")
        wire.send(b"x" * (KEY_BYTES + 1))  # it comes all the same, and is not taken for a request
        answered(wire.send(as_bytes(ask("nonce:next"))).answer(), "nonce:next")
    narrow.at_rest()


def test_a_chunked_body_counts_for_its_key_as_it_grows(narrow: Stage) -> None:
    piece = b"%x\r\n%b\r\n" % (40 * 1024, b"x" * (40 * 1024))
    with Wire(narrow.router.port) as first, Wire(narrow.router.port) as second:
        first.send(chunked() + piece)
        second.send(chunked() + piece)
        read_by_now(narrow)
        assert narrow.post(ask("x" * (21 * 1024))).status_code == 429
        response = second.send(piece).answer()
        assert "this key has 80 KiB" in refused(response, 429, "rate_limit_error")
        assert response.headers["retry-after"] == "5"
        assert second.at_end()
        first.send(piece)  # 80 KiB of 100
        read_by_now(narrow)
        assert narrow.post(ask("x" * (21 * 1024))).status_code == 429
        first.send(b"0\r\n\r\n")
        assert "not valid JSON" in refused(first.answer(), 400, ERROR)
    eventually(lambda: narrow.post(ask("x" * (90 * 1024))).status_code == 200)
    narrow.at_rest()


def test_a_chunked_body_that_is_answered_is_given_back(narrow: Stage) -> None:
    body = json.dumps(ask("nonce:ch")).encode()
    body += b" " * (60 * 1024 - len(body))
    with Wire(narrow.router.port) as wire:
        for _ in range(3):
            wire.send(chunked() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
            answered(wire.answer(), "nonce:ch")
    narrow.at_rest()


def test_many_connections_at_once_are_all_answered(stage: Stage) -> None:
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(stage.router.port)) for _ in range(100)]
        for number, wire in enumerate(wires):
            wire.send(as_bytes(ask(f"nonce:m{number}")))
        responses: list[httpx.Response] = [wire.answer() for wire in wires]
    for number, response in enumerate(responses):
        answered(response, f"nonce:m{number}")
