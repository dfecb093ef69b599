"""The ear, fed with answers whole, byte by byte and cut at every point."""

import asyncio
import contextlib
from collections.abc import Iterable

import pytest

from benchmarks.answers import Protocol
from benchmarks.replay.call import Ear, Heard, listen
from router.demo.llama import free_port


def chunk(text: str) -> bytes:
    return f"{len(text.encode()):x}\r\n{text}\r\n".encode()


def streamed(*pieces: str, headers: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\n{headers}Transfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(chunk(piece) for piece in pieces) + b"0\r\n\r\n"


MESSAGES = streamed(
    ": x-router-queue-ms: 12; x-router-decision: place after wait; 4 candidates\n\n",
    'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":30,'
    '"cache_read_input_tokens":70,"output_tokens":0}}}\n\n',
    'event: content_block_start\ndata: {"type":"content_block_start","content_block":{"type":"text","text":""}}\n\n',
    'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\n\n',
    'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":5}}\n\n',
    'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    headers="X-Router-Instance: i1\r\nRequest-Id: r1\r\n",
)
CHAT = streamed(
    'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n\n',
    'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n',
    'data: {"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":5,"prompt_tokens_details":'
    '{"cached_tokens":70}}}\n\n',
    "data: [DONE]\n\n",
)


class Wire(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        return


def hear(protocol: Protocol, pieces: Iterable[bytes]) -> Heard:
    async def listened() -> Heard:
        ear = Ear(b"request", protocol)
        wire = Wire()
        ear.connection_made(wire)
        assert b"request" == wire.written
        for piece in pieces:
            ear.data_received(piece)
        ear.connection_lost(None)
        await ear.over
        return ear.heard

    return asyncio.run(listened())


@pytest.mark.parametrize(("protocol", "answer"), [(Protocol.MESSAGES, MESSAGES), (Protocol.CHAT, CHAT)])
def test_an_answer_is_heard_however_it_is_cut(protocol: Protocol, answer: bytes) -> None:
    ways = [[answer], [answer[at : at + 1] for at in range(len(answer))]]
    ways += [[answer[:at], answer[at:]] for at in range(1, len(answer))]
    for way in ways:
        heard = hear(protocol, way)
        assert ("", 100, 70, 5) == (heard.error, heard.prompt_tokens, heard.cached_tokens, heard.output_tokens)
        assert heard.ttft_s is not None
        assert 0 < heard.ttft_s <= heard.total_s


def test_what_the_router_says_is_kept_from_headers_and_from_the_stream() -> None:
    heard = hear(Protocol.MESSAGES, [MESSAGES])
    assert "r1" == heard.request_id
    assert {"x-router-instance": "i1", "x-router-queue-ms": "12"}.items() <= heard.router.items()
    assert heard.router["x-router-decision"].startswith("place after wait")


@pytest.mark.parametrize(
    ("protocol", "until"),
    [(Protocol.MESSAGES, b"event: content_block_delta"), (Protocol.CHAT, b'data: {"choices":[{"delta":{"content":"a"')],
)
def test_the_first_token_is_the_first_text_and_nothing_before(protocol: Protocol, until: bytes) -> None:
    answer = MESSAGES if protocol is Protocol.MESSAGES else CHAT
    assert hear(protocol, [answer[: answer.index(until)]]).ttft_s is None


@pytest.mark.parametrize("protocol", list(Protocol))
def test_an_answer_that_ends_early_is_an_error_wherever_it_ends(protocol: Protocol) -> None:
    answer = MESSAGES if protocol is Protocol.MESSAGES else CHAT
    assert {"cut off"} == {hear(protocol, [answer[:at]]).error for at in range(answer.index(protocol.last))}


def test_an_answer_may_end_with_its_connection() -> None:
    plain = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ndata: {}\n\ndata: [DONE]\n\n"
    assert ["", "cut off"] == [hear(Protocol.CHAT, [answer]).error for answer in (plain, plain[:-5])]


def test_a_stream_without_its_last_event_is_not_complete() -> None:
    assert "stream not complete" == hear(Protocol.CHAT, [streamed('data: {"choices":[]}\n\n')]).error


@pytest.mark.parametrize(
    "event",
    [
        'event: error\ndata: {"code":500,"message":"m","type":"server_error"}\n\n',
        'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"m"}}\n\n',
        'data: {"error":{"code":500,"message":"m","type":"server_error"}}\n\n',
    ],
)
def test_an_error_in_the_stream_is_one_whoever_wrote_it(event: str) -> None:
    assert "error event" == hear(Protocol.MESSAGES, [streamed(event)]).error


def test_a_status_is_an_error() -> None:
    assert "status 529" == hear(Protocol.CHAT, [b"HTTP/1.1 529 Overloaded\r\nContent-Length: 2\r\n\r\n{}"]).error


def test_what_is_not_http_is_an_error() -> None:
    assert "not HTTP" == hear(Protocol.CHAT, [b"SSH-2.0-OpenSSH_9.2\r\n"]).error


def test_nobody_listening_is_an_error_and_takes_no_time() -> None:
    async def refused() -> Heard:
        ear = Ear(b"request", Protocol.CHAT)
        await listen(ear, free_port())
        return ear.heard

    assert ("connection refused", 0.0) == ((heard := asyncio.run(refused())).error, heard.total_s)


def test_a_call_that_is_cancelled_is_cut_and_has_lasted_until_then() -> None:
    async def cancelled() -> Heard:
        arrived, gone = asyncio.Event(), asyncio.Event()

        async def keep_waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.set()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            gone.set()

        ear = Ear(b"request", Protocol.CHAT)
        async with await asyncio.start_server(keep_waiting, "127.0.0.1", 0) as server:
            task = asyncio.create_task(listen(ear, server.sockets[0].getsockname()[1]))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await gone.wait()  # it has hung up
        return ear.heard

    heard = asyncio.run(cancelled())
    assert ("cut", None) == (heard.error, heard.ttft_s)
    assert heard.total_s > 0
