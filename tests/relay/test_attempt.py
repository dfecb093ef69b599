"""One try on one instance: a stream's bytes in any pieces, its deaths before and after the commit, its deadlines."""

import asyncio
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.rig import behave
from tests.rig.fake_seen import Behaviour
from tests.rig.fake_speech import frames_of
from tests.rig.fake_turn import Turn
from tests.rig.fake_wire import LAST_CHUNK, Reply, chunk, compact, event, message_body, message_frames, stream_head
from tests.rig.legality import check
from tests.test_app import Stage, Wire, answered, as_bytes, ask, eventually, refused, text_of

REPLY = Reply(id="msg-1", model="inner", thinking=("hm", " m"), text=("a", " b", " ü😀"), prompt_tokens=7)
FRAMES = message_frames(REPLY)
WHOLE = stream_head() + b"".join(map(chunk, FRAMES)) + LAST_CHUNK


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    deadlines = {"connect": "1s", "head": "1200ms", "idle": "1200ms", "call": "3s", "hold": "60s"}
    with Stage(glass=True, deadlines=deadlines) as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    shared.at_rest()


def pieces(data: bytes, size: int) -> Behaviour:
    """These bytes, in writes of this size."""

    async def behaviour(turn: Turn) -> None:
        turn.closing = True
        for at in range(0, len(data), size):
            await turn.write(data[at : at + size])
            if size < 100:
                await asyncio.sleep(0)

    return behaviour


def streamed(stage: Stage, *behaviours: Behaviour) -> httpx.Response:
    return stage.post(ask(stage.planned(*behaviours), stream=True))


def without_id(stream: bytes) -> bytes:
    """What is the same in two answers that say the same."""
    return re.sub(rb'"id":"msg_[^"]+"', b'"id":"msg_"', stream)


# ---------------------------------------------------------------- bytes in any pieces


def test_a_stream_is_the_same_whatever_pieces_it_comes_in(stage: Stage) -> None:
    whole = without_id(streamed(stage, pieces(WHOLE, 10**6)).content)
    said = check(whole)
    assert (said.thinking, said.text, said.model) == ("hm m", "a b ü😀", "test-model")
    for size in (1, 2, 3, 7, 64, 500):
        assert without_id(streamed(stage, pieces(WHOLE, size)).content) == whole
    windows = b"".join(chunk(frame.replace(b"\n", b"\r\n")) for frame in FRAMES)
    for size in (1, 5, 10**6):
        assert without_id(streamed(stage, pieces(stream_head() + windows + LAST_CHUNK, size)).content) == whole


def test_every_token_arrives_as_it_was_sent(stage: Stage) -> None:
    token = re.compile(rb"event: content_block_delta\n.*(?:thinking|text)_delta.*\n\n")
    raw = streamed(stage, pieces(WHOLE, 10**6)).content
    assert token.findall(raw) == token.findall(b"".join(FRAMES))


def test_a_stream_whose_length_is_known_or_ends_with_its_connection_is_as_good(stage: Stage) -> None:
    body = b"".join(FRAMES)
    start = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    whole = without_id(streamed(stage, pieces(WHOLE, 10**6)).content)
    for head in (start + b"Content-Length: %d\r\n\r\n" % len(body), start + b"\r\n"):
        assert without_id(streamed(stage, behave.raw(head + body)).content) == whole


@pytest.mark.parametrize(
    "odd",
    [behave.comments(), behave.one_packet(), behave.drip(), behave.huge_event(2 << 20)],
    ids=["comments", "one packet", "dripping", "huge event"],
)
def test_odd_pacing_is_still_a_whole_answer(stage: Stage, odd: Behaviour) -> None:
    said = check(streamed(stage, odd).content, "native", comments=False)
    assert said.stop_reason == "end_turn"


def test_an_event_without_end_is_not_collected_for_ever(stage: Stage) -> None:
    before = stage.router.rss_bytes
    endless = chunk(FRAMES[0]) + chunk(b"event: content_block_delta\ndata: {" + b"x" * (9 << 20))
    said = check(streamed(stage, behave.raw(stream_head() + endless)).content, "exact")
    assert said.error is not None
    assert "cannot be read" in said.error["message"]
    assert stage.router.rss_bytes < before + (100 << 20)


def test_what_follows_the_end_of_a_message_is_dropped(stage: Stage) -> None:
    more = chunk(event("content_block_delta", {"type": "content_block_delta"})) + chunk(
        event("error", {"message": "x"})
    )
    raw = streamed(stage, behave.raw(stream_head() + b"".join(map(chunk, FRAMES)) + more + LAST_CHUNK)).content
    assert raw.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


def test_an_answer_is_whole_at_message_stop_and_the_lease_back_soon_after(stage: Stage) -> None:
    nonce = stage.planned(pieces(WHOLE, 10**6), _never_closes)
    stage.post(ask(nonce, stream=True))
    started = time.monotonic()
    with Wire(stage.router.port) as wire:
        raw = wire.send(as_bytes(ask(nonce, stream=True))).answer().content
        assert time.monotonic() - started < 5
        assert check(raw, "exact").stop_reason == "end_turn"
        eventually(lambda: all(it["busy"] == 0 for it in stage.fleet()["instances"]), within_s=2)
        answered(wire.send(as_bytes(ask("nonce:next"))).answer(), "nonce:next")


async def _never_closes(turn: Turn) -> None:
    await turn.write(WHOLE.removesuffix(LAST_CHUNK))
    await asyncio.sleep(30)


# ---------------------------------------------------------------- deaths

BEFORE: dict[str, Behaviour] = {
    "closes after its head": behave.die_mid_stream(0),
    "resets after its head": behave.die_mid_stream(0, reset=True),
    "dies in its first chunk": behave.die_mid_chunk(0),
    "resets in its first chunk": behave.die_mid_chunk(0, reset=True),
    "ends without an event": behave.end_without_stop(0),
    "sends a broken chunk first": behave.broken_chunk(0),
    "answers plainly": behave.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
    "starts with what is not JSON": behave.raw(
        stream_head() + chunk(b"event: message_start\ndata: {no\n\n") + LAST_CHUNK
    ),
    "sends only comments": behave.raw(stream_head() + chunk(b":\n\n") * 5 + LAST_CHUNK),
}


@pytest.mark.parametrize("name", BEFORE)
def test_a_stream_that_dies_before_its_first_event_is_made_good_by_the_next_instance(stage: Stage, name: str) -> None:
    nonce = stage.planned(BEFORE[name])
    response = stage.post(ask(nonce, stream=True))
    assert response.status_code == 200, response.text
    said = check(response.content, "native", comments=False)
    assert (said.text, said.error) == (text_of(nonce), None)
    first, second = stage.seen(nonce)
    assert first.header("host") != second.header("host")
    assert stage.fake(response.headers["x-router-instance"]).url.endswith(str(second.header("host")))


def test_an_error_event_before_the_first_token_keeps_its_status(stage: Stage) -> None:
    wrong = behave.error_event(0, message="Compute error in /srv/models/x.gguf")
    response = streamed(stage, wrong, wrong)  # one other instance is asked
    message = refused(response, 502, "api_error")
    assert "Compute error" in message
    assert "x.gguf" not in message


AFTER: dict[str, Behaviour] = {
    "closes": behave.die_mid_stream(2),
    "resets": behave.die_mid_stream(2, reset=True),
    "dies in a chunk": behave.die_mid_chunk(2),
    "resets in a chunk": behave.die_mid_chunk(2, reset=True),
    "ends without message_stop": behave.end_without_stop(2),
    "sends an error": behave.error_event(2, message="Compute error at http://10.9.8.7:1/ in /srv/models/x.gguf"),
    "sends a broken chunk": behave.broken_chunk(2),
}


@pytest.mark.parametrize("name", AFTER)
def test_a_stream_that_dies_after_its_first_event_ends_with_one_error(stage: Stage, name: str) -> None:
    nonce = stage.planned(AFTER[name])
    response = stage.post(ask(nonce, stream=True))
    assert response.status_code == 200
    said = check(response.content, "native", comments=False)
    assert said.error is not None
    assert said.error["type"] == "api_error"
    # A reset may overtake what was sent before it, but nothing is invented.
    assert text_of(nonce).startswith(said.text)
    assert said.text or "reset" in name
    assert b"message_stop" not in response.content
    assert response.content.count(b"event: error") == 1
    for private in ("10.9.8.7", "x.gguf", "127.0.0.1"):
        assert private not in response.text
    assert len(stage.seen(nonce)) == 1
    last = said.events[-1].data
    assert last["request_id"] == response.headers["request-id"]


def test_a_stream_that_dies_with_its_instance_ends_with_one_error(stage: Stage) -> None:
    nonce = stage.planned(behave.stall_mid_stream(2))
    with ThreadPoolExecutor() as threads:
        call = threads.submit(stage.post, ask(nonce, stream=True))
        eventually(lambda: stage.seen(nonce))
        fake = next(it for it in stage.fakes if it.url.endswith(str(stage.seen(nonce)[0].header("host"))))
        fake.wait_for(lambda it: it.tokens_predicted >= 2)
        fake.stop()
        try:
            said = check(call.result().content, "exact")
        finally:
            fake.start()
    assert said.error is not None


# ---------------------------------------------------------------- deadlines


def pause(seconds: float) -> Behaviour:
    """Think this long before the head."""

    async def behaviour(turn: Turn) -> None:
        await asyncio.sleep(seconds)
        await behave.answer()(turn)

    return behaviour


def test_a_streamed_call_whose_head_does_not_come_is_tried_elsewhere_in_time(stage: Stage) -> None:
    nonce = stage.planned(behave.stall_before_head())
    started = time.monotonic()
    assert check(stage.post(ask(nonce, stream=True)).content, "exact").text == text_of(nonce)
    assert 1.0 < time.monotonic() - started < 4
    sum_of_hangups = sum(fake.hangups for fake in stage.fakes)
    assert sum_of_hangups >= 1


def test_when_no_head_comes_from_anybody_that_is_a_timeout(stage: Stage) -> None:
    message = refused(streamed(stage, *[behave.stall_before_head()] * 2), 504, "timeout_error")
    assert "was silent" in message


def test_silence_after_the_head_and_before_an_event_is_tried_elsewhere(stage: Stage) -> None:
    nonce = stage.planned(behave.stall_after_head())
    assert check(stage.post(ask(nonce, stream=True)).content, "exact").text == text_of(nonce)
    assert len(stage.seen(nonce)) == 2


def test_silence_in_the_middle_ends_the_stream_with_a_timeout(stage: Stage) -> None:
    started = time.monotonic()
    said = check(streamed(stage, behave.stall_mid_stream(2)).content, "exact")
    assert said.error is not None
    assert (said.error["type"], said.text.count("w")) == ("timeout_error", 1)
    assert time.monotonic() - started < 4


def test_comments_against_silence_keep_a_stream_alive(stage: Stage) -> None:
    async def behaviour(turn: Turn) -> None:
        await turn.begin_stream()
        for _ in range(6):
            await asyncio.sleep(0.3)
            await turn.chunk(b":\n\n")
        for frame in frames_of(turn, turn.reply()):
            await turn.chunk(frame)
        await turn.end_stream()

    nonce = stage.planned(behaviour)
    assert check(stage.post(ask(nonce, stream=True)).content, "exact").text == text_of(nonce)
    assert len(stage.seen(nonce)) == 1


def test_a_plain_call_may_be_silent_until_it_is_whole(stage: Stage) -> None:
    nonce = stage.planned(pause(1.5))
    answered(stage.post(ask(nonce)), nonce)
    assert len(stage.seen(nonce)) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_takes_longer_than_a_call_may_is_ended(stage: Stage, stream: bool) -> None:
    async def endless(turn: Turn) -> None:
        if not turn.streamed:
            await asyncio.sleep(60)
        await turn.begin_stream()
        await turn.chunk(FRAMES[0])
        while True:
            await asyncio.sleep(0.1)
            await turn.chunk(FRAMES[1])

    started = time.monotonic()
    response = streamed(stage, *[endless] * 3) if stream else stage.post(ask(stage.planned(*[endless] * 3)))
    assert 2.5 < time.monotonic() - started < 5
    if stream:
        said = check(response.content, "exact")
        assert said.error is not None
        assert said.error["type"] == "timeout_error"
        assert "longer than 3 s" in said.error["message"]
    else:
        assert "longer than 3 s" in refused(response, 504, "timeout_error")


def test_a_plain_answer_of_many_megabytes_arrives_whole(stage: Stage) -> None:
    async def behaviour(turn: Turn) -> None:
        body = message_body(REPLY)
        await turn.json(200, {**body, "content": [{"type": "text", "text": "x" * (20 << 20)}]})

    answer = stage.post(ask(stage.planned(behaviour))).json()
    assert len(answer["content"][0]["text"]) == 20 << 20


def test_a_plain_answer_without_end_is_not_collected(stage: Stage) -> None:
    async def behaviour(turn: Turn) -> None:
        await turn.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await turn.chunk(compact("x" * (1 << 20)))

    nonce = stage.planned(behaviour)
    answered(stage.post(ask(nonce)), nonce)
    assert len(stage.seen(nonce)) == 2
