"""The instances of a chaos run, and the troubles that each kind can get into and out of again."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import Self

import httpx

from router.demo.llama import LlamaProcess, LlamaSpec, answers_ok
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour, Seen
from tests.rig.fake_slots import nonce_of
from tests.rig.impatient import STUCK_S
from tests.rig.llama import READY_S, tiny_spec

Trouble = Callable[[float], Awaitable[None]]

NOTICED_S = 1.5
"""An instance that comes back as another model stays away for so long, so that the router has seen it gone."""
SIDE_MODEL = "side"
"""The model of the other pool."""
STRANGER = "stranger"
"""A model that no pool serves."""
HANG_S = STUCK_S + 1.5
"""A GPU hangs for so long and more, so that it is found out."""
LET_GO_S = 25.0
"""Within this time the calls at an address that the registry no longer has must be over."""
LONG_ANSWER_TOKENS = 1000
"""From so many tokens on a scripted instance gives 2 MB, which no buffer between it and a slow client can hold."""
LONG_WORDS, PAD = 120, "." * 16_000


class Subject(ABC):
    """One instance. `troubles`: what may happen to it, by name; each lasts about as long as it is told to."""

    slots = 4

    def __init__(self, name: str, model: str) -> None:
        self.name = name
        self.id = name  # as the registry has it just now
        self.model = model
        self.listed = True
        self.busy_with: str | None = None  # the trouble that it is in
        self.troubles: dict[str, Trouble] = {}
        self.often: tuple[str, ...] = ()  # those that come twice as often
        self.first: tuple[str, ...] = ()  # those that even a short run is to have
        # How much longer than they are told some take.
        self.extra_s = {"another model": 2 * NOTICED_S, "another pool": 2 * NOTICED_S, "hang": HANG_S, "move": 3.0}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.busy_with or 'well'}>"

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abstractmethod
    def moving(self) -> AbstractAsyncContextManager[None]:
        """Inside it is at another address, and the process at the old one still runs.

        That one ends with the context, once its calls are over. Raises TimeoutError where they do not end.
        """

    def entry(self) -> Mapping[str, object]:
        """Its line in the registry."""
        return {"id": self.id, "url": self.url, "slots": self.slots}


class Real(Subject):
    """A llama-server with the tiny model."""

    def __init__(self, name: str, model: str) -> None:
        super().__init__(name, model)
        self._spec = tiny_spec(slots=self.slots, n_ctx_slot=4096)
        self.process = LlamaProcess(self._spec)
        self.suspended = False
        self._old = ExitStack()  # processes at addresses that it once had
        self.troubles = {
            "kill": self._kill,
            "terminate": self._terminate,
            "suspend": self._suspend,
            "another model": lambda for_s: self._swap(for_s, STRANGER),
            "another pool": lambda for_s: self._swap(for_s, SIDE_MODEL),
        }
        self.often = ("suspend",)  # it hides best: connections are still accepted
        self.first = ("kill", "suspend", "move")

    @property
    def url(self) -> str:
        return self.process.url

    @property
    def port(self) -> int:
        return self.process.spec.port

    @property
    def answering(self) -> bool:
        """It ought to answer a question now."""
        return self.process.running and not self.suspended

    def __enter__(self) -> Self:
        self._start(self.model)
        self.process.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()
        self._old.close()

    @asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        old, new = self.process, LlamaProcess(self._spec)
        self._old.enter_context(new)
        self._old.push(old)
        await asyncio.to_thread(new.wait_ready, READY_S)
        self.process = new
        yield
        async with asyncio.timeout(LET_GO_S), httpx.AsyncClient(base_url=old.url, trust_env=False) as client:
            while any(it["is_processing"] for it in (await client.get("/slots")).json()):  # noqa: ASYNC110  # of another process
                await asyncio.sleep(0.1)
        await asyncio.to_thread(old.stop)

    def _start(self, alias: str) -> None:
        """With the same port; a process object has one spec for life, so another alias takes another object."""
        spec: LlamaSpec = self.process.spec
        if spec.alias != alias:
            fields = {name: getattr(spec, name) for name in spec.__struct_fields__}
            self.process.stop()
            self.process = LlamaProcess(LlamaSpec(**{**fields, "alias": alias}))
        self.process.start()

    async def _again(self, alias: str) -> None:
        self._start(alias)
        for _ in range(600):
            if await asyncio.to_thread(answers_ok, self.port):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{self.name} did not come back{self.process.tail()}")

    async def _kill(self, for_s: float) -> None:
        self.process.kill()
        await asyncio.sleep(for_s)
        await self._again(self.model)

    async def _terminate(self, for_s: float) -> None:
        await asyncio.to_thread(self.process.stop)
        await asyncio.sleep(for_s)
        await self._again(self.model)

    async def _suspend(self, for_s: float) -> None:
        self.suspended = True
        self.process.suspend()
        await asyncio.sleep(for_s * 1.5)
        self.process.resume()
        await asyncio.sleep(0.1)
        self.suspended = False

    async def _swap(self, for_s: float, alias: str) -> None:
        self.process.kill()
        await asyncio.sleep(NOTICED_S)
        await self._again(alias)
        await asyncio.sleep(for_s)
        self.process.kill()
        await asyncio.sleep(NOTICED_S)
        await self._again(self.model)


class Scripted(Subject):
    """A scripted instance: it lies, stalls and dies in the middle of a chunk, where a real one would not."""

    def __init__(self, name: str, model: str, dice: random.Random) -> None:
        super().__init__(name, model)
        self._dice = dice
        self._bad: deque[Behaviour] = deque()  # what the next calls get instead of an answer
        self._always: Behaviour | None = None  # what all calls get
        self._old = ExitStack()  # instances at addresses that it once had
        self.fake = self._new()
        self.first = ("hang", "burst of 500s", "move")
        self.troubles = {
            "kill": self._kill,
            "freeze": self._freeze,
            "slow": self._slow,
            "loading": self._loading,
            "another model": lambda for_s: self._swap(for_s, STRANGER),
            "another pool": lambda for_s: self._swap(for_s, SIDE_MODEL),
            "cut in a chunk": self._some(lambda: behave.die_mid_chunk(self._frames(), reset=dice.random() < 0.5)),
            "cut": self._some(lambda: behave.die_mid_stream(self._frames(), reset=dice.random() < 0.5)),
            "end without stop": self._some(lambda: behave.end_without_stop(self._frames())),
            "error event": self._some(lambda: behave.error_event(2)),
            "503 to calls": self._some(behave.loading),
            "429": self._some(behave.rate_limited),
            "reset": self._some(behave.reset_before_head),
            "close": self._some(behave.close_before_head),
            "broken head": self._some(behave.broken_head),
            "broken chunk": self._some(lambda: behave.broken_chunk(self._frames())),
            "web page": self._some(behave.not_json),
            "wrong length": self._some(behave.wrong_content_length),
            "stall": self._stall,
            "hang": self._hang,
            "burst of 500s": self._burst,
        }

    @property
    def url(self) -> str:
        return self.fake.url

    def __enter__(self) -> Self:
        self.fake.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.fake.stop()
        self._old.close()

    @asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        old, new = self.fake, self._new()
        self._old.enter_context(new)
        self._old.push(old)
        self.fake = new
        yield
        try:
            await asyncio.to_thread(old.wait_idle, LET_GO_S)
        except AssertionError as error:
            raise TimeoutError from error
        await asyncio.to_thread(old.stop)

    def _new(self) -> FakeInstance:
        return FakeInstance(self._next, slots=self.slots, model=self.model, token_delay_s=0.008, prefill_s=0.02)

    def _next(self, seen: Seen) -> Behaviour:
        """In the instance's own thread."""
        if self._always is not None:
            return self._always
        if self._bad:
            return self._bad.popleft()
        asked = seen.json.get("max_tokens")
        tokens = asked if isinstance(asked, int) else 0
        count, pad = (LONG_WORDS, PAD) if tokens >= LONG_ANSWER_TOKENS else (2 + tokens % 17, "")
        words = (f" w{number}{pad}" for number in range(1, 1 + count))
        return behave.answer(text=(nonce_of(seen.json), f" model:{self.fake.model}", *words))

    def _frames(self) -> int:
        """How much of the answer comes before it breaks: mostly nothing, so that another may still give it."""
        return self._dice.choice((0, 0, 0, 2))

    def _some(self, make: Callable[[], Behaviour]) -> Trouble:
        async def trouble(for_s: float) -> None:
            self._bad.extend(make() for _ in range(self._dice.choice((1, 2, 4))))
            await asyncio.sleep(for_s)
            self._bad.clear()

        return trouble

    async def _kill(self, for_s: float) -> None:
        self.fake.stop()
        await asyncio.sleep(for_s)
        self.fake.start()

    async def _freeze(self, for_s: float) -> None:
        self.fake.freeze()
        await asyncio.sleep(for_s * 1.5)
        self.fake.thaw()

    async def _slow(self, for_s: float) -> None:
        before_s, self.fake.token_delay_s = self.fake.token_delay_s, 0.15
        await asyncio.sleep(for_s)
        self.fake.token_delay_s = before_s

    async def _loading(self, for_s: float) -> None:
        self.fake.loading = True
        await asyncio.sleep(for_s)
        self.fake.loading = False

    async def _hang(self, for_s: float) -> None:
        self.fake.hang()
        await asyncio.sleep(HANG_S + for_s)
        self.fake.go_on()

    async def _burst(self, for_s: float) -> None:
        self._always = behave.server_error()
        await asyncio.sleep(for_s)
        self._always = None

    async def _stall(self, for_s: float) -> None:
        stalls = (behave.stall_before_head, behave.stall_after_head, behave.stall_mid_stream)
        self._bad.extend(self._dice.choice(stalls)() for _ in range(2))
        await asyncio.sleep(for_s * 2)
        self._bad.clear()
        self.fake.release()
        await asyncio.sleep(0.1)
        self.fake._tell(self.fake._released.clear)

    async def _swap(self, for_s: float, model: str) -> None:
        self.fake.stop()
        await asyncio.sleep(NOTICED_S)
        self.fake.model = model
        self.fake.start()
        await asyncio.sleep(for_s)
        self.fake.stop()
        await asyncio.sleep(NOTICED_S)
        self.fake.model = self.model
        self.fake.start()
