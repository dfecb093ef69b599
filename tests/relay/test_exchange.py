"""The life of a call: what reaches an instance, what comes back, who is tried next, and what is left behind."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from router.relay.exchange import declared_length
from tests.rig import behave
from tests.rig.fake_seen import Behaviour
from tests.rig.fake_turn import Turn
from tests.rig.fake_wire import JSON_TYPE, compact, error_body, message_body
from tests.rig.legality import check
from tests.test_app import Stage, Wire, answered, as_bytes, ask, eventually, refused, text_of

INVALID = "invalid_request_error"


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    with Stage(instances=4, glass=True) as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    shared.at_rest()


def hosts(stage: Stage, nonce: str) -> list[str | None]:
    return [seen.header("host") for seen in stage.seen(nonce)]


def sends(status: int, body: object, *headers: str) -> Behaviour:
    async def behaviour(turn: Turn) -> None:
        content = body if isinstance(body, bytes) else compact(body)
        await turn.send(status, JSON_TYPE, content, extra=headers)

    return behaviour


# ---------------------------------------------------------------- headers


def test_an_instance_sees_what_concerns_it_and_nothing_else(stage: Stage) -> None:
    nonce = stage.planned()
    gone = [
        "Authorization: Bearer client-secret",
        "X-Api-Key: client-secret",
        "Cookie: a=client-secret",
        "Proxy-Authorization: client-secret",
        "X-Goog-Api-Key: client-secret",
        "Origin: https://page.example.org",
        "Referer: https://page.example.org/chat",
        "Access-Control-Request-Method: POST",
        "X-Conversation-Id: c1",
        "X-Forwarded-For: 192.0.2.1",
        "Forwarded: for=192.0.2.1",
        "X-Real-Ip: 192.0.2.1",
        "X-Router-Instance: two",
        "TE: trailers",
        "Keep-Alive: timeout=9",
        "Accept-Encoding: br",
        "Connection: keep-alive, X-Just-For-You",
        "X-Just-For-You: hop",
    ]
    kept = ["anthropic-version: 2023-06-01", "Anthropic-Beta: a,b", "X-New: 1", "x-claude-code-session-id: s1"]
    with Wire(stage.router.port) as wire:
        answered(wire.send(as_bytes(ask(nonce), *gone, *kept)).answer(), nonce)
    (seen,) = stage.seen(nonce)
    port = seen.header("host")
    assert port in {fake.url.removeprefix("http://") for fake in stage.fakes}
    assert sorted((name.lower(), value) for name, value in seen.headers) == [
        ("anthropic-beta", "a,b"),
        ("anthropic-version", "2023-06-01"),
        ("content-length", str(len(seen.body))),
        ("host", port),
        ("x-claude-code-session-id", "s1"),
        ("x-new", "1"),
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_sees_what_concerns_it_and_nothing_else(stage: Stage, stream: bool) -> None:
    gone = [
        "Access-Control-Allow-Origin: https://evil.example.org",
        "Access-Control-Allow-Credentials: true",
        "Set-Cookie: a=b",
        "Strict-Transport-Security: max-age=1",
        "Location: /elsewhere",
        "Request-Id: not-ours",
        "X-Router-Instance: not-ours",
        "Process-Start-Time-Unix: 1",
        "Keep-Alive: timeout=5, max=100",
        "Proxy-Authenticate: Basic",
        "Alt-Svc: h3",
    ]

    async def behaviour(turn: Turn) -> None:
        reply = turn.reply()
        await turn.send(200, JSON_TYPE, compact(message_body(reply)), extra=(*gone, "X-Kept: 1", "Retry-After: 3"))

    nonce = stage.planned(*([] if stream else [behaviour]))
    response = stage.post(ask(nonce, stream=stream))
    assert response.status_code == 200
    mine = {
        "date",
        "content-type",
        "request-id",
        "x-request-id",
        "x-router-instance",
        "x-router-queue-ms",
        "x-router-decision",
    }
    mine |= {"x-router-way"}
    if stream:
        expected = mine | {"cache-control", "x-accel-buffering", "transfer-encoding"}
        assert response.headers["content-type"].startswith("text/event-stream")
    else:
        expected = mine | {"content-length", "x-kept", "retry-after"}
        assert response.headers["x-kept"] == "1"
    assert set(response.headers) == expected
    assert response.headers["request-id"].startswith("req_")
    assert response.headers["x-router-instance"] in {"one", "two", "three", "four"}
    assert int(response.headers["x-router-queue-ms"]) < 5000
    assert response.headers["x-router-decision"].startswith("place")


def test_every_call_has_an_id_of_its_own(stage: Stage) -> None:
    ids = [stage.post(ask("nonce:id")).headers["request-id"] for _ in range(20)]
    ids += [stage.post(ask(model="nobody")).headers["request-id"] for _ in range(20)]
    assert len(set(ids)) == 40


# ---------------------------------------------------------------- who is tried next

RETRIED: dict[str, Behaviour] = {
    "reset before a byte": behave.reset_before_head(),
    "closed before a byte": behave.close_before_head(),
    "loading": behave.loading(),
    "rate limited": behave.rate_limited(),
    "its key is refused": behave.error(401, "Invalid API Key", "authentication_error"),
    "forbidden": behave.error(403, "no", "permission_error"),
    "no such route": behave.error(404, "File Not Found", "not_found_error"),
    "a gateway before it": behave.not_json(b"<html>Bad Gateway</html>", status=502),
    "a gateway's time is up": behave.not_json(b"", status=504),
    "a web page": behave.not_json(),
    "nothing": behave.not_json(b""),
    "not an object": behave.not_json(b"[1]"),
    "something else in JSON": behave.not_json(b'{"status": "ok"}'),
    "an error with status 200": sends(200, error_body(500, "no", "server_error")),
    "a head that is none": behave.broken_head(),
    "a head that is cut": behave.raw(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: application/json\r\nX-Cut"),
    "bytes that are none of HTTP": behave.raw(b"\x00\xff\x00garbage\r\n\r\n"),
    "a body that is too short": behave.wrong_content_length(10),
    "a body that is too long": behave.wrong_content_length(-10),
}


@pytest.mark.parametrize("name", RETRIED)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_one_instances_fault_is_made_good_by_the_next(stage: Stage, name: str, stream: bool) -> None:
    nonce = stage.planned(RETRIED[name])
    response = stage.post(ask(nonce, stream=stream))
    assert response.status_code == 200, response.text
    if stream:
        assert check(response.content, "exact").text == text_of(nonce)
    else:
        answered(response, nonce)
    first, second = hosts(stage, nonce)
    assert first != second or stage.seen(nonce)[0].nth > 1  # on a reused connection it is tried there once more
    assert stage.fake(response.headers["x-router-instance"]).url.endswith(str(second))


def test_three_instances_are_tried_and_the_last_error_is_told(stage: Stage) -> None:
    nonce = stage.planned(behave.loading(), behave.broken_head(), behave.rate_limited(), behave.answer())
    message = refused(stage.post(ask(nonce)), 429, "rate_limit_error")
    assert "status 429" in message
    assert len(set(hosts(stage, nonce))) == len(hosts(stage, nonce)) == 3


LAST_WORDS: dict[str, tuple[Behaviour, int, str, str]] = {
    "cut": (behave.wrong_content_length(), 502, "api_error", "closed its connection before the answer was whole"),
    "garbage": (behave.broken_head(), 502, "api_error", "not HTTP"),
    "loading": (behave.loading(), 529, "overloaded_error", "loading its model"),
    "key": (behave.error(401, "Invalid API Key", "authentication_error"), 502, "api_error", "set its api_key"),
    "page": (behave.not_json(), 502, "api_error", "cannot be read"),
}


@pytest.mark.parametrize("name", LAST_WORDS)
def test_when_all_fail_in_the_same_way_that_is_what_is_told(stage: Stage, name: str) -> None:
    behaviour, status, type_, words = LAST_WORDS[name]
    nonce = stage.planned(*[behaviour] * 4)
    assert words in refused(stage.post(ask(nonce)), status, type_)
    assert len(hosts(stage, nonce)) == 3


TOLD: dict[str, tuple[Behaviour, int, str, str]] = {
    "a bad request": (behave.error(400, "messages: bad", INVALID), 400, INVALID, "messages: bad"),
    "unprocessable": (behave.error(422, "tools.0: bad", INVALID), 400, INVALID, "tools.0: bad"),
    "too long": (behave.too_long(5031, 4096), 400, INVALID, "prompt is too long: 5031 tokens > 4096 maximum"),
    "image": (
        behave.error(500, "image input is not supported - hint: you need a vision model", "server_error"),
        400,
        INVALID,
        "image input is not supported",
    ),
    "not implemented": (
        behave.error(418, "teapot", "weird"),
        502,
        "api_error",
        "status 418: teapot",
    ),
}


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("stream", [False, True])
def test_what_another_instance_would_say_as_well_is_told_at_once(stage: Stage, name: str, stream: bool) -> None:
    behaviour, status, type_, words = TOLD[name]
    nonce = stage.planned(behaviour)
    assert words in refused(stage.post(ask(nonce, stream=stream)), status, type_)
    assert len(hosts(stage, nonce)) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_that_a_second_instance_has_as_well_is_told_and_a_third_is_not_asked(
    stage: Stage, stream: bool
) -> None:
    nonce = stage.planned(behave.server_error(), behave.server_error(), behave.answer())
    words = refused(stage.post(ask(nonce, stream=stream)), 502, "api_error")
    assert "answered with status 500: Compute error." in words
    assert len(hosts(stage, nonce)) == len(set(hosts(stage, nonce))) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_one_instance_is_made_good_by_its_twin(stage: Stage, stream: bool) -> None:
    nonce = stage.planned(behave.server_error())
    response = stage.post(ask(nonce, stream=stream))
    assert (response.status_code, len(hosts(stage, nonce))) == (200, 2)
    assert text_of(nonce) == (check(response.content).text if stream else response.json()["content"][0]["text"])


@pytest.mark.parametrize(
    "private",
    ["/srv/models/secret-7b.gguf", "/secret-7b.gguf", "http://10.1.2.3:8080/v1", "https://rig1.example.org/secret"],
)
def test_no_path_and_no_address_of_an_instance_reaches_a_client(stage: Stage, private: str) -> None:
    for status, kind in ((500, "server_error"), (400, INVALID)):
        failing = behave.error(status, f"failed to load '{private}': no such file", kind)
        nonce = stage.planned(failing, failing)
        response = stage.post(ask(nonce))
        assert response.status_code in {400, 502}
        assert "failed to load" in response.text
        for part in ("secret", "10.1.2.3", "rig1.example"):
            assert part not in response.text


def test_an_instance_that_refuses_connections_is_passed_over_and_comes_back(stage: Stage) -> None:
    nonces = [stage.planned() for _ in range(4)]
    stage.fake("one").stop()
    try:
        for nonce in nonces:
            answered(stage.post(ask(nonce)), nonce)
        eventually(lambda: stage.fleet()["instances"][0]["state"] == "ejected")
    finally:
        stage.fake("one").start()
    eventually(stage.well)
    used = set()
    for _ in range(40):
        used.add(stage.post(ask(stage.planned())).headers["x-router-instance"])
    assert used == {"one", "two", "three", "four"}


def test_turns_of_one_session_stay_on_one_instance(stage: Stage) -> None:
    for session in ("s1", "s2", "s3"):
        answers = [stage.post(ask(stage.planned()), x_claude_code_session_id=session) for _ in range(4)]
        assert len({answer.headers["x-router-instance"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("headers", "length_bytes"),
    [
        ([], 0),
        ([(b"content-length", b"0")], 0),
        ([(b"host", b"12"), (b"content-length", b"345")], 345),
        ([(b"transfer-encoding", b"chunked")], 0),
    ],
)
def test_the_length_that_a_head_declares_is_known_before_the_body_comes(
    headers: list[tuple[bytes, bytes]], length_bytes: int
) -> None:
    assert length_bytes == declared_length(headers)


# ---------------------------------------------------------------- many at once


def test_two_hundred_calls_get_each_its_own_answer_and_no_instance_more_than_its_slots() -> None:
    stage = Stage(fake={"slots": 4, "prefill_s": 0.002, "token_delay_s": 0.001}, glass=True)
    with stage:
        nonces = [stage.planned() for _ in range(200)]

        async def call(client: httpx.AsyncClient, at: int, nonce: str) -> None:
            response = await client.post("/v1/messages", json=ask(nonce, stream=at % 2 == 0))
            assert response.status_code == 200, response.text
            text = check(response.content, "exact").text if at % 2 == 0 else response.json()["content"][0]["text"]
            assert text == text_of(nonce)

        async def all_of_them() -> None:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=stage.router.url, timeout=30, limits=limits) as client:
                await asyncio.gather(*(call(client, at, nonce) for at, nonce in enumerate(nonces)))

        asyncio.run(all_of_them())
        assert [fake.peak_in_flight for fake in stage.fakes] == [4, 4]
        assert max(Counter(map(str, hosts_of_all(stage))).values()) < 150
        assert sum(fake.answered for fake in stage.fakes) == 200
        stage.at_rest()


def hosts_of_all(stage: Stage) -> list[str | None]:
    return [seen.header("host") for seen in stage.plan.calls]


# ---------------------------------------------------------------- clients that leave

LEAVING = {
    "prefilling, plain": (False, behave.stall_before_head()),
    "prefilling, streamed": (True, behave.stall_before_head()),
    "prefilling after the head": (True, behave.stall_after_head()),
    "streaming": (True, behave.stall_mid_stream()),
}


@pytest.mark.parametrize("name", LEAVING)
def test_when_a_client_leaves_the_instance_is_free_within_a_second(stage: Stage, name: str) -> None:
    stream, behaviour = LEAVING[name]
    nonce = stage.planned(behaviour)
    with Wire(stage.router.port) as wire:
        wire.send(as_bytes(ask(nonce, stream=stream)))
        eventually(lambda: sum(fake.in_flight for fake in stage.fakes) == 1)
        if name == "streaming":
            assert wire.read(15) == b"HTTP/1.1 200 OK"
    eventually(lambda: sum(fake.in_flight for fake in stage.fakes) == 0, within_s=1)
    eventually(lambda: all(it["busy"] == 0 for it in stage.fleet()["instances"]), within_s=1)
    assert len(stage.seen(nonce)) == 1


def test_a_client_that_leaves_is_recorded_and_not_taken_for_a_failure(stage: Stage) -> None:
    nonce = stage.planned(behave.stall_before_head())
    with Wire(stage.router.port) as wire:
        wire.send(as_bytes(ask(nonce)))
        eventually(lambda: stage.seen(nonce))
    stage.router.wait_logged('"outcome":"client_gone"')
    assert all(it["state"] == "serving" for it in stage.fleet()["instances"])
