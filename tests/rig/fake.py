"""A scripted llama-server that can do what the real one cannot be made to do: lie, stall, die in mid-chunk.

    with FakeInstance([behave.die_mid_chunk(), behave.answer()], slots=2) as fake:
        httpx.post(f"{fake.url}/v1/messages", json=...)
        assert fake.calls[0].json["max_tokens"] == 16
        assert fake.peak_in_flight == 1

It runs on an event loop of its own in a thread, so tests of any colour can use it. A script is a list of
behaviours, one for each call to /v1/messages or /v1/chat/completions (`behave.answer()` when it has run out),
or a function from the request to a behaviour. `fake.on["/health"]` replaces the behaviour of another path.
"""

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from router.demo.llama import free_port
from tests.rig import behave, fake_pages
from tests.rig.fake_connection import Wire, quietly
from tests.rig.fake_seen import Behaviour, Script, Seen
from tests.rig.fake_slots import Slots
from tests.rig.fake_turn import Turn

WAIT_S = 10.0


class FakeInstance:
    """One scripted instance. Every public attribute may be read, and set, while it runs."""

    def __init__(
        self,
        script: Script = (),
        *,
        slots: int = 2,
        n_ctx: int = 4096,
        tokens: int = 3,
        token_delay_s: float = 0.0,
        prefill_s: float = 0.0,
        prefill_s_per_token: float = 0.0,
        release_delay_s: float = 0.0,
        idle_s: float = 5.0,
        max_requests: int = 100,
        api_key: str | None = None,
        model: str = "fake-model",
        port: int = 0,
    ) -> None:
        self.slots, self.n_ctx, self.tokens = slots, n_ctx, tokens
        self.token_delay_s, self.prefill_s = token_delay_s, prefill_s
        self.prefill_s_per_token = prefill_s_per_token  # for each word that is not in the slot's cache
        self.release_delay_s = release_delay_s  # how long a slot stays busy after its client has left
        self.idle_s, self.max_requests = idle_s, max_requests
        self.api_key, self.model, self.port = api_key, model, port
        self.loading = False  # 503 to everything, as while a model is read
        self.props: dict[str, object] = {}  # laid over what /props says
        self.on: dict[str, Behaviour] = {}
        self.requests: list[Seen] = []
        self.starts = self.connections = self.in_flight = self.peak_in_flight = 0
        self.answered = self.hangups = 0
        self.tokens_predicted = self.prompt_tokens = self.cached_tokens = 0  # since the last start
        self.house = Slots(slots)
        self._open: set[Wire] = set()
        self._script: deque[Behaviour] | Callable[[Seen], Behaviour]
        self._script = script if callable(script) else deque(script)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop, self._thawed, self._released = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._computes = asyncio.Event()

    def __repr__(self) -> str:
        now = f"{self.in_flight} in flight, peak {self.peak_in_flight}"
        return f"<FakeInstance {self.url} {len(self.calls)} calls, {now}, {self.hangups} hangups>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> Self:
        """Listen on `port`; 0 takes a free one and keeps it for the next start. Caches start empty."""
        assert self._thread is None, "already running"
        self.port = self.port or free_port()
        listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.starts += 1
        self.tokens_predicted = self.prompt_tokens = self.cached_tokens = 0
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(listener, ready)), name="fake")
        self._thread.start()
        assert ready.wait(WAIT_S)
        return self

    def stop(self) -> None:
        """Die: reset every connection and refuse new ones. Does nothing when not running."""
        if self._thread is not None:
            self._tell(self._stop.set)
            self._thread.join(WAIT_S)
            assert not self._thread.is_alive(), "the scripted instance did not stop"
            self._thread = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def calls(self) -> list[Seen]:
        """The requests for generation, in order of arrival."""
        return [seen for seen in self.requests if seen.is_call]

    def wait_for(self, met: Callable[["FakeInstance"], bool], timeout_s: float = WAIT_S) -> None:
        """Return as soon as `met(fake)` holds; AssertionError with the state when it does not in time."""
        with self._changed:
            assert self._changed.wait_for(lambda: met(self), timeout_s), f"not within {timeout_s} s: {self!r}"

    def wait_for_calls(self, count: int, timeout_s: float = WAIT_S) -> None:
        self.wait_for(lambda fake: len(fake.calls) >= count, timeout_s)

    def wait_for_hangups(self, count: int, timeout_s: float = WAIT_S) -> None:
        """Wait until `count` clients have left before their answer was complete."""
        self.wait_for(lambda fake: fake.hangups >= count, timeout_s)

    def wait_idle(self, timeout_s: float = WAIT_S) -> None:
        self.wait_for(lambda fake: fake.in_flight == 0, timeout_s)

    def then(self, *behaviours: Behaviour) -> None:
        """Append to the script."""
        assert isinstance(self._script, deque), "this script is a function"
        self._script.extend(behaviours)

    def release(self) -> None:
        """Let every stalled turn go on, now and from now on."""
        self._tell(self._released.set)

    def freeze(self) -> None:
        """Accept connections and read requests but answer none, /health included, until `thaw`."""
        self._tell(self._thawed.clear)

    def thaw(self) -> None:
        self._tell(self._thawed.set)

    def hang(self) -> None:
        """Compute nothing, as with a GPU that hangs, until `go_on`: all pages are served, and slots stay busy."""
        self._tell(self._computes.clear)

    def go_on(self) -> None:
        self._tell(self._computes.set)

    def note(self, **added: int) -> None:
        """Add to the counters of these names and wake whoever waits for them."""
        with self._changed:
            for name, value in added.items():
                setattr(self, name, getattr(self, name) + value)
            self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
            self._changed.notify_all()

    async def until_thawed(self) -> None:
        await self._thawed.wait()

    async def until_released(self) -> None:
        await self._released.wait()

    async def until_computing(self) -> None:
        await self._computes.wait()

    def _tell(self, action: Callable[[], None]) -> None:
        assert self._loop is not None, "not running"
        self._loop.call_soon_threadsafe(action)

    async def _main(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._thawed, self._released = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._computes = asyncio.Event()
        self._thawed.set()
        self._computes.set()
        self.house = Slots(self.slots, self.note)
        server = await self._loop.create_server(lambda: Wire(self._serve, self._open), sock=listener)
        ready.set()
        await self._stop.wait()
        # asyncio drops a transport that is made after server.close(): accept no more first, and let those that were
        # accepted just now get their protocol.
        self._loop.remove_reader(listener.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()
        while self._open:
            for wire in list(self._open):
                wire.abort()
            await asyncio.sleep(0)

    async def _serve(self, wire: Wire) -> None:
        self.note(connections=1)
        wire.number = self.connections
        try:
            with quietly():
                for nth in range(1, self.max_requests + 1):
                    seen = await wire.next_request(self.idle_s)
                    turn = Turn(self, wire, seen, last=nth == self.max_requests)
                    await turn.run(self._behave)
                    if turn.closing:
                        break
        finally:
            wire.transport.close()

    async def _behave(self, turn: Turn) -> None:
        if turn.seen.path in self.on:
            await self.on[turn.seen.path](turn)
        elif self.loading:
            await behave.loading()(turn)
        elif not fake_pages.may_enter(self, turn.seen):
            await turn.error(401, "Invalid API Key", "authentication_error")
        elif turn.seen.is_call:
            behaviour = self._next_behaviour(turn.seen)
            async with turn.slot():
                await behaviour(turn)
        else:
            await fake_pages.serve(turn)

    def _next_behaviour(self, seen: Seen) -> Behaviour:
        if callable(self._script):
            return self._script(seen)
        return self._script.popleft() if self._script else behave.answer()
