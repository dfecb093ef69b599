"""One connection to an instance, fed by hand: what the sink is told, whatever the pieces that the bytes come in."""

import asyncio
from typing import Any

import pytest

from router.errors import UpstreamFailed
from router.fleet.instance import Instance
from router.relay.upstream import UpstreamConnection

INSTANCE = Instance(id="one", address="127.0.0.1", port=1, authority="127.0.0.1:1")
PLAIN = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


class Told:
    """A sink that writes down what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.end = ""
        self.untouched = False

    def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert not self.end
        self.status, self.headers = status, dict(headers)

    def data(self, chunk: bytes) -> None:
        assert chunk
        assert not self.end
        self.body += chunk

    def framed(self, frame: bytes, start: int) -> bool:
        return False

    def ended(self) -> None:
        assert not self.end
        self.end = "ended"

    def failed(self, error: UpstreamFailed, *, untouched: bool) -> None:
        assert not self.end
        self.end, self.untouched = error.message, untouched


class Taking(Told):
    """A sink that takes whole chunks as they stand."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[bytes, int]] = []

    def framed(self, frame: bytes, start: int) -> bool:
        assert not self.end
        if len(frame) == start + 2:  # the last one ends the answer, and that is the parser's affair
            return False
        self.frames.append((frame, start))
        return True


class Socket(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.state = "open"
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: Any) -> None:
        self.sent += data

    def writelines(self, parts: Any) -> None:
        self.sent += b"".join(parts)

    def is_closing(self) -> bool:
        return self.state != "open"

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Line:
    """A connection with its socket, its sink, and what was given back to the pool."""

    def __init__(self) -> None:
        self.free: list[UpstreamConnection] = []
        self.connection = UpstreamConnection(INSTANCE, self.free.append)
        self.socket = Socket()
        self.connection.connection_made(self.socket)
        self.told = Told()

    def ask(self, told: Told | None = None) -> "Line":
        self.told = told or Told()
        self.connection.send(b"POST / HTTP/1.1\r\n\r\n", b"body", self.told)
        return self

    def answer(self, data: bytes) -> "Line":
        self.connection.data_received(data)
        return self


def test_a_request_goes_out_as_it_was_given() -> None:
    assert Line().ask().socket.sent == b"POST / HTTP/1.1\r\n\r\nbody"


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED], ids=["plain", "chunked"])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_an_answer_is_whole_in_pieces_of_any_size(answer: bytes, size: int) -> None:
    line = Line().ask()
    for at in range(0, len(answer), size):
        assert line.told.end == ""
        line.answer(answer[at : at + size])
    assert (line.told.status, line.told.body, line.told.end) == (200, b"hello", "ended")
    assert line.free == [line.connection]


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED], ids=["plain", "chunked"])
def test_an_answer_that_is_cut_anywhere_has_failed(answer: bytes) -> None:
    for at in range(len(answer)):
        line = Line().ask()
        if at:
            line.answer(answer[:at])
        line.connection.connection_lost(None)
        assert line.told.end == "instance one closed its connection before the answer was whole", answer[:at]
        assert not line.told.untouched
        assert line.free == []


def test_header_names_arrive_in_lower_case() -> None:
    assert Line().ask().answer(PLAIN).told.headers[b"content-type"] == b"application/json"


def test_an_answer_without_length_ends_with_its_connection() -> None:
    line = Line().ask().answer(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhel").answer(b"lo")
    assert line.told.end == ""
    line.connection.connection_lost(None)
    assert (line.told.body, line.told.end) == (b"hello", "ended")


def test_an_answer_without_length_that_is_reset_has_failed() -> None:
    line = Line().ask().answer(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhel")
    line.connection.connection_lost(ConnectionResetError())
    assert "closed its connection" in line.told.end


def test_a_head_of_information_is_no_answer() -> None:
    line = Line().ask().answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    assert (line.told.status, line.told.end, line.free) == (0, "", [])
    line.answer(PLAIN)
    assert (line.told.status, line.told.body, line.told.end) == (200, b"hello", "ended")
    assert b"link" not in line.told.headers


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_after_an_error_the_connection_is_closed_whatever_its_head_says(status: int) -> None:
    line = Line().ask().answer(b"HTTP/1.1 %d X\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n" % status)
    assert (line.told.status, line.told.end) == (status, "ended")
    assert (line.free, line.socket.state) == ([], "closed")


def test_a_connection_that_is_to_be_closed_is_closed() -> None:
    line = Line().ask().answer(PLAIN.replace(b"Server: llama.cpp", b"Connection: close"))
    assert (line.told.end, line.free, line.socket.state) == ("ended", [], "closed")


@pytest.mark.parametrize(
    "data", [b"ICY 200 OK\r\n\r\n", b"\0\xff\r\n\r\n", PLAIN.replace(b"5", b"x"), b"HTTP/9.9 1\r\n\r\n"]
)
def test_what_is_not_http_has_failed_and_the_connection_is_cut(data: bytes) -> None:
    line = Line().ask().answer(data)
    assert line.told.end == "instance one sent something that is not HTTP"
    assert line.socket.state == "aborted"


def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    line = Line().ask().answer(PLAIN).answer(b"HTTP/1.1 200 OK\r\n")
    assert line.told.end == "ended"
    assert line.socket.state == "aborted"


def test_more_bytes_than_announced_in_one_piece_leave_no_connection_behind() -> None:
    line = Line().ask().answer(PLAIN + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
    assert (line.told.status, line.told.body, line.told.end) == (200, b"hello", "ended")
    assert line.connection.closed


def test_a_used_connection_that_dies_before_a_byte_was_untouched() -> None:
    line = Line().ask().answer(PLAIN).ask()
    line.connection.connection_lost(ConnectionResetError())
    assert line.told.untouched


def test_a_used_connection_that_dies_after_a_byte_was_not() -> None:
    line = Line().ask().answer(PLAIN).ask().answer(b"H")
    line.connection.connection_lost(ConnectionResetError())
    assert "closed its connection" in line.told.end
    assert not line.told.untouched


def test_a_fresh_connection_that_dies_before_a_byte_was_not_either() -> None:
    line = Line().ask()
    line.connection.connection_lost(None)
    assert not line.told.untouched


def test_a_connection_found_closed_tells_so_at_once() -> None:
    line = Line().ask().answer(PLAIN)
    line.socket.close()
    line.ask()
    assert "closed its connection" in line.told.end
    assert line.told.untouched


def test_an_abandoned_answer_tells_nobody() -> None:
    line = Line().ask()
    line.connection.abandon()
    line.connection.connection_lost(None)
    assert (line.told.end, line.socket.state) == ("", "aborted")


def test_reading_pauses_and_goes_on() -> None:
    line = Line().ask()
    line.connection.pause()
    paused = not line.socket.reading
    line.connection.resume()
    assert (paused, line.socket.reading) == (True, True)
    line.connection.connection_lost(None)
    line.connection.pause()
    line.connection.resume()


def test_a_fault_in_the_sink_is_not_taken_for_the_instances() -> None:
    class Broken(Told):
        def data(self, chunk: bytes) -> None:
            raise ZeroDivisionError

    line = Line()
    line.connection.send(b"x", b"", Broken())
    with pytest.raises(ZeroDivisionError):
        line.answer(PLAIN)


# ---------------------------------------------------------------- whole chunks

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def taking() -> tuple[Line, Taking]:
    """A line whose answer has begun, with its first chunk."""
    told = Taking()
    return Line().ask(told).answer(HEAD).answer(b"3\r\nhel\r\n"), told


def test_a_chunk_that_comes_alone_may_be_taken_as_it_stands() -> None:
    line, told = taking()
    line.answer(b"2\r\nlo\r\n").answer(b"0B\r\nhello there\r\n")
    assert (told.body, told.frames) == (b"hel", [(b"2\r\nlo\r\n", 3), (b"0B\r\nhello there\r\n", 4)])
    line.answer(b"1\r\n!\r\n0\r\n\r\n")
    assert (told.body, told.end, line.free) == (b"hel!", "ended", [line.connection])


@pytest.mark.parametrize(
    "data",
    [b"2\r\nlo\r\n1\r\n!\r\n", b"2\r\nlo", b"2\r\nlo\r", b"2;a=b\r\nlo\r\n", b"2", b"5\r\nlo\r\n"],
    ids=["two", "cut", "cut in its end", "with an extension", "half a head", "longer than the read"],
)
def test_anything_else_than_one_whole_chunk_goes_through_the_parser(data: bytes) -> None:
    line, told = taking()
    line.answer(data)
    assert (told.frames, told.end) == ([], "")


@pytest.mark.parametrize("size", [b"+2", b"0x2", b" 2", b"0_2", b"2 "])
def test_a_chunk_whose_size_is_written_oddly_is_not_passed_on_as_it_stands(size: bytes) -> None:
    line, told = taking()
    line.answer(size + b"\r\nlo\r\n")
    assert told.frames == []


def test_after_half_a_chunk_the_next_read_is_not_mistaken_for_a_whole_one() -> None:
    line, told = taking()
    line.answer(b"c\r\nab").answer(b"2\r\nlo\r\n").answer(b"xyz\r\n")
    assert (told.body, told.frames, told.end) == (b"helab2\r\nlo\r\nxyz", [], "")


def test_the_next_answer_starts_with_its_head_again() -> None:
    line, _ = taking()
    line.answer(b"0\r\n\r\n")
    told = Taking()
    line.ask(told).answer(b"2\r\nlo\r\n")
    assert (told.frames, told.end) == ([], "instance one sent something that is not HTTP")


def test_a_reset_after_chunks_that_were_taken_is_a_cut_answer() -> None:
    line, told = taking()
    line.answer(b"2\r\nlo\r\n")
    line.connection.connection_lost(ConnectionResetError())
    assert "closed its connection" in told.end
    assert not told.untouched
