"""To the client: never silent for long, never more than it reads, and an end that cannot be mistaken."""

import asyncio
import select
import socket
import time
from collections.abc import Iterator, Sequence

import pytest

from router.relay.send import ClientStream
from router.relay.voice import CHAT_VOICE, MESSAGES_VOICE, Telling, Voice
from tests.rig import behave
from tests.rig.fake_seen import Behaviour
from tests.rig.fake_turn import Turn
from tests.rig.fake_wire import event, message_frames
from tests.rig.legality import Message, check
from tests.test_app import Stage, Wire, as_bytes, ask, eventually, refused, text_of

HOLD_S = 0.4
TOLD = Telling(status=502, type="api_error", message="words")
MIB = 1 << 20


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    deadlines = {"head": "1500ms", "idle": "1500ms", "hold": "400ms"}
    with Stage(glass=True, fake={"slots": 1}, deadlines=deadlines) as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    shared.at_rest()


def late(then: Behaviour, after_s: float = 1.0) -> Behaviour:
    """Be silent for longer than a client is left alone, and then behave."""

    async def behaviour(turn: Turn) -> None:
        await asyncio.sleep(after_s)
        await then(turn)

    return behaviour


def said_by(stage: Stage, *behaviours: Behaviour) -> tuple[str, Message, str]:
    """The nonce, what the stream said, and the instance that its head names."""
    nonce = stage.planned(*behaviours)
    response = stage.post(ask(nonce, stream=True))
    assert response.status_code == 200, response.text
    return nonce, check(response.content, "exact", comments=True), response.headers.get("x-router-instance", "")


# ---------------------------------------------------------------- silence


def test_a_client_that_waits_gets_its_status_and_pings_and_then_the_answer(stage: Stage) -> None:
    nonce, said, named = said_by(stage, late(behave.answer()))
    assert (said.text, said.error, named) == (text_of(nonce), None, "")
    assert said.pings == 2
    (comment,) = said.comments
    assert comment.startswith("x-router-instance: ")
    assert "x-router-decision: place" in comment
    assert stage.seen(nonce)[0].header("host") == stage.fake(comment.split()[1].strip(";")).url.removeprefix("http://")


def test_the_first_ping_comes_when_it_was_promised(stage: Stage) -> None:
    started = time.monotonic()
    with Wire(stage.router.port) as wire:
        wire.send(as_bytes(ask(stage.planned(late(behave.answer())), stream=True)))
        assert wire.read(15) == b"HTTP/1.1 200 OK"
        assert HOLD_S * 0.8 < time.monotonic() - started < HOLD_S + 0.5
        assert any(b"message_stop" in line for line in iter(wire._file.readline, b""))


def test_an_answer_in_time_has_no_ping(stage: Stage) -> None:
    nonce, said, named = said_by(stage)
    assert (said.text, said.pings, said.comments) == (text_of(nonce), 0, ())
    assert named in {"one", "two"}


def test_silence_in_the_middle_of_an_answer_is_filled_with_pings(stage: Stage) -> None:
    async def slow(turn: Turn) -> None:
        first, *rest = message_frames(turn.reply())
        await turn.begin_stream()
        await turn.chunk(first)
        await asyncio.sleep(1.0)
        for frame in rest:
            await turn.chunk(frame)
        await turn.end_stream()

    nonce, said, _ = said_by(stage, slow)
    assert (said.text, said.error) == (text_of(nonce), None)
    assert said.pings == 2


LATE_FAULTS: dict[str, tuple[Behaviour, str, str]] = {
    "bad request": (behave.error(400, "tools: bad", "invalid_request_error"), "invalid_request_error", "tools: bad"),
    "too long": (behave.too_long(9, 8), "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
    "fault": (behave.server_error(), "api_error", "status 500"),
    "error event": (behave.error_event(0), "api_error", "Context size has been exceeded."),
}


@pytest.mark.parametrize("name", LATE_FAULTS)
def test_after_a_ping_a_failure_is_an_event_of_the_type_that_its_status_would_have_had(stage: Stage, name: str) -> None:
    behaviour, type_, words = LATE_FAULTS[name]
    _, said, _ = said_by(stage, late(behaviour), behaviour)  # a fault is asked of the other, too
    assert said.error is not None
    assert said.error["type"] == type_
    assert words in said.error["message"]
    assert said.events[0].name == "error"


def test_after_a_ping_another_instance_may_still_answer(stage: Stage) -> None:
    nonce, said, _ = said_by(stage, late(behave.reset_before_head()))
    assert (said.text, said.error) == (text_of(nonce), None)
    assert len(stage.seen(nonce)) == 2


def test_before_a_ping_a_failure_has_its_status(stage: Stage) -> None:
    nonce = stage.planned(behave.server_error(), behave.server_error())
    refused(stage.post(ask(nonce, stream=True)), 502, "api_error")


def test_a_plain_call_keeps_its_status_however_late(stage: Stage) -> None:
    nonce = stage.planned(late(behave.server_error()), late(behave.server_error()))
    refused(stage.post(ask(nonce)), 502, "api_error")


def test_a_client_that_waits_for_a_slot_is_pinged_as_well(stage: Stage) -> None:
    with Wire(stage.router.port) as one, Wire(stage.router.port) as two, Wire(stage.router.port) as three:
        for wire in (one, two):
            wire.send(as_bytes(ask(stage.planned(late(behave.answer(), 1.2)))))
        eventually(lambda: sum(fake.in_flight for fake in stage.fakes) == 2)
        three.send(as_bytes(ask("nonce:third", stream=True)))
        response = three.answer()
        assert (one.answer().status_code, two.answer().status_code) == (200, 200)
    said = check(response.content, "exact", comments=True)
    assert (said.text, said.error) == (text_of("nonce:third"), None)
    assert said.pings >= 1
    assert "after wait" in said.comments[0]


# ---------------------------------------------------------------- slow readers


def fifty_megabytes(turn: Turn) -> list[bytes]:
    """Fifty events of a megabyte, between the honest first and last."""
    first, *_, last = message_frames(turn.reply())
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * MIB}}
    return [first, *[event("content_block_delta", delta)] * 50, last]


async def push(turn: Turn) -> None:
    """Send them as fast as the router reads; what was sent is counted in tokens."""
    await turn.begin_stream()
    for frame in fifty_megabytes(turn):
        await turn.chunk(frame)
        turn.fake.note(tokens_predicted=1)
    await turn.end_stream()


def test_an_instance_is_read_only_as_fast_as_the_client_reads(stage: Stage) -> None:
    nonce = stage.planned(push)
    before = peak_bytes(stage)
    sent_before = sum(fake.tokens_predicted for fake in stage.fakes)
    with Wire(stage.router.port) as wire:
        wire.send(as_bytes(ask(nonce, stream=True)))
        eventually(lambda: select.select([wire.sock], [], [], 0)[0])
        time.sleep(2.0)  # nothing is read meanwhile, for longer than an instance may be silent
        sent = sum(fake.tokens_predicted for fake in stage.fakes) - sent_before
        assert sent < 30
        raw = wire.answer().content
    said = check(raw, "exact")
    assert (len(said.text), said.error) == (50 * MIB + len(nonce), None)
    assert peak_bytes(stage) < before + 40 * MIB


def peak_bytes(stage: Stage) -> int:
    """The most memory that the router ever had."""
    status = (stage.router._proc() / "status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def test_a_slow_reader_that_leaves_frees_the_instance(stage: Stage) -> None:
    nonce = stage.planned(push)
    with Wire(stage.router.port) as wire:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.send(as_bytes(ask(nonce, stream=True)))
        assert wire.read(15) == b"HTTP/1.1 200 OK"
        time.sleep(0.5)
    eventually(lambda: sum(fake.in_flight for fake in stage.fakes) == 0, within_s=1.5)


# ---------------------------------------------------------------- the stream itself


class Pretend:
    """A link that writes down what it is told."""

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.gone = self.started = self.ended = False

    async def read_body(self) -> bytes:
        return b""

    def watch(self, **_: object) -> None: ...

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        raise AssertionError

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        assert not self.started
        self.started = True
        self.out.append(b"head " + b",".join(name for name, _ in headers))

    def write(self, data: bytes) -> None:
        assert self.started
        assert not self.ended
        self.out.append(data)

    def end(self) -> None:
        assert not self.ended
        self.ended = True

    def cut(self) -> None: ...


def opened(hold_s: float = 60.0, voice: Voice = MESSAGES_VOICE) -> tuple[Pretend, ClientStream]:
    link = Pretend()
    headers = [(b"request-id", b"req_1")]
    stream = ClientStream(link, voice=voice, request_id="req_1", headers=headers, hold_s=hold_s)  # type: ignore[arg-type]
    return link, stream


@pytest.mark.anyio
async def test_a_stream_begins_once_and_says_late_what_its_head_could_not() -> None:
    link, stream = opened()
    stream.begin([(b"x-router-instance", b"one")], b": late\n\n")
    stream.begin([(b"x-router-instance", b"two")], b": late\n\n")
    stream.end()
    assert link.out == [
        b"head content-type,cache-control,x-accel-buffering,request-id,x-router-instance",
        b": late\n\n",
    ]


@pytest.mark.anyio
async def test_a_stream_that_has_failed_says_so_once_and_ends() -> None:
    link, stream = opened()
    stream.begin([], b"")
    stream.fail(TOLD)
    stream.fail(TOLD)
    stream.end()
    assert link.ended
    assert link.out[1:] == [MESSAGES_VOICE.error_event(TOLD, "req_1")]
    assert b'"request_id":"req_1"' in link.out[-1]


@pytest.mark.anyio
@pytest.mark.parametrize("voice", [MESSAGES_VOICE, CHAT_VOICE], ids=["messages", "chat"])
async def test_silence_and_failure_are_told_in_the_clients_dialect(voice: Voice) -> None:
    link, stream = opened(0.01, voice)
    async with asyncio.timeout(5.0):
        while len(link.out) < 2:  # noqa: ASYNC110  # the head, and a ping by a timer
            await asyncio.sleep(0.001)
    stream.fail(TOLD)
    assert (b"head content-type,cache-control,x-accel-buffering,request-id", voice.ping) == tuple(link.out[:2])
    assert voice.error_event(TOLD, "req_1") == link.out[-1]


@pytest.mark.anyio
async def test_a_stream_that_was_dropped_or_whose_client_left_is_silent() -> None:
    dropped, stream = opened(0.01)
    stream.drop()
    left, _ = opened(0.01)
    left.gone = True
    await asyncio.sleep(0.1)
    assert (dropped.out, left.out) == ([], [])
