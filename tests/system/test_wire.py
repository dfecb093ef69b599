"""Both ways through real llama-servers: tools, thinking, structured output, stop words, and what is refused.

The model is so small that nothing makes it call a tool but example (see `both_ways`). What it then says is its own, and
llama-server parses it as any model's answer.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import msgspec
import pytest

from tests.rig import llama
from tests.rig.legality import Message, check
from tests.rig.legality_chat import check_chat
from tests.rig.router import RouterProcess, registry
from tests.system.both_ways import (
    BEGUN,
    CITY_SCHEMA,
    CLOCK,
    ONE_CALL_EACH,
    PARIS,
    SUMS,
    THINKING,
    TWO_CALLS_EACH,
    WAYS,
    WEATHER,
    Routers,
    assistant,
    both_ways,
    talking_spec,
    text,
    thought,
    user,
)

MODEL = "smollm2"
CONTEXT = 8192
BOTH = pytest.mark.parametrize("way", WAYS)
EITHER = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@pytest.fixture(scope="module")
def routers() -> Iterator[Routers]:
    with both_ways(talking_spec(), MODEL) as found:
        yield found


class Told(msgspec.Struct, frozen=True):
    """What a client was told, plain or streamed, in one shape."""

    way: str
    kinds: list[str]
    text: str
    thinking: str
    tools: list[tuple[str, dict[str, Any]]]
    stop: tuple[str | None, str | None]
    usage: Mapping[str, Any]
    deltas: dict[str, int]  # how many of each type; empty for a plain answer

    @property
    def prompt_tokens(self) -> int:
        found: int = self.usage["input_tokens"] + self.usage["cache_read_input_tokens"]
        return found


def tell(router: RouterProcess, *, stream: bool, **fields: Any) -> Told:
    answer = post(router, stream=stream, **fields)
    assert answer.status_code == 200, answer.text
    way = answer.headers["x-router-way"]
    if stream:
        return _streamed(way, check(answer.content))
    said = answer.json()
    assert said["id"].startswith("msg_")
    assert (said["type"], said["role"], said["model"]) == ("message", "assistant", MODEL)
    blocks = said["content"]
    assert all(it["signature"] == "" for it in blocks if it["type"] == "thinking")
    return Told(
        way=way,
        kinds=[it["type"] for it in blocks],
        text="".join(it["text"] for it in blocks if it["type"] == "text"),
        thinking="".join(it["thinking"] for it in blocks if it["type"] == "thinking"),
        tools=[(it["name"], it["input"]) for it in blocks if it["type"] == "tool_use"],
        stop=(said["stop_reason"], said["stop_sequence"]),
        usage=said["usage"],
        deltas={},
    )


def _streamed(way: str, said: Message) -> Told:
    assert said.error is None
    kinds = [it.data["content_block"]["type"] for it in said.events if it.name == "content_block_start"]
    deltas = [it.data["delta"]["type"] for it in said.events if it.name == "content_block_delta"]
    return Told(
        way=way,
        kinds=kinds,
        text=said.text,
        thinking=said.thinking,
        tools=[(it.name, it.input) for it in said.tools],
        stop=(said.stop_reason, said.stop_sequence),
        usage=said.usage,
        deltas={kind: deltas.count(kind) for kind in deltas},
    )


def post(router: RouterProcess, path: str = "/v1/messages", **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "max_tokens": 80, "temperature": 0, **fields}
    return send(router, path, body)


def send(router: RouterProcess, path: str, body: dict[str, Any]) -> httpx.Response:
    # Left to itself it would read all certificates of the system first, which takes longer than most answers.
    return httpx.post(router.url + path, json=body, timeout=60, verify=False, trust_env=False)


# ---------------------------------------------------------------- tools


@EITHER
@BOTH
def test_a_call_that_the_model_makes_by_itself_comes_whole(routers: Routers, way: str, *, stream: bool) -> None:
    told = tell(routers[way], stream=stream, tools=[WEATHER, CLOCK], messages=[*ONE_CALL_EACH, PARIS])
    assert (told.way, told.kinds, told.stop) == (way, ["tool_use"], ("tool_use", None))
    assert told.tools == [("get_weather", {"city": "Paris"})]
    if stream:
        assert told.deltas["input_json_delta"] > 1  # piece by piece, as the model says it


@EITHER
@BOTH
def test_two_calls_of_one_turn_are_two_blocks(routers: Routers, way: str, *, stream: bool) -> None:
    asked = user("What is the weather in Paris and Madrid?")
    told = tell(routers[way], stream=stream, tools=[WEATHER], messages=[*TWO_CALLS_EACH, asked], max_tokens=120)
    assert (told.way, told.kinds, told.stop) == (way, ["tool_use"] * 2, ("tool_use", None))
    assert told.tools == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Madrid"})]


@BOTH
def test_a_conversation_goes_on_with_the_call_that_was_made(routers: Routers, way: str) -> None:
    """The client sends the call back under the id that it was given, and the cache still holds it."""
    first = post(routers[way], tools=[WEATHER], messages=[*ONE_CALL_EACH, PARIS]).json()
    (call,) = first["content"]
    assert call["id"].startswith("toolu_")
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "rainy"}
    messages = [*ONE_CALL_EACH, PARIS, {"role": "assistant", "content": first["content"]}, user([result])]
    told = tell(routers[way], stream=True, tools=[WEATHER], messages=messages)
    assert (told.kinds, told.stop) == (["text"], ("end_turn", None))
    assert "rainy in Paris" in told.text
    before = first["usage"]["input_tokens"] + first["usage"]["cache_read_input_tokens"]
    assert told.usage["cache_read_input_tokens"] >= before


@EITHER
@BOTH
def test_a_tool_that_must_be_called_is_called_without_any_example(routers: Routers, way: str, *, stream: bool) -> None:
    choice = {"type": "tool", "name": "get_weather"}
    told = tell(routers[way], stream=stream, tools=[CLOCK, WEATHER], tool_choice=choice, messages=[PARIS])
    assert told.way == "translated"  # the native route would forget which
    assert told.stop == ("tool_use", None)
    ((name, arguments),) = told.tools
    assert (name, list(arguments), type(arguments["city"])) == ("get_weather", ["city"], str)


@EITHER
@BOTH
def test_some_tool_must_be_called_and_one_is(routers: Routers, way: str, *, stream: bool) -> None:
    told = tell(routers[way], stream=stream, tools=[CLOCK, WEATHER], tool_choice={"type": "any"}, messages=[PARIS])
    assert (told.way, told.stop) == ("translated", ("tool_use", None))
    ((name, _),) = told.tools
    assert name in {CLOCK["name"], WEATHER["name"]}


@EITHER
@BOTH
def test_a_stop_word_inside_a_call_is_told(routers: Routers, way: str, *, stream: bool) -> None:
    told = tell(routers[way], stream=stream, tools=[WEATHER], stop_sequences=["Par"], messages=[*ONE_CALL_EACH, PARIS])
    assert told.stop == ("stop_sequence", "Par")


@EITHER
@BOTH
def test_tools_that_are_switched_off_are_not_called(routers: Routers, way: str, *, stream: bool) -> None:
    told = tell(
        routers[way], stream=stream, tools=[WEATHER], tool_choice={"type": "none"}, messages=[*ONE_CALL_EACH, PARIS]
    )
    assert (told.way, told.tools, told.stop[0]) == ("translated", [], "end_turn")


@EITHER
@BOTH
def test_a_call_that_its_length_cuts_says_so_and_breaks_nothing(routers: Routers, way: str, *, stream: bool) -> None:
    told = tell(routers[way], stream=stream, tools=[WEATHER], messages=[*ONE_CALL_EACH, PARIS], max_tokens=24)
    assert told.stop == ("max_tokens", None)
    assert all(arguments in ({}, {"city": "Paris"}) for _, arguments in told.tools)


# ---------------------------------------------------------------- thinking


@EITHER
@BOTH
def test_thinking_comes_first_in_a_block_of_its_own(routers: Routers, way: str, *, stream: bool) -> None:
    told = tell(routers[way], stream=stream, messages=SUMS, thinking=THINKING)
    assert (told.way, told.kinds, told.stop) == (way, ["thinking", "text"], ("end_turn", None))
    assert told.thinking.startswith("The user asks for four and four.")
    assert told.text.startswith("It is ")
    if stream:
        assert told.deltas["thinking_delta"] > 1
        assert told.deltas["signature_delta"] == 1


@BOTH
def test_thinking_that_is_not_to_be_shown_comes_back_to_the_model_all_the_same(routers: Routers, way: str) -> None:
    """It travels in the signature: the next turn's prompt has as many tokens as with the words themselves."""
    omitted = {**THINKING, "display": "omitted"}
    said = check(post(routers[way], stream=True, messages=SUMS, thinking=omitted).content)
    assert said.thinking == ""
    (sealed,) = [
        it.data["delta"]["signature"]
        for it in said.events
        if it.name == "content_block_delta" and it.data["delta"]["type"] == "signature_delta"
    ]
    assert sealed
    seen = check(post(routers[way], stream=True, messages=SUMS, thinking=THINKING).content)
    more = user("Thanks.")
    hidden = {"type": "thinking", "thinking": "", "signature": sealed}
    counts = [
        post(routers[way], "/v1/messages/count_tokens", messages=[*SUMS, assistant(first, text(it.text)), more]).json()
        for first, it in ((hidden, said), (thought(seen.thinking), seen))
    ]
    assert counts[0] == counts[1]


# ---------------------------------------------------------------- what bounds an answer


@EITHER
@BOTH
def test_structured_output_keeps_to_its_schema(routers: Routers, way: str, *, stream: bool) -> None:
    form = {"format": {"type": "json_schema", "schema": CITY_SCHEMA}}
    told = tell(routers[way], stream=stream, messages=[user("Talk to me of a city.")], output_config=form)
    assert (told.way, told.kinds, told.stop) == ("translated", ["text"], ("end_turn", None))
    said = json.loads(told.text)
    assert {name: type(value) for name, value in said.items()} == {"city": str, "big": bool}


@EITHER
@BOTH
def test_a_stop_sequence_ends_the_answer_and_is_named(routers: Routers, way: str, *, stream: bool) -> None:
    told = tell(routers[way], stream=stream, messages=BEGUN, stop_sequences=["@@", "five"])
    assert (told.way, told.stop) == (way, ("stop_sequence", "five"))
    assert told.text.strip().startswith("three, four")
    assert "five" not in told.text


@EITHER
@BOTH
def test_an_answer_that_was_begun_is_gone_on_from_and_not_repeated(routers: Routers, way: str, *, stream: bool) -> None:
    told = tell(routers[way], stream=stream, messages=BEGUN, max_tokens=12)
    assert (told.way, told.stop, told.usage["output_tokens"]) == (way, ("max_tokens", None), 12)
    assert told.text.startswith(" three, four")
    counted = post(routers[way], "/v1/messages/count_tokens", messages=BEGUN).json()["input_tokens"]
    assert told.prompt_tokens == counted


@EITHER
@BOTH
def test_no_tokens_at_all_warm_the_cache_and_say_nothing(routers: Routers, way: str, *, stream: bool) -> None:
    messages = [user(f"{way} {stream} " * 50)]
    told = tell(routers[way], stream=stream, messages=messages, max_tokens=0)
    assert (told.kinds, told.stop, told.usage["output_tokens"]) == ([], ("max_tokens", None), 0)
    again = tell(routers[way], stream=stream, messages=messages, max_tokens=1)
    assert again.usage["cache_read_input_tokens"] == told.prompt_tokens - 1


@EITHER
def test_both_ways_say_and_count_the_same(routers: Routers, *, stream: bool) -> None:
    both = [
        tell(routers[way], stream=stream, tools=[WEATHER], messages=[*ONE_CALL_EACH, PARIS], system="Be brief.")
        for way in WAYS
    ]
    assert [it.way for it in both] == list(WAYS)
    assert len({(it.prompt_tokens, it.usage["output_tokens"], str(it.tools), it.stop) for it in both}) == 1


# ---------------------------------------------------------------- what is refused


def refused(answer: httpx.Response) -> str:
    said = answer.json()
    assert (answer.status_code, said["type"], said["error"]["type"]) == (400, "error", "invalid_request_error")
    assert said["request_id"] == answer.headers["request-id"]
    message: str = said["error"]["message"]
    return message


@EITHER
@BOTH
def test_a_picture_for_a_model_without_eyes_is_refused_by_name(routers: Routers, way: str, *, stream: bool) -> None:
    picture = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"\x89PNG").decode()}
    content = [{"type": "image", "source": picture}, text("What is this?")]
    message = refused(post(routers[way], stream=stream, messages=[user(content)]))
    assert message == f"messages: {MODEL} takes no images; send text only, or name a model that does"


@EITHER
@BOTH
def test_a_prompt_that_is_too_long_says_by_how_much(routers: Routers, way: str, *, stream: bool) -> None:
    messages = [user("word " * 10_000)]
    counted = post(routers[way], "/v1/messages/count_tokens", messages=messages).json()["input_tokens"]
    message = refused(post(routers[way], stream=stream, messages=messages))
    assert message == f"prompt is too long: {counted} tokens > {CONTEXT} maximum"


@BOTH
def test_a_tool_of_the_hosted_api_is_refused_in_its_words(routers: Routers, way: str) -> None:
    tools = [WEATHER, {"type": "web_search_20250305", "name": "web_search"}]
    message = refused(post(routers[way], tools=tools, messages=[PARIS]))
    assert message.startswith("tools.1: Input tag 'web_search_20250305' found using 'type' does not match any of")


@pytest.fixture
def own_template(smollm2_pair: llama.Pair) -> Iterator[RouterProcess]:
    """SmolLM2 with its own template, which leaves tools out."""
    with RouterProcess(registry(smollm2_pair[:1], model=MODEL)) as router:
        router.wait_ready()
        yield router


def test_tools_that_the_template_would_hide_are_refused(own_template: RouterProcess) -> None:
    message = refused(post(own_template, tools=[WEATHER], messages=[PARIS]))
    assert message.startswith(f"tools: the chat template of {MODEL} does not show tools")


# ---------------------------------------------------------------- chat completions of the same server


def chat(router: RouterProcess, *, stream: bool, **fields: Any) -> tuple[str, list[tuple[str, str]], str | None]:
    """Text, calls and finish reason; streamed ones are held against the rules for chunks."""
    body = {"model": MODEL, "max_tokens": 60, "temperature": 0, "stream": stream, **fields}
    answer = send(router, "/v1/chat/completions", body)
    assert answer.status_code == 200, answer.text
    if stream:
        said = check_chat(answer.content)
        assert said.model == MODEL
        return said.text, [(it.name, it.arguments) for it in said.tools], said.finish_reason
    (choice,) = answer.json()["choices"]
    calls = [it["function"] for it in choice["message"].get("tool_calls") or ()]
    found = [(it["name"], it["arguments"]) for it in calls]
    return choice["message"].get("content") or "", found, choice["finish_reason"]


FUNCTION = {
    "type": "function",
    "function": {"name": "get_weather", "description": "", "parameters": WEATHER["input_schema"]},
}


@EITHER
def test_a_chat_completion_calls_by_example_too(routers: Routers, *, stream: bool) -> None:
    messages: list[dict[str, Any]] = []
    for city, sky in (("Rome", "sunny"), ("Oslo", "snowy"), ("Cairo", "hot")):
        function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
        call = {"id": f"call_{city}", "type": "function", "function": function}
        messages += [
            user(f"What is the weather in {city}?"),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{city}", "content": sky},
            {"role": "assistant", "content": f"It is {sky} in {city}."},
        ]
    said, calls, finish = chat(routers["native"], stream=stream, tools=[FUNCTION], messages=[*messages, PARIS])
    assert (said, finish, [name for name, _ in calls]) == ("", "tool_calls", ["get_weather"])
    assert json.loads(calls[0][1]) == {"city": "Paris"}


@EITHER
def test_a_chat_completion_stops_and_is_cut_where_it_is_told_to(routers: Routers, *, stream: bool) -> None:
    messages = [user("Count: one, two, three, four, five. Once more: one, two,")]
    whole, _, cut = chat(routers["native"], stream=stream, messages=messages, max_tokens=8)
    assert cut == "length"
    word = whole.split()[2]
    short, _, finish = chat(routers["native"], stream=stream, messages=messages, max_tokens=8, stop=[word])
    assert finish == "stop"
    assert whole.startswith(short)
    assert word not in short
