"""One turn of the scripted instance: a request, and the means to answer it well or badly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from tests.rig.fake_connection import TurnEndedError, Wire
from tests.rig.fake_seen import CHAT, Behaviour, Seen
from tests.rig.fake_slots import Grant, echo, prompt_words
from tests.rig.fake_wire import JSON_TYPE, LAST_CHUNK, Reply, chunk, compact, error_body, head, stream_head

if TYPE_CHECKING:
    from tests.rig.fake import FakeInstance


COMMENT_EVERY_S = 0.2
"""While nothing is computed a begun stream says so with a comment, as llama-server's does every 30 s."""


class Turn:
    """Behaviours are functions of this. Every write waits until the client has taken it."""

    def __init__(self, fake: "FakeInstance", wire: Wire, seen: Seen, *, last: bool) -> None:
        self.fake, self.wire, self.seen = fake, wire, seen
        self.closing = last
        self.drip_s: float | None = None  # not None: every write goes out byte by byte, this far apart
        self.streaming = False  # the head of a stream is out
        self.grant = Grant(0, 0, 0)
        self.number = len(fake.requests)

    @property
    def streamed(self) -> bool:
        return self.seen.json.get("stream") is True

    @property
    def is_chat(self) -> bool:
        return self.seen.path == CHAT

    async def run(self, behaviour: Behaviour) -> None:
        """Record the request, behave, and stop behaving when the client leaves."""
        call = int(self.seen.is_call)
        self.fake.requests.append(self.seen)
        self.fake.note(in_flight=call)
        work = asyncio.ensure_future(_perform(behaviour, self))
        left = asyncio.ensure_future(self.wire.client_left.wait())
        try:
            await asyncio.wait([work, left], return_when=asyncio.FIRST_COMPLETED)
            if not work.done() or isinstance(work.exception(), ConnectionError):
                self.fake.note(hangups=call)
                raise TurnEndedError
            work.result()
            self.fake.note(answered=call)
        finally:
            left.cancel()
            work.cancel()
            await asyncio.wait([work, left])
            self.fake.note(in_flight=-call)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        async with self.fake.house.take(prompt_words(self.seen.json)) as self.grant:
            cached = self.grant.cached_tokens
            self.fake.note(prompt_tokens=self.grant.prompt_tokens - cached, cached_tokens=cached)
            try:
                yield
            except asyncio.CancelledError:
                await asyncio.sleep(self.fake.release_delay_s)
                await self.fake.until_computing()  # who hangs does not see that its client has left
                raise

    def reply(self) -> Reply:
        """What an honest instance says to this request."""
        reply_id = f"chatcmpl-{self.number:032d}"
        return echo(reply_id, self.fake.model, self.seen.json, self.grant, self.fake.tokens)

    async def prefill(self) -> None:
        fresh = self.grant.prompt_tokens - self.grant.cached_tokens
        await asyncio.sleep(self.fake.prefill_s + fresh * self.fake.prefill_s_per_token)
        await self.computing()

    async def token(self) -> None:
        """Take the time of one token."""
        await asyncio.sleep(self.fake.token_delay_s)
        await self.computing()

    async def computing(self) -> None:
        """Return at once, or, where the instance hangs, when it goes on."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(COMMENT_EVERY_S):
                    await self.fake.until_computing()
                return
            if self.streaming:
                await self.chunk(b":\n\n")

    async def write(self, data: bytes) -> None:
        if self.drip_s is None:
            await self.wire.write(data)
            return
        for at in range(len(data)):
            await self.wire.write(data[at : at + 1])
            await asyncio.sleep(self.drip_s)

    async def begin_stream(self) -> None:
        """Send the head of a stream. After it the connection is closed, whatever the head says: tried."""
        self.closing = self.streaming = True
        await self.write(stream_head())

    async def chunk(self, payload: bytes) -> None:
        await self.write(chunk(payload))

    async def end_stream(self) -> None:
        await self.write(LAST_CHUNK)

    async def json(self, status: int, value: object, *, extra: tuple[str, ...] = ()) -> None:
        await self.send(status, JSON_TYPE, compact(value), extra=extra)

    async def error(self, status: int, message: str, kind: str, **more: int) -> None:
        await self.json(status, error_body(status, message, kind, **more))

    async def send(self, status: int, content_type: str, body: bytes, *, extra: tuple[str, ...] = ()) -> None:
        """A whole answer; a status from 400 on closes the connection, as llama-server does."""
        self.closing = self.closing or status >= 400
        await self.write(head(status, content_type, len(body), close=self.closing, extra=extra) + body)

    async def stall(self) -> None:
        """Say nothing until the test calls `fake.release()`, or the client leaves."""
        await self.fake.until_released()


async def _perform(behaviour: Behaviour, turn: Turn) -> None:
    await turn.fake.until_thawed()
    await behaviour(turn)
