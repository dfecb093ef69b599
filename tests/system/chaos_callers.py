"""The load of a chaos run: callers in a closed loop over raw sockets, who check every answer they get."""

import asyncio
import json
import random
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from tests.rig.fake_slots import NONCE
from tests.rig.legality import Illegal, check
from tests.rig.router import MODEL
from tests.system.chaos_fleet import LONG_ANSWER_TOKENS, SIDE_MODEL
from tests.system.chaos_report import Failure, Report

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
LEAVE_SHARE, STREAM_SHARE, COUNT_SHARE = 0.08, 0.65, 0.04
SLOW_SHARE = 0.01
"""Of the calls that are read to their end: streamed, with a long answer, by a client that reads slowly for a while."""
SLOW_BYTES_S = 1024
SLOW_SEGMENT_BYTES = 536
LIMIT_S = 200.0
"""A call that takes longer is given up by the caller itself, and counted as past its deadline."""


class Promises(msgspec.Struct, frozen=True):
    """What the registry's deadlines promise a caller; slack for a busy machine is in them."""

    call_s: float
    silence_s: float


class Taken:
    """What came back for one request, byte by byte. `whole`: its framing came to its end."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.whole = self.left = False
        self.silence_s = 0.0

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def instance(self) -> str:
        """Who gave it: from the header, or from the comment in a stream that began before it was known."""
        found = re.findall(rb"^: x-router-instance: ([^;\n]+)", self.body, re.MULTILINE)
        return self.headers.get("x-router-instance") or (found[-1].decode() if found else "nobody")


class Line:
    """One connection to the router, kept from call to call while both sides allow it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._last_s = self._slow_until_s = 0.0

    async def ask(self, path: str, body: bytes, headers: str, taken: Taken, *, slow_s: float = 0.0) -> None:
        """Send and read until the answer is whole or the connection ends; `taken` is filled as it comes.

        `slow_s`: read at SLOW_BYTES_S for so long; it takes a connection of its own.
        """
        self._slow_until_s = time.monotonic() + slow_s if slow_s else 0.0
        if slow_s:
            self.drop()
            self._reader, self._writer = await self._narrow()
            headers += "connection: close\r\n"
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"POST {path} HTTP/1.1\r\nhost: router\r\ncontent-type: application/json\r\n{headers}"
        self._last_s = time.monotonic()
        try:
            self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            await self._writer.drain()
            await self._read(taken)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.drop()
        if not taken.whole or taken.headers.get("connection") == "close":
            self.drop()

    def drop(self, *, rudely: bool = False) -> None:
        """Close it; `rudely` without sending what is buffered."""
        if self._writer is not None:
            if rudely:
                self._writer.transport.abort()
            self._writer.close()
        self._reader = self._writer = None

    async def _narrow(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection with small buffers, so that the router notices soon that nobody reads.

        The kernel makes room for some segments on the sender's side; on the loopback they have 64 KB otherwise.
        """
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SLOW_SEGMENT_BYTES)
        narrow.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", self._port))
        except BaseException:
            narrow.close()
            raise
        return await asyncio.open_connection(sock=narrow, limit=4096)

    async def _read(self, taken: Taken) -> None:
        assert self._reader is not None
        raw = await self._reader.readuntil(b"\r\n\r\n")
        self._heard(taken)
        if not raw.startswith(b"HTTP/1.1 "):
            raise ValueError(f"{raw[:300]!r} where an answer should begin")
        status, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        taken.status = int(status.split(" ")[1])
        taken.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if taken.headers.get("transfer-encoding") != "chunked":
            taken.body = await self._reader.readexactly(int(taken.headers["content-length"]))
            taken.whole = True
            return
        while True:
            line = await self._reader.readline()
            if not line:
                raise asyncio.IncompleteReadError(b"", None)
            size = int(line, 16)
            payload = (await self._reader.readexactly(size + 2))[:-2]
            self._heard(taken)
            if not size:
                break
            taken.body += payload
            if self._slow_until_s:
                await self._linger(size)
        taken.whole = True

    async def _linger(self, size_bytes: int) -> None:
        """Be as slow as one is who reads so little a second; after that time make room and read on."""
        if self._last_s < self._slow_until_s:
            await asyncio.sleep(min(size_bytes / SLOW_BYTES_S, max(0.0, self._slow_until_s - time.monotonic())))
            return
        self._slow_until_s = 0.0
        assert self._writer is not None
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)

    def _heard(self, taken: Taken) -> None:
        now_s = time.monotonic()
        taken.silence_s = max(taken.silence_s, now_s - self._last_s)
        self._last_s = now_s


class Caller:
    """One client. It asks, checks, thinks a moment, and asks again; now and then it leaves in the middle."""

    def __init__(
        self, number: int, *, port: int, report: Report, promises: Promises, clock: Callable[[], float]
    ) -> None:
        self._dice = random.Random(f"{report.seed}/{number}")
        self._pool = SIDE_MODEL if number % 6 == 5 else MODEL
        self._name = f"c{number}"
        self._line = Line(port)
        self._report = report
        self._promises = promises
        self._clock = clock
        self._asked = 0

    async def run(self, stopping: Callable[[], bool]) -> None:
        while not stopping():
            await self._call()
            await asyncio.sleep(self._dice.uniform(0.0, 0.12))
        self._line.drop()

    # ------------------------------------------------------------ one call

    async def _call(self) -> None:
        dice, report = self._dice, self._report
        self._asked += 1
        nonce = f"nonce:{self._name}.{self._asked}"
        path = COUNT if dice.random() < COUNT_SHARE else MESSAGES
        streamed = path == MESSAGES and dice.random() < STREAM_SHARE
        slow_s = dice.uniform(2.0, 7.0) if streamed and dice.random() < SLOW_SHARE / STREAM_SHARE else 0.0
        body = self._body(nonce, streamed=streamed, long=slow_s > 0)
        headers = f"x-claude-code-session-id: {self._name}.{self._asked // 5}\r\n" if dice.random() < 0.5 else ""
        leave_s = dice.uniform(0.0, 0.5) if dice.random() < LEAVE_SHARE and not slow_s else None
        taken, start_s = Taken(), self._clock()
        try:
            async with asyncio.timeout(LIMIT_S if leave_s is None else leave_s):
                await self._line.ask(path, body, headers, taken, slow_s=slow_s)
        except TimeoutError:
            taken.left = True
            self._line.drop(rudely=dice.random() < 0.5)
        except ValueError as error:
            report.illegal.append(f"{nonce}: not HTTP: {error}")
            self._line.drop(rudely=True)
        report.calls += 1
        report.counted += path == COUNT
        report.slow += slow_s > 0
        took_s = self._clock() - start_s
        how = "read slowly" if slow_s else "streamed" if streamed else "plain"
        where = f"{nonce} at {start_s:.1f} s, {how}, {taken.headers.get('request-id')}"
        self._judge_time(taken, took_s, where, patient=streamed and leave_s is None and not slow_s)
        if taken.left:
            report.disconnects += 1
            self._judge_part(taken, where)
        else:
            self._judge(taken, nonce, where, start_s, path=path)

    def _body(self, nonce: str, *, streamed: bool, long: bool) -> bytes:
        dice = self._dice
        filler = " ".join(f"word{dice.randrange(1000)}" for _ in range(dice.choice((5, 40, 200))))
        name = "claude-any" if self._pool == MODEL and dice.random() < 0.3 else self._pool
        body: dict[str, object] = {
            "model": name,
            # The tiny model says 400 in a fifth of a second.
            "max_tokens": LONG_ANSWER_TOKENS if long else dice.choice((4, 4, 16, 16, 48, 400)),
            "messages": [{"role": "user", "content": f"{filler} {nonce}"}],
        }
        if streamed:
            body["stream"] = True
        return json.dumps(body).encode()

    # ------------------------------------------------------------ checking

    def _judge_time(self, taken: Taken, took_s: float, where: str, *, patient: bool) -> None:
        report = self._report
        report.longest = max(report.longest, (took_s, where))
        if took_s > self._promises.call_s:
            report.late.append(f"{where}: {took_s:.1f} s")
        if patient and taken.whole:
            report.longest_silence_s = max(report.longest_silence_s, taken.silence_s)
            if taken.silence_s > self._promises.silence_s + 2 * report.lag_s:
                report.silent.append(f"{where}: {taken.silence_s:.1f} s")

    def _judge_part(self, taken: Taken, where: str) -> None:
        """We have left: what had come may still not be two answers."""
        if _starts(taken.body) > 1 or _ends(taken.body) > 1:
            self._report.doubled.append(where)

    def _judge(self, taken: Taken, nonce: str, where: str, start_s: float, *, path: str) -> None:
        report = self._report
        if not taken.status or (not taken.whole and not taken.is_stream):
            report.lost.append(f"{where}: status {taken.status or 'none'}, {len(taken.body)} bytes")
        elif taken.status != 200:
            self._judge_refusal(taken, where, start_s)
        elif taken.is_stream:
            self._judge_stream(taken, nonce, where, start_s)
        elif path == COUNT:
            self._judge_count(taken, where)
        else:
            self._judge_message(taken, nonce, where)

    def _judge_refusal(self, taken: Taken, where: str, start_s: float) -> None:
        kind = str(taken.status)
        try:
            kind = f"{taken.status} {json.loads(taken.body)['error']['type']}"
        except (ValueError, KeyError, TypeError):
            self._report.illegal.append(f"{where}: {taken.status} without the envelope: {taken.body[:80]!r}")
        self._report.refused[kind] += 1
        self._failed(kind, taken, start_s)

    def _judge_stream(self, taken: Taken, nonce: str, where: str, start_s: float) -> None:
        report = self._report
        starts, ends = _starts(taken.body), _ends(taken.body)
        if starts > 1 or ends > 1:
            report.doubled.append(f"{where}: {starts} starts, {ends} ends")
            return
        if not ends or not taken.whole:
            report.lost.append(f"{where}: {starts} starts, {ends} ends, {taken.body[-80:]!r}")
            return
        try:
            said = check(taken.body, comments=True)
        except Illegal as error:
            report.illegal.append(f"{where}: {str(error)[:400]}")
            return
        self._judge_text(said.text, nonce, where, whole=said.error is None)
        if said.error is None:
            report.ok += 1
            return
        kind = str(said.error.get("type"))
        if starts:
            report.in_band[kind] += 1
            self._failed(f"in-band {kind}", taken, start_s, begun=True)
        else:
            report.in_band_early[kind] += 1
            self._failed(f"in-band {kind}", taken, start_s)

    def _judge_message(self, taken: Taken, nonce: str, where: str) -> None:
        try:
            message = json.loads(taken.body)
            text = "".join(block["text"] for block in message["content"])
            right = message["type"] == "message" and message["stop_reason"]
        except (ValueError, KeyError, TypeError):
            self._report.illegal.append(f"{where}: not a message: {taken.body[:80]!r}")
            return
        if not right:
            self._report.illegal.append(f"{where}: a message that has not ended: {taken.body[:200]!r}")
            return
        self._judge_text(text, nonce, where, whole=True)
        self._report.ok += 1

    def _judge_count(self, taken: Taken, where: str) -> None:
        with suppress(ValueError, KeyError, TypeError):
            if json.loads(taken.body)["input_tokens"] > 0:
                self._report.ok += 1
                return
        self._report.illegal.append(f"{where}: not a count: {taken.body[:80]!r}")

    def _judge_text(self, text: str, nonce: str, where: str, *, whole: bool) -> None:
        """A scripted instance says the call's nonce, the name of its model and numbered words; a real one anything."""
        said = NONCE.findall(text)
        words = [word.rstrip(".") for word in text.split()[1:]]
        if not said:
            return
        named = words.pop(0) if words and words[0].startswith("model:") else ""
        if said != [nonce]:
            self._report.wrong.append(f"{where}: got the answer of {said}")
        elif named and named != f"model:{self._pool}":
            self._report.wrong.append(f"{where}: {named} answered for {self._pool}")
        elif whole and words != [f"w{number}" for number in range(1, len(words) + 1)]:
            self._report.wrong.append(f"{where}: words are missing: {text[:200]}")

    def _failed(self, kind: str, taken: Taken, start_s: float, *, begun: bool = False) -> None:
        request_id = taken.headers.get("request-id", "no request id")
        failure = Failure(
            pool=self._pool,
            instance=taken.instance if begun else "",
            kind=kind,
            start_s=start_s,
            end_s=self._clock(),
            request_id=request_id,
        )
        (self._report.cut if begun else self._report.failures).append(failure)


def _starts(body: bytes) -> int:
    return body.count(b"event: message_start\n")


def _ends(body: bytes) -> int:
    return body.count(b"event: message_stop\n") + body.count(b"event: error\n")
