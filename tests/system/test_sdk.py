"""The SDKs that people use, on real llama-servers: what they are told, what they count, and what they never believe.

Tools, thinking and structured output need a template that knows them: `test_sdk_ways`, `test_sdk_openai`.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import anthropic
import httpx
import openai
import pytest
import yaml
from anthropic.lib.streaming import MessageStreamManager
from anthropic.types import Message, MessageParam

from tests.rig.legality import check
from tests.rig.llama import Pair
from tests.rig.router import RouterProcess, registry
from tests.rig.start import StartLlama, StartRouter

MODEL, ALIAS = "tiny", "tiny-chat"
KEY = "sk-tests-only"
KEYS = yaml.safe_dump({"keys": [{"id": "tests", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]})
CONTEXT = 32_768
CREDENTIALS = [pytest.param({"api_key": KEY}, id="x-api-key"), pytest.param({"auth_token": KEY}, id="bearer")]
SAY_HI: list[MessageParam] = [{"role": "user", "content": "Say hi."}]


@pytest.fixture(scope="module")
def tiny(tiny_pair: Pair) -> Iterator[RouterProcess]:
    """The router in front of the tiny pair, `a` and `b`; it asks for a key."""
    listed = [{"id": name, "url": server.url} for name, server in zip("ab", tiny_pair, strict=True)]
    text = registry(listed, model=MODEL, aliases=(ALIAS, "tiny-two", "tiny-three"), keys_file="keys.yaml")
    process = RouterProcess(text)
    (process.config_path.parent / "keys.yaml").write_text(KEYS)
    with process:
        for name in "ab":
            process.wait_logged(f"instance {name}: unknown -> serving")
        yield process


@pytest.fixture(scope="module")
def smollm2(smollm2_pair: Pair) -> Iterator[RouterProcess]:
    """The router in front of the SmolLM2 pair, for answers that mean something."""
    with RouterProcess(registry(smollm2_pair, model="smollm2")) as process:
        process.wait_ready()
        yield process


@pytest.fixture
def client(tiny: RouterProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=tiny.watched_url, api_key=KEY, max_retries=0) as it:
        yield it


# ------------------------------------------------------------------ plain and streamed


@pytest.mark.parametrize("key", CREDENTIALS)
def test_the_sdk_makes_a_plain_and_a_streamed_call_with_either_key_header(tiny: RouterProcess, key: Any) -> None:
    with anthropic.Anthropic(base_url=tiny.watched_url, max_retries=0, **key) as client:
        plain = client.messages.create(model=ALIAS, max_tokens=8, messages=SAY_HI)
        with client.messages.stream(model=ALIAS, max_tokens=8, messages=SAY_HI) as stream:
            pieces = list(stream.text_stream)
            streamed = stream.get_final_message()
    for message in (plain, streamed):
        assert (message.model, message.stop_reason, message.usage.output_tokens) == (ALIAS, "max_tokens", 8)
    assert "".join(pieces) == text_of(streamed)


@pytest.mark.anyio
@pytest.mark.parametrize("key", CREDENTIALS)
async def test_the_async_sdk_makes_a_plain_and_a_streamed_call_with_either_key_header(
    tiny: RouterProcess, key: Any
) -> None:
    async with anthropic.AsyncAnthropic(base_url=tiny.watched_url, max_retries=0, **key) as client:
        plain = await client.messages.create(model=MODEL, max_tokens=8, messages=SAY_HI)
        async with client.messages.stream(model=MODEL, max_tokens=8, messages=SAY_HI) as stream:
            pieces = [piece async for piece in stream.text_stream]
            streamed = await stream.get_final_message()
    for message in (plain, streamed):
        assert (message.model, message.stop_reason, message.usage.output_tokens) == (MODEL, "max_tokens", 8)
    assert "".join(pieces) == text_of(streamed)


def test_a_wrong_key_raises_authentication_error(tiny: RouterProcess) -> None:
    with (
        anthropic.Anthropic(base_url=tiny.watched_url, api_key="sk-wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError, match="key"),
    ):
        client.messages.create(model=MODEL, max_tokens=8, messages=SAY_HI)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_can_speak_ends_its_turn_or_stops_where_it_was_told_to(
    smollm2: RouterProcess, *, stream: bool
) -> None:
    question: list[MessageParam] = [{"role": "user", "content": "Count: one, two, three, four. Say it again."}]
    with anthropic.Anthropic(base_url=smollm2.watched_url, api_key="any", max_retries=0) as client:
        ask: dict[str, Any] = {"model": "claude-any", "messages": question, "extra_body": {"temperature": 0}}
        whole = ask_either_way(client, stream=stream, max_tokens=200, **ask)
        cut = ask_either_way(client, stream=stream, max_tokens=200, stop_sequences=["three"], **ask)
    assert (whole.stop_reason, whole.stop_sequence) == ("end_turn", None)
    assert "three" in text_of(whole)
    assert "three" not in text_of(cut)
    assert 0 < cut.usage.output_tokens < whole.usage.output_tokens


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"system": "Be brief.", "stop_sequences": ["\n\n\n"]},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1100},
    ],
    ids=["bare", "system", "thinking"],
)
def test_every_raw_stream_is_legal(tiny: RouterProcess, more: dict[str, Any]) -> None:
    said = check(raw_stream(tiny, {"max_tokens": 16, **more}))
    assert said.error is None
    assert (said.model, said.usage["output_tokens"] > 0) == (MODEL, True)


# ------------------------------------------------------------------ what is counted


@pytest.mark.parametrize(
    "prompt",
    [
        {"messages": SAY_HI},
        {"system": "You are a lighthouse.", "messages": SAY_HI},
        {"system": [{"type": "text", "text": "You"}, {"type": "text", "text": "shine."}], "messages": SAY_HI},
        {"messages": [*SAY_HI, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "word " * 400}]},
    ],
    ids=["bare", "system", "system blocks", "conversation"],
)
def test_count_tokens_says_what_the_call_then_uses(client: anthropic.Anthropic, prompt: dict[str, Any]) -> None:
    counted = client.messages.count_tokens(model=MODEL, **prompt).input_tokens
    for stream in (False, True, False):
        usage = ask_either_way(client, stream=stream, model=MODEL, max_tokens=1, **prompt).usage
        assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted


# ------------------------------------------------------------------ models


def test_models_are_listed_page_by_page_to_an_end_and_each_can_be_retrieved(client: anthropic.Anthropic) -> None:
    names = [MODEL, ALIAS, "tiny-two", "tiny-three"]
    for limit in (1, 3, 4, 1000):
        assert [model.id for model in client.models.list(limit=limit)] == names
    for name in names:
        found = client.models.retrieve(name)
        assert (found.id, found.type, found.max_input_tokens) == (name, "model", CONTEXT)


@pytest.mark.anyio
async def test_the_async_sdk_lists_models_to_an_end_too(tiny: RouterProcess) -> None:
    async with anthropic.AsyncAnthropic(base_url=tiny.watched_url, api_key=KEY, max_retries=0) as client:
        assert [model.id async for model in client.models.list(limit=3)] == [MODEL, ALIAS, "tiny-two", "tiny-three"]


def test_the_openai_sdk_reads_the_same_list(tiny: RouterProcess) -> None:
    with openai.OpenAI(base_url=f"{tiny.url}/v1", api_key=KEY, max_retries=0) as client:
        listed = {model.id: (model.object, model.owned_by) for model in client.models.list()}
        assert client.models.retrieve(ALIAS).id == ALIAS
    assert listed == dict.fromkeys([MODEL, ALIAS, "tiny-two", "tiny-three"], ("model", "llama-router"))


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_raises_not_found_with_the_request_id_and_a_near_name(
    client: anthropic.Anthropic, *, stream: bool
) -> None:
    with pytest.raises(anthropic.NotFoundError, match=f'did you mean .*"{ALIAS}"') as caught:
        ask_either_way(client, stream=stream, model="tiny-chap", max_tokens=8, messages=SAY_HI)
    assert_has_request_id(caught.value)
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.models.retrieve("tiny-chap")
    assert_has_request_id(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_says_by_how_much_and_is_not_tried_again(
    tiny: RouterProcess, *, stream: bool
) -> None:
    with anthropic.Anthropic(
        base_url=tiny.watched_url, api_key=KEY
    ) as client:  # with the retries that the SDK makes by itself
        prompt: list[MessageParam] = [{"role": "user", "content": "word " * 40_000}]
        counted = client.messages.count_tokens(model=MODEL, messages=prompt).input_tokens
        before = calls(tiny, outcome="refused")
        with pytest.raises(anthropic.BadRequestError) as caught:
            ask_either_way(client, stream=stream, model=MODEL, max_tokens=8, messages=prompt)
    assert f"prompt is too long: {counted} tokens > {CONTEXT} maximum" in str(caught.value)
    assert caught.value.type == "invalid_request_error"
    assert_has_request_id(caught.value)
    assert calls(tiny, outcome="refused") == before + 1


# ------------------------------------------------------------------ conversations


class Conversation:
    """Turns of one client. Its first words are its own, so what is cached of it is cached for nobody else."""

    def __init__(self, client: anthropic.Anthropic, name: str) -> None:
        self._client = client
        self._messages: list[MessageParam] = []
        self._words = f"{name} " * 400
        self.instances: list[str] = []
        self.prompts: list[int] = []
        self.cached: list[int] = []

    def turn(self) -> None:
        self._messages.append({"role": "user", "content": "And?" if self._messages else self._words})
        response = self._client.messages.with_raw_response.create(model=MODEL, max_tokens=8, messages=self._messages)
        message = response.parse()
        self._messages.append({"role": "assistant", "content": text_of(message) or "."})
        self.instances.append(response.headers["x-router-instance"])
        self.cached.append(message.usage.cache_read_input_tokens or 0)
        self.prompts.append(message.usage.input_tokens + self.cached[-1])

    @property
    def warm_turns(self) -> list[bool]:
        """For each turn after the first: whether the whole prompt of the turn before was still there."""
        return [cached >= 0.95 * before for cached, before in zip(self.cached[1:], self.prompts, strict=False)]


def test_a_conversation_alone_stays_on_its_instance_and_finds_its_prompt_cached(client: anthropic.Anthropic) -> None:
    """Twenty conversations, four alive at a time as one instance has slots, each call after the last has ended."""
    for group in range(5):
        conversations = [Conversation(client, f"alone{group}{number}") for number in range(4)]
        for _ in range(3):
            for conversation in conversations:
                conversation.turn()
        for conversation in conversations:
            assert len(set(conversation.instances)) == 1
            assert conversation.warm_turns == [True, True], (conversation.prompts, conversation.cached)


def test_conversations_side_by_side_are_warm_wherever_they_stay(client: anthropic.Anthropic) -> None:
    """Twenty, four at a time on eight slots: a turn on the instance of the last one is warm; most are (see below)."""

    def live(number: int) -> Conversation:
        conversation = Conversation(client, f"beside{number}")
        for _ in range(3):
            conversation.turn()
        return conversation

    with ThreadPoolExecutor(4) as threads:
        conversations = list(threads.map(live, range(20)))
    for it in conversations:
        stayed = [before == after for before, after in pairwise(it.instances)]
        assert all(warm for stays, warm in zip(stayed, it.warm_turns, strict=True) if stays), (it.instances, it.cached)


# ------------------------------------------------------------------ a broken stream


def test_a_stream_whose_instance_dies_raises_and_the_next_call_goes_elsewhere(
    start_llama: StartLlama, start_router: StartRouter
) -> None:
    servers = {"first": start_llama(slots=1), "second": start_llama(slots=1)}
    listed = [{"id": name, "url": server.url} for name, server in servers.items()]
    router = start_router(registry(listed, model=MODEL, poll={"every": "100ms"}))
    for name in servers:
        router.wait_logged(f"instance {name}: unknown -> serving")
    with anthropic.Anthropic(base_url=router.watched_url, api_key="any") as client:
        with client.messages.stream(model=MODEL, max_tokens=20_000, messages=SAY_HI) as stream:
            hit = stream.response.headers["x-router-instance"]
            assert next(stream.text_stream)
            servers[hit].kill()
            with pytest.raises(anthropic.APIStatusError, match=f"instance {hit}") as caught:
                stream.get_final_message()
        after = client.messages.with_raw_response.create(model=MODEL, max_tokens=8, messages=SAY_HI)
    assert caught.value.type == "api_error"
    assert {hit, after.headers["x-router-instance"]} == set(servers)
    assert calls(router, outcome="failed") == 1


@pytest.mark.anyio
async def test_the_async_sdk_raises_for_a_stream_whose_instance_dies(
    start_llama: StartLlama, start_router: StartRouter
) -> None:
    server = start_llama(slots=1)
    router = start_router(registry([server], model=MODEL))
    async with (
        anthropic.AsyncAnthropic(base_url=router.watched_url, api_key="any") as client,
        client.messages.stream(model=MODEL, max_tokens=20_000, messages=SAY_HI) as stream,
    ):
        assert await anext(stream.text_stream)
        server.kill()
        with pytest.raises(anthropic.APIStatusError) as caught:
            await stream.get_final_message()
    assert caught.value.type == "api_error"


def test_the_raw_bytes_of_a_stream_whose_instance_dies_are_legal_and_end_in_an_error(
    start_llama: StartLlama, start_router: StartRouter
) -> None:
    server = start_llama(slots=1)
    router = start_router(registry([server], model=MODEL))
    said = check(raw_stream(router, {"max_tokens": 20_000}, after_first=server.kill))
    assert (said.stop_reason, said.error and said.error["type"]) == (None, "api_error")
    assert said.events[-1].name == "error"


# ------------------------------------------------------------------ helpers


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def ask_either_way(client: anthropic.Anthropic, *, stream: bool, **ask: Any) -> Message:
    if not stream:
        message: Message = client.messages.create(**ask)
        return message
    with client.messages.stream(**ask) as running:
        return running.get_final_message()


def long_answer(client: anthropic.Anthropic) -> MessageStreamManager[None]:
    """An answer that takes half a minute, unless it is closed before."""
    prompt: list[MessageParam] = [{"role": "user", "content": "Talk on and on."}]
    return client.messages.stream(model=MODEL, max_tokens=20_000, messages=prompt)


def busy_slots(router: RouterProcess) -> dict[str, int]:
    """How many slots of each instance are leased."""
    return {row["id"]: row["busy"] for row in httpx.get(f"{router.url}/admin/fleet").json()["instances"]}


def raw_stream(router: RouterProcess, ask: dict[str, Any], after_first: Callable[[], None] | None = None) -> bytes:
    """The bytes of a streamed answer, to their end; `after_first` is called once some of them have come."""
    body = {"model": MODEL, "messages": SAY_HI, "stream": True, **ask}
    raw = b""
    with httpx.stream("POST", f"{router.url}/v1/messages", json=body, headers={"x-api-key": KEY}, timeout=60) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_bytes():
            if not raw and after_first is not None:
                after_first()
            raw += piece
    return raw


def assert_has_request_id(error: anthropic.APIStatusError) -> None:
    assert re.fullmatch(r"req_[0-9a-f]{24}", error.request_id or "")
    assert isinstance(error.body, dict)
    assert error.body["request_id"] == error.request_id


def calls(router: RouterProcess, *, outcome: str) -> int:
    """How many calls to /v1/messages ended so, as /metrics says."""
    counted = 0.0
    for line in httpx.get(f"{router.url}/metrics").text.splitlines():
        if line.startswith("llama_router_calls_total{") and f'outcome="{outcome}"' in line:
            counted += float(line.rpartition(" ")[2])
    return round(counted)
