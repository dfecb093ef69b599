"""A call for an answer: refused before it waits, tried elsewhere, and what its end leaves at the instance."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from router.admit.desk import Desk
from router.admit.retries import RetryBudget
from router.balance.book import Book
from router.balance.policy import ptx
from router.config.schema import Capabilities, Deadlines, InstanceEntry, ModelEntry, RouterFile
from router.edge.rescue import tell
from router.errors import (
    NoInstance,
    PromptTooLong,
    RequestInvalid,
    RouterError,
    ShuttingDown,
    UpstreamAnswered,
    UpstreamBroke,
    UpstreamFailed,
    UpstreamLoading,
    UpstreamTimedOut,
    UpstreamUnreachable,
)
from router.fleet.fleet import Fleet, Lease
from router.fleet.health import Event
from router.fleet.instance import Facts
from router.fleet.load import HoldTimes, TokenSizes
from router.fleet.registry import build
from router.relay import serving
from router.relay.admission import Admission
from router.relay.corridor import Calls, Corridor, Running, Settings, Weights
from router.relay.counted import Counted
from router.relay.exchange import MAX_ATTEMPTS, Caller, Exchange
from router.relay.messages import MessagesCall
from router.relay.pool import ConnectionPool, Pools
from router.relay.send import Header
from router.relay.serving import NEARLY
from router.relay.skills import Skills
from router.relay.upstream import UpstreamConnection
from router.translate.plan import CHAT_PATH, COUNT_PATH, MESSAGES_PATH
from router.wire.record import CallRecord
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour
from tests.rig.fake_turn import Turn
from tests.rig.legality import check
from tests.rig.start import StartFake
from tests.test_app import NAMES, ask, text_of

pytestmark = pytest.mark.anyio
MODEL = "test-model"
COUNT = COUNT_PATH.decode()
DEADLINES = Deadlines(connect_s=1.0, head_s=0.2, idle_s=0.2, call_s=30.0, hold_s=30.0)


class Client:
    """The client's side of a call, with its whole body at hand."""

    request_id = "req_1"
    headers: Sequence[Header] = ()

    def __init__(self, body: object) -> None:
        self._body = json.dumps(body).encode()
        self._on_gone: Callable[[], None] | None = None
        self.gone = self.started = self.ended = False
        self.status = 0
        self.heads: dict[str, str] = {}
        self.said = b""

    def leave(self) -> None:
        self.gone = True
        assert self._on_gone is not None
        self._on_gone()

    async def read_body(self) -> bytes:
        return self._body

    def weigh(self, grown: Callable[[int], None] | None) -> None:
        if grown is not None:
            grown(len(self._body))

    def interrupt(self, error: RouterError) -> None:
        """The body is whole."""

    def watch(
        self, *, on_gone: Callable[[], None] | None = None, on_writable: Callable[[bool], None] | None = None
    ) -> None:
        self._on_gone = on_gone

    def respond(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        self.begin(status, headers)
        self.write(body)
        self.end()

    def begin(self, status: int, headers: Sequence[Header]) -> None:
        self.started, self.status = True, status
        self.heads = {name.decode(): value.decode() for name, value in headers}

    def write(self, data: bytes) -> None:
        self.said += data

    def write_frame(self, frame: bytes) -> None:
        self.said += frame[frame.index(b"\r\n") + 2 : -2]

    def end(self) -> None:
        self.ended = True

    def cut(self) -> None:
        self.ended = True


class Relay:
    """A corridor to scripted instances named one, two, ..., and what came of the calls through it."""

    def __init__(
        self,
        fakes: Sequence[FakeInstance],
        *,
        ctx_tokens: Sequence[int | None],
        entries: Sequence[Mapping[str, Any]],
        facts: Sequence[Mapping[str, Any]],
        model: Mapping[str, Any],
        queue_s: float = 30.0,
        head_s: float = 0.2,
        hold_s: float = 30.0,
    ) -> None:
        """`entries` and `facts` go to the instances in their order, `model` to the entry of their pool.

        Hosted ones, which have no /props, get no facts.
        """
        self.fakes = fakes
        more = [*entries, *[{}] * len(fakes)]
        kinds = [
            InstanceEntry(url=fake.url, id=name, **entry) for name, fake, entry in zip(NAMES, fakes, more, strict=False)
        ]
        self.fleet = Fleet(build(RouterFile(models={MODEL: ModelEntry(instances=tuple(kinds), **model)})))
        said = [*facts, *[{}] * len(fakes)]
        for kind, fake, tokens, fact in zip(kinds, fakes, ctx_tokens, said, strict=False):
            if kind.dialect in {"auto", "llama"}:
                self.fleet.learn(kind.instance_id, Facts(slots=fake.slots, ctx_tokens=tokens, **fact))
            self.fleet.observe(kind.instance_id, Event.ANSWERED, 0.0)
        self.times = HoldTimes()
        self.records: list[CallRecord] = []
        self.seen: list[tuple[str, Event]] = []
        self.suspects: list[str] = []
        self.closing: list[str] = []
        self.book = Book()
        self.corridor = Corridor(
            fleet=self.fleet,
            admission=Admission(self.fleet, Desk(choose=ptx(self.book)), self.book, self.times),
            book=self.book,
            retries=RetryBudget(),
            token_sizes=TokenSizes(),
            pools=Pools(connect_s=1.0),
            skills=Skills(),
            counted=Counted(),
            running=Running(),
            calls=Calls(),
            weights=Weights(1 << 20),
            settings=Settings(msgspec.structs.replace(DEADLINES, head_s=head_s, hold_s=hold_s), queue_s),
            record=self.records.append,
            observe=lambda one, event: self.seen.append((one.id, event)),
            suspect=lambda one: self.suspects.append(one.id),
            closing=lambda one: self.closing.append(one.id),
            tell=tell,
        )

    def call(self, client: Client, kind: type[Exchange] = MessagesCall) -> asyncio.Task[RouterError | None]:
        """Run a call; what it raised for whoever answers errors."""

        async def run() -> RouterError | None:
            try:
                await kind(self.corridor, client, Caller())({}, None, None)
            except RouterError as error:
                return error
            return None

        return asyncio.get_running_loop().create_task(run())

    def fill(self) -> list[Lease]:
        """Take every slot."""
        leases = []
        for id_, row in self.fleet.view.rows.items():
            leases += [lease for _ in range(row.free) if (lease := self.fleet.lease(id_)) is not None]
        return leases

    @property
    def waiting(self) -> int:
        return self.corridor.admission.waiting(MODEL)

    def slots(self, id_: str = "one") -> tuple[int, int]:
        """How many are busy and how many are closing."""
        row = self.fleet.view.rows[id_]
        return row.busy, row.closing

    def counted(self) -> list[int]:
        return [sum(seen.path == COUNT for seen in fake.requests) for fake in self.fakes]

    def attempts(self) -> int:
        return sum(len(fake.calls) for fake in self.fakes)


@asynccontextmanager
async def relaying(
    *fakes: FakeInstance,
    ctx_tokens: Sequence[int | None] | None = None,
    entries: Sequence[Mapping[str, Any]] = (),
    facts: Sequence[Mapping[str, Any]] = (),
    model: Mapping[str, Any] | None = None,
    **settings: float,
) -> AsyncIterator[Relay]:
    sizes = ctx_tokens or [fake.n_ctx for fake in fakes]
    relay = Relay(fakes, ctx_tokens=sizes, entries=entries, facts=facts, model=model or {}, **settings)
    yield relay
    relay.corridor.pools.close_idle()
    await until(lambda: not any(fake._open for fake in fakes))
    assert (0, 0) == (len(relay.corridor.calls), relay.waiting)
    assert {} == relay.corridor.weights._bytes
    assert [False] * len(fakes) == [relay.corridor.running.at(row.instance) for row in relay.fleet.view.rows.values()]


async def until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(5.0):
        while not met():  # noqa: ASYNC110  # what is waited for happens in another thread
            await asyncio.sleep(0.001)


# ---------------------------------------------------------------- refused before it waits

# As the scripted instance counts: one for the role, one for each word; a word here has 8 bytes with its space.
LIMIT_TOKENS = 100


def words(count: int) -> dict[str, Any]:
    return ask(" ".join(["seven77"] * (count - 2)))


async def left_waiting(relay: Relay, client: Client) -> None:
    """See that the call waits, and end it."""
    call = relay.call(client)
    await until(lambda: relay.waiting == 1)
    client.leave()
    assert await call is None


@pytest.mark.parametrize("tokens", [LIMIT_TOKENS, LIMIT_TOKENS + 1, 5 * LIMIT_TOKENS])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_cannot_fit_is_refused_before_it_waits(
    start_fake: StartFake, tokens: int, stream: bool
) -> None:
    async with relaying(start_fake(), ctx_tokens=[LIMIT_TOKENS]) as relay:
        leases = relay.fill()
        error = await relay.call(Client({**words(tokens), "stream": stream}))
        assert isinstance(error, PromptTooLong)
        assert f"prompt is too long: {tokens} tokens > {LIMIT_TOKENS} maximum" == error.message
        assert ([1], 0) == (relay.counted(), relay.attempts())
        assert ("refused", 400, 0) == (relay.records[0].outcome, relay.records[0].status, relay.records[0].attempts)
        assert (len(leases), 0) == relay.slots()


async def test_one_that_fits_by_one_token_waits_after_it_was_counted(start_fake: StartFake) -> None:
    async with relaying(start_fake(), ctx_tokens=[LIMIT_TOKENS]) as relay:
        relay.fill()
        await left_waiting(relay, Client(words(LIMIT_TOKENS - 1)))
        assert [1] == relay.counted()


async def test_with_a_free_slot_nothing_is_counted_and_the_instance_says_so_itself(start_fake: StartFake) -> None:
    async with relaying(start_fake([behave.too_long(500, 100)]), ctx_tokens=[LIMIT_TOKENS]) as relay:
        error = await relay.call(Client(words(500)))
        assert isinstance(error, PromptTooLong)
        assert ([0], 1) == (relay.counted(), relay.attempts())


async def test_what_is_far_too_small_to_be_too_long_is_not_counted(start_fake: StartFake) -> None:
    async with relaying(start_fake(), ctx_tokens=[LIMIT_TOKENS]) as relay:
        relay.fill()
        await left_waiting(relay, Client(ask("short")))
        assert [0] == relay.counted()


@pytest.mark.parametrize(("spare_bytes", "counted"), [(0, 1), (-1, 0)])
async def test_it_is_counted_from_a_share_of_the_context_on(
    start_fake: StartFake, spare_bytes: int, counted: int
) -> None:
    nearly_bytes = round(4.0 * NEARLY * LIMIT_TOKENS) + spare_bytes
    body = ask("")
    body["messages"][0]["content"] = "x" * (nearly_bytes - len(json.dumps(ask(""))) + len("say "))
    assert nearly_bytes == len(json.dumps(body))
    async with relaying(start_fake(), ctx_tokens=[LIMIT_TOKENS]) as relay:
        relay.fill()
        await left_waiting(relay, Client(body))
        assert [counted] == relay.counted()


async def test_the_largest_context_of_the_pool_decides_and_is_asked(start_fake: StartFake) -> None:
    fakes = [start_fake() for _ in range(3)]
    async with relaying(*fakes, ctx_tokens=[None, 2 * LIMIT_TOKENS, LIMIT_TOKENS]) as relay:
        relay.fill()
        await left_waiting(relay, Client(words(2 * LIMIT_TOKENS - 1)))
        error = await relay.call(Client(words(2 * LIMIT_TOKENS)))
        assert isinstance(error, RequestInvalid)
        assert [0, 2, 0] == relay.counted()


async def test_where_no_context_is_known_nothing_is_refused(start_fake: StartFake) -> None:
    async with relaying(start_fake(), ctx_tokens=[None]) as relay:
        relay.fill()
        await left_waiting(relay, Client(words(1000)))
        assert [0] == relay.counted()


@pytest.mark.parametrize(
    "fault",
    [
        behave.error(404, "no such route", "not_found_error"),
        behave.not_json(),
        behave.not_json(b"{}"),
        behave.reset_before_head(),
        behave.loading(),
    ],
    ids=["404", "web page", "no count", "reset", "loading"],
)
async def test_without_a_count_a_guess_refuses_nobody(start_fake: StartFake, fault: Behaviour) -> None:
    fake = start_fake()
    fake.on[COUNT] = fault
    async with relaying(fake, ctx_tokens=[LIMIT_TOKENS]) as relay:
        relay.fill()
        await left_waiting(relay, Client(words(1000)))
        assert [1] == relay.counted()


@pytest.mark.parametrize("why", ["gone", "shutdown"])
async def test_a_call_that_ends_while_it_is_counted_does_not_wait_any_more(start_fake: StartFake, why: str) -> None:
    fake = start_fake()
    fake.on[COUNT] = behave.stall_before_head()
    async with relaying(fake, ctx_tokens=[LIMIT_TOKENS]) as relay:
        relay.fill()
        client = Client(words(1000))
        call = relay.call(client)
        await until(lambda: relay.counted() == [1])
        if why == "gone":
            client.leave()
            assert await call is None
        else:
            relay.corridor.calls.stop_all()
            assert isinstance(await call, ShuttingDown)
        assert 0 == relay.waiting


async def test_a_count_that_does_not_come_holds_nobody_up(
    start_fake: StartFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "COUNT_DEADLINE_S", 0.1)
    fake = start_fake()
    fake.on[COUNT] = behave.stall_before_head()
    async with relaying(fake, ctx_tokens=[LIMIT_TOKENS]) as relay:
        relay.fill()
        await left_waiting(relay, Client(words(1000)))
        assert [1] == relay.counted()
        await until(lambda: not fake._open)  # nobody waits for it any more


# ---------------------------------------------------------------- one instance after another

RETRIED = behave.error(502, "Bad gateway", "server_error")


def every(behaviour: Behaviour) -> list[Behaviour]:
    return [behaviour] * (MAX_ATTEMPTS + 1)


async def test_each_attempt_goes_to_another_instance_and_three_are_made(start_fake: StartFake) -> None:
    async with relaying(*[start_fake(every(RETRIED)) for _ in range(4)]) as relay:
        error = await relay.call(Client(ask()))
        (record,) = relay.records
        assert isinstance(error, UpstreamAnswered)
        assert [0, 1, 1, 1] == sorted(len(fake.calls) for fake in relay.fakes)
        assert (MAX_ATTEMPTS, "failed", ("upstream_answered",) * 2) == (record.attempts, record.outcome, record.causes)
        assert MAX_ATTEMPTS == len({*record.failed_on, error.instance_id})
        assert [*record.failed_on, error.instance_id] == relay.suspects


async def test_when_nobody_is_left_the_last_failure_is_told_and_not_that_nobody_is(start_fake: StartFake) -> None:
    async with relaying(*[start_fake(every(RETRIED)) for _ in range(2)]) as relay:
        error = await relay.call(Client(ask()))
        assert isinstance(error, UpstreamAnswered)
        assert (2, 2) == (relay.attempts(), relay.records[0].attempts)


async def test_where_nobody_was_there_at_all_that_is_told(start_fake: StartFake) -> None:
    async with relaying(start_fake()) as relay:
        relay.fleet.observe("one", Event.DRAIN, 1.0)
        assert isinstance(await relay.call(Client(ask())), NoInstance)
        assert 0 == relay.attempts()


async def test_without_budget_there_is_one_attempt(start_fake: StartFake) -> None:
    async with relaying(*[start_fake(every(RETRIED)) for _ in range(2)]) as relay:
        while relay.corridor.retries.take(MODEL):
            pass
        assert isinstance(await relay.call(Client(ask())), UpstreamAnswered)
        assert (1, ()) == (relay.attempts(), relay.records[0].failed_on)


async def test_each_call_pays_into_the_budget_of_its_pool(start_fake: StartFake) -> None:
    async with relaying(start_fake()) as relay:
        while relay.corridor.retries.take(MODEL):
            pass
        for _ in range(5):
            assert await relay.call(Client(ask())) is None
        assert [True, False] == [relay.corridor.retries.take(MODEL) for _ in range(2)]


async def test_every_call_of_a_big_instance_that_dies_is_answered_by_another(start_fake: StartFake) -> None:
    slots = 64
    dying, well = start_fake([behave.stall_before_head()] * slots, slots=slots), start_fake(slots=slots)
    async with relaying(dying, well) as relay:
        taken = [relay.fleet.lease("two") for _ in range(slots)]
        calls = [relay.call(Client(ask(f"nonce:{number}", stream=number % 2 == 0))) for number in range(slots)]
        await until(lambda: len(dying.calls) == slots)
        for lease in taken:
            assert lease is not None
            lease.give_back()
        dying.stop()
        assert [None] * slots == await asyncio.gather(*calls)
        assert (slots, slots) == (len(dying.calls), len(well.calls))
        assert [2] * slots == [record.attempts for record in relay.records]


async def test_a_fleet_that_fails_everything_is_not_stampeded(start_fake: StartFake) -> None:
    calls, slots = 150, 4
    async with relaying(*[start_fake([RETRIED] * 2 * calls, slots=slots) for _ in range(2)]) as relay:
        for _ in range(calls):
            assert isinstance(await relay.call(Client(ask())), UpstreamAnswered)
        assert 1.2 * calls + 20 - 2 <= relay.attempts() <= 1.2 * calls + 20


async def test_a_call_that_moves_after_a_long_attempt_may_still_wait(start_fake: StartFake) -> None:
    """Its patience is 1 s; its first attempt takes longer, and then it waits for the other instance."""
    async with relaying(
        start_fake([behave.stall_before_head()] * 2, slots=1), start_fake(slots=1), queue_s=1.0, head_s=1.5
    ) as relay:
        other = relay.fleet.lease("two")
        assert other is not None
        call = relay.call(Client(ask("nonce:moved", stream=True)))
        await until(lambda: relay.suspects == ["one"])
        await until(lambda: relay.waiting == 1)
        other.give_back()
        relay.corridor.admission.ask()
        assert await call is None
        assert (2, "ok") == (relay.records[0].attempts, relay.records[0].outcome)


async def test_what_the_next_instance_makes_good_is_noted_and_answered(start_fake: StartFake) -> None:
    left = [behave.answer(), RETRIED]
    async with relaying(*[start_fake(lambda _: left.pop()) for _ in range(2)]) as relay:
        client = Client(ask("nonce:good"))
        assert await relay.call(client) is None
        (record,) = relay.records
        assert (200, "ok", 2, 1) == (client.status, record.outcome, record.attempts, len(record.failed_on))
        assert record.instance_id not in record.failed_on
        assert b"nonce:good" in client.said


async def test_once_something_was_shown_nobody_else_is_tried(start_fake: StartFake) -> None:
    async with relaying(*[start_fake(every(behave.die_mid_stream())) for _ in range(2)]) as relay:
        client = Client(ask(stream=True))
        assert await relay.call(client) is None
        assert (1, "failed", 200) == (relay.attempts(), relay.records[0].outcome, client.status)
        assert check(client.said, "exact").error is not None
        assert client.ended


# ---------------------------------------------------------------- a fault that may be the request's

FAULT = behave.server_error()


def failures(relay: Relay) -> list[str]:
    """The instances that were blamed for a call."""
    return [name for name, event in relay.seen if event is Event.CALL_FAILED]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_is_asked_of_one_twin_and_counted_when_that_one_can(start_fake: StartFake, stream: bool) -> None:
    left = [behave.answer(), FAULT]
    async with relaying(*[start_fake(lambda _: left.pop()) for _ in range(3)]) as relay:
        assert await relay.call(Client(ask("nonce:twin", stream=stream))) is None
        (record,) = relay.records
        assert ("ok", 2, ("upstream_answered",)) == (record.outcome, record.attempts, record.causes)
        assert list(record.failed_on) == failures(relay)
        assert [(record.instance_id, Event.CALL_BEGAN), (record.failed_on[0], Event.CALL_FAILED)] == relay.seen


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_that_two_have_is_told_and_nobody_is_blamed(start_fake: StartFake, stream: bool) -> None:
    async with relaying(*[start_fake(every(FAULT)) for _ in range(3)]) as relay:
        error = await relay.call(Client(ask(stream=stream)))
        assert isinstance(error, UpstreamAnswered)
        assert (500, "failed", 2) == (error.status, relay.records[0].outcome, relay.attempts())
        assert ([], 2) == (failures(relay), len(relay.suspects))


async def test_a_fault_in_a_stream_before_its_first_word_is_asked_of_a_twin_too(start_fake: StartFake) -> None:
    left = [behave.answer(), behave.error_event(0, message="Compute error.")]
    async with relaying(*[start_fake(lambda _: left.pop()) for _ in range(2)]) as relay:
        assert await relay.call(Client(ask("nonce:late", stream=True))) is None
        (record,) = relay.records
        assert ("ok", 2) == (record.outcome, record.attempts)
        assert list(record.failed_on) == failures(relay)


async def test_a_fault_after_the_first_word_is_counted_against_the_instance(start_fake: StartFake) -> None:
    async with relaying(start_fake(every(behave.error_event(2, message="Compute error.")))) as relay:
        client = Client(ask(stream=True))
        await relay.call(client)
        assert check(client.said, "exact").error is not None
        assert failures(relay) == [relay.records[0].instance_id]


async def test_a_fault_where_nobody_else_is_there_is_told_at_once(start_fake: StartFake) -> None:
    async with relaying(start_fake(every(FAULT))) as relay:
        assert isinstance(await relay.call(Client(ask())), UpstreamAnswered)
        assert (1, []) == (relay.attempts(), relay.seen)


async def test_a_fault_and_then_a_refusal_of_the_request_blames_nobody(start_fake: StartFake) -> None:
    left = [behave.too_long(), FAULT]
    async with relaying(*[start_fake(lambda _: left.pop()) for _ in range(2)]) as relay:
        assert isinstance(await relay.call(Client(ask())), RequestInvalid)
        assert (2, []) == (relay.attempts(), failures(relay))


async def test_a_fault_is_asked_of_one_twin_also_after_another_failure(start_fake: StartFake) -> None:
    left = [behave.answer(), FAULT, RETRIED]
    async with relaying(*[start_fake(lambda _: left.pop()) for _ in range(4)]) as relay:
        assert await relay.call(Client(ask())) is None
        (record,) = relay.records
        assert (3, list(record.failed_on)) == (record.attempts, failures(relay))


# ---------------------------------------------------------------- instances of several kinds

NATIVE: dict[str, Any] = {}
OLD: dict[str, Any] = {"capabilities": Capabilities(messages=False)}  # a llama-server without /v1/messages
OTHER: dict[str, Any] = {"dialect": "openai", "slots": 2}
HOSTED: dict[str, Any] = {"dialect": "anthropic", "slots": 2}
TOOL = {"name": "look", "description": "Look.", "input_schema": {"type": "object", "properties": {}}}
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}


def picture(nonce: str) -> dict[str, Any]:
    return ask(messages=[{"role": "user", "content": [PICTURE, {"type": "text", "text": f"say {nonce}"}]}])


async def test_a_call_goes_only_to_those_that_can_serve_it(start_fake: StartFake) -> None:
    facts = [{"vision": False}, {"vision": True}, {"vision": False}]
    async with relaying(*[start_fake() for _ in range(3)], facts=facts) as relay:
        for number in range(12):
            assert await relay.call(Client(picture(f"nonce:p{number}"))) is None
        assert [0, 12, 0] == [len(fake.calls) for fake in relay.fakes]
        for number in range(12):
            assert await relay.call(Client(ask(f"nonce:t{number}"))) is None
        assert all(fake.calls for fake in relay.fakes)


async def test_a_call_waits_for_the_one_that_can_while_others_are_free(start_fake: StartFake) -> None:
    facts = [{"tools": True}, {"tools": False}]
    async with relaying(start_fake(slots=1), start_fake(), facts=facts) as relay:
        lease = relay.fleet.lease("one")
        assert lease is not None
        call = relay.call(Client(ask("nonce:tool", tools=[TOOL])))
        await until(lambda: relay.waiting == 1)
        assert await relay.call(Client(ask("nonce:free"))) is None
        assert [0, 1] == [len(fake.calls) for fake in relay.fakes]
        lease.give_back()
        relay.corridor.admission.ask()
        assert await call is None
        assert [1, 1] == [len(fake.calls) for fake in relay.fakes]


async def test_what_fails_is_not_tried_on_one_that_cannot(start_fake: StartFake) -> None:
    facts = [{"vision": True}, {"vision": False}]
    async with relaying(start_fake(every(RETRIED)), start_fake(), facts=facts) as relay:
        assert isinstance(await relay.call(Client(picture("nonce:x"))), UpstreamAnswered)
        assert [1, 0] == [len(fake.calls) for fake in relay.fakes]


@pytest.mark.parametrize("stream", [False, True])
async def test_where_none_can_it_is_refused_before_any_wait_in_the_words_for_the_first(
    start_fake: StartFake, stream: bool
) -> None:
    entries = [{"capabilities": Capabilities(images=True, tools=False)}, {"capabilities": Capabilities(images=False)}]
    async with relaying(
        start_fake(), start_fake(), entries=entries, facts=[{"vision": True}, {"tools": True}]
    ) as relay:
        leases = relay.fill()
        error = await relay.call(Client({**picture("nonce:x"), "tools": [TOOL], "stream": stream}))
        assert isinstance(error, RequestInvalid)
        assert error.message.startswith(f"tools: the chat template of {MODEL} does not show tools")
        (record,) = relay.records
        assert ("refused", 400, 0, "") == (record.outcome, record.status, record.attempts, record.way)
        assert (0, 0, len(leases)) == (relay.waiting, relay.attempts(), 4)


@pytest.mark.parametrize(("rule", "refused"), [("auto", True), ("pass", False)])
async def test_tools_that_no_template_shows_are_sent_only_where_the_registry_says_so(
    start_fake: StartFake, rule: str, refused: bool
) -> None:
    async with relaying(start_fake(), facts=[{"tools": False}], model={"tools": rule}) as relay:
        error = await relay.call(Client(ask(tools=[TOOL])))
        assert refused is isinstance(error, RequestInvalid)
        sent = [seen.json["tools"] for seen in relay.fakes[0].calls]
        assert ([] if refused else [[TOOL]]) == sent


async def test_what_is_learnt_while_a_call_waits_is_minded_when_its_turn_comes(start_fake: StartFake) -> None:
    async with relaying(start_fake(slots=1), facts=[{"tools": True}]) as relay:
        (lease,) = relay.fill()
        call = relay.call(Client(ask(tools=[TOOL])))
        await until(lambda: relay.waiting == 1)
        relay.fleet.learn("one", Facts(slots=1, tools=False))
        lease.give_back()
        relay.corridor.admission.ask()
        assert isinstance(await call, RequestInvalid)
        assert (0, (0, 0)) == (relay.attempts(), relay.slots())


KINDS = {
    "native": (NATIVE, "native", MESSAGES_PATH),
    "old": (OLD, "translated", CHAT_PATH),
    "other": (OTHER, "translated", CHAT_PATH),
    "hosted": (HOSTED, "exact", MESSAGES_PATH),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_way_is_told_in_the_record_and_to_the_client(start_fake: StartFake, kind: str, stream: bool) -> None:
    entry, way, path = KINDS[kind]
    async with relaying(start_fake(), entries=[entry]) as relay:
        client = Client(ask("nonce:way", stream=stream))
        assert await relay.call(client) is None
        (record,) = relay.records
        assert (way, way, path.decode()) == (record.way, client.heads["x-router-way"], relay.fakes[0].calls[0].path)
        text = check(client.said).text if stream else json.loads(client.said)["content"][0]["text"]
        assert text_of("nonce:way") == text
        used = (record.input_tokens, record.cached_tokens, record.output_tokens, record.stop_reason)
        assert (3, 0, 3, "end_turn") == used


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_may_fail_in_one_way_and_be_answered_in_another(
    start_fake: StartFake, first: str, second: str, stream: bool
) -> None:
    """From native to translated and back: what the client gets does not tell."""

    async def fails(turn: Turn) -> None:
        await turn.stall()
        await RETRIED(turn)

    fakes = [start_fake([fails]), start_fake()]
    async with relaying(*fakes, entries=[KINDS[first][0], KINDS[second][0]], head_s=10.0) as relay:
        leases = [relay.fleet.lease("two") for _ in range(2)]
        client = Client(ask("nonce:moved", stream=stream))
        call = relay.call(client)
        await until(lambda: fakes[0].calls)
        for lease in leases:
            assert lease is not None
            lease.give_back()
        fakes[0].release()
        assert await call is None
        (record,) = relay.records
        assert ("ok", 2, ("one",), "two") == (record.outcome, record.attempts, record.failed_on, record.instance_id)
        assert (KINDS[second][1], KINDS[second][1]) == (record.way, client.heads["x-router-way"])
        assert [KINDS[first][2].decode(), KINDS[second][2].decode()] == [fake.calls[0].path for fake in fakes]
        text = check(client.said).text if stream else json.loads(client.said)["content"][0]["text"]
        assert text_of("nonce:moved") == text


async def test_what_a_held_client_was_not_told_in_the_head_is_told_late_with_the_way(start_fake: StartFake) -> None:
    async with relaying(start_fake([behave.stall_before_head()]), entries=[OLD], head_s=10.0, hold_s=0.05) as relay:
        client = Client(ask("nonce:late", stream=True))
        call = relay.call(client)
        await until(lambda: client.started)
        relay.fakes[0].release()
        assert await call is None
        said = check(client.said, comments=True)
        assert "x-router-way: translated" in said.comments[0]
        assert "x-router-way" not in client.heads


# ---------------------------------------------------------------- what is closing after which end

CLOSES, FREES = (0, 1), (0, 0)
ENDS: dict[str, tuple[Behaviour, bool, type[UpstreamFailed | RequestInvalid] | None, tuple[int, int]]] = {
    "answered": (behave.answer(), False, None, FREES),
    "answered, streamed": (behave.answer(), True, None, FREES),
    "an error of its own": (behave.server_error(), False, UpstreamAnswered, FREES),
    "loading": (behave.loading(), True, UpstreamLoading, FREES),
    "the client's fault": (behave.too_long(), True, PromptTooLong, FREES),
    "reset": (behave.reset_before_head(), False, UpstreamBroke, CLOSES),
    "no HTTP": (behave.broken_head(), True, UpstreamBroke, CLOSES),
    "silent before its head": (behave.stall_before_head(), True, UpstreamTimedOut, CLOSES),
    "silent after its head": (behave.stall_after_head(), True, UpstreamTimedOut, CLOSES),
    "a page where a message should be": (behave.not_json(), False, UpstreamBroke, CLOSES),
    "a page where a stream should be": (behave.not_json(), True, UpstreamBroke, CLOSES),
    # From here on the failure is told inside the stream.
    "silent in the middle": (behave.stall_mid_stream(), True, None, CLOSES),
    "dead in the middle": (behave.die_mid_stream(reset=True), True, None, CLOSES),
    "a chunk that is none": (behave.broken_chunk(), True, None, CLOSES),
    "an end without its last event": (behave.end_without_stop(), True, None, CLOSES),
    "an error event": (behave.error_event(), True, None, FREES),
}


@pytest.mark.parametrize("name", ENDS)
async def test_a_slot_is_closing_where_the_instance_may_still_be_busy_with_it(start_fake: StartFake, name: str) -> None:
    behaviour, stream, error, left = ENDS[name]
    async with relaying(start_fake([behaviour])) as relay:
        told = await relay.call(Client(ask(stream=stream)))
        assert (error, left) == (type(told) if told else None, relay.slots())
        assert (["one"] if left == CLOSES else []) == relay.closing
        taught = relay.times.wait_s(MODEL, ahead=0, slots=1) is not None
        assert name.startswith("answered") is taught  # only an answer says how long one takes


async def test_an_instance_that_was_not_reached_keeps_no_slot(start_fake: StartFake) -> None:
    async with relaying(start_fake()) as relay:
        relay.fakes[0].stop()
        assert isinstance(await relay.call(Client(ask())), UpstreamUnreachable)
        assert (FREES, [], [("one", Event.REFUSED)]) == (relay.slots(), relay.closing, relay.seen)


@pytest.mark.parametrize("why", ["gone", "shutdown"])
async def test_who_leaves_while_an_instance_is_connected_to_is_noticed_at_once_and_leaves_no_slot_behind(
    start_fake: StartFake, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    connecting = asyncio.Event()

    async def never(self: ConnectionPool) -> UpstreamConnection:
        connecting.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(ConnectionPool, "connect", never)
    async with relaying(start_fake()) as relay:
        client = Client(ask())
        call = relay.call(client)
        await asyncio.wait_for(connecting.wait(), 5.0)
        assert (1, 0) == relay.slots()
        if why == "gone":
            client.leave()
        relay.corridor.calls.stop_all()  # a second reason changes nothing
        told = await asyncio.wait_for(call, 5.0)
        assert (why == "gone") is (told is None)
        assert (FREES, [], []) == (relay.slots(), relay.closing, relay.seen)  # it was never sent


async def ends_running(start_fake: StartFake, end: Callable[[Relay, Client, asyncio.Task[Any]], object]) -> Any:
    """End a call that an instance is busy with; the task's result, or its cancellation."""
    async with relaying(start_fake([behave.stall_before_head()])) as relay:
        client = Client(ask())
        call = relay.call(client)
        await until(relay.attempts)
        assert (1, 0) == relay.slots()
        end(relay, client, call)
        (result,) = await asyncio.gather(call, return_exceptions=True)
        assert (CLOSES, ["one"]) == (relay.slots(), relay.closing)
        assert relay.times.wait_s(MODEL, ahead=0, slots=1) is None
        assert [] == relay.seen  # nobody can blame the instance
        return result


async def test_when_the_client_goes_the_slot_is_closing(start_fake: StartFake) -> None:
    assert await ends_running(start_fake, lambda _, client, __: client.leave()) is None


async def test_when_the_router_stops_the_slot_is_closing(start_fake: StartFake) -> None:
    result = await ends_running(start_fake, lambda relay, _, __: relay.corridor.calls.stop_all())
    assert isinstance(result, ShuttingDown)


async def test_when_the_task_is_cancelled_the_slot_is_closing(start_fake: StartFake) -> None:
    result = await ends_running(start_fake, lambda _, __, call: call.cancel())
    assert isinstance(result, asyncio.CancelledError)


async def test_a_client_that_goes_in_the_moment_of_its_grant_costs_no_slot(start_fake: StartFake) -> None:
    async with relaying(start_fake(slots=1)) as relay:
        (lease,) = relay.fill()
        client = Client(ask())
        call = relay.call(client)
        await until(lambda: relay.waiting == 1)
        lease.give_back()
        relay.corridor.admission.ask()
        assert (1, 0) == relay.slots()
        client.leave()
        assert await call is None
        assert (FREES, [], 0, "client_gone") == (
            relay.slots(),
            relay.closing,
            relay.attempts(),
            relay.records[0].outcome,
        )
