"""A real server behind two routers: one speaks llama-server's own /v1/messages with it, one translates everything.

With the examples that make SmolLM2 do what it does not do unasked: three turns in which a tool was called, or in which
somebody thought before answering, and it goes on in the same way.
"""

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgspec

from router.demo.llama import LlamaProcess, LlamaSpec
from tests.rig import llama
from tests.rig.router import RouterProcess, registry
from tests.system.templates import HERMES

WAYS = ("native", "translated")
Routers = dict[str, RouterProcess]


def talking_spec() -> LlamaSpec:
    """SmolLM2 under a template that prints tools, calls and thoughts. What was read before is kept beside the slots."""
    return msgspec.structs.replace(llama.smollm2_spec(cache_ram_mib=512), chat_template=HERMES)


@contextlib.contextmanager
def both_ways(spec: LlamaSpec, model: str, **top: Any) -> Iterator[Routers]:
    """Start a server and its two routers; `top` are keys of their registry files. The instance's id is `it`."""
    llama.need_llama()
    with ExitStack() as stack:
        server = stack.enter_context(LlamaProcess(spec))
        server.wait_ready(llama.READY_S)
        routers: Routers = {}
        for way in WAYS:
            listed: dict[str, object] = {"url": server.url, "id": "it"}
            if way == "translated":
                listed["capabilities"] = {"messages": False}
            routers[way] = stack.enter_context(RouterProcess(registry([listed], model=model, **top)))
        for router in routers.values():
            router.wait_ready()
        yield routers


# ------------------------------------------------------------------ examples

WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CLOCK: dict[str, Any] = {"name": "get_time", "input_schema": {"type": "object", "properties": {}}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(*content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def thought(words: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": ""}


def shown(*days: tuple[str, str]) -> list[dict[str, Any]]:
    """A turn for each: the question, one call for each city in it, the results, and the answer."""
    said: list[dict[str, Any]] = []
    for number, (cities, sky) in enumerate(days):
        calls = [
            {"type": "tool_use", "id": f"toolu_{number}_{city}", "name": "get_weather", "input": {"city": city}}
            for city in cities.split(" and ")
        ]
        results = [{"type": "tool_result", "tool_use_id": call["id"], "content": sky} for call in calls]
        said += [
            user(f"What is the weather in {cities}?"),
            assistant(*calls),
            user(results),
            assistant(text(f"It is {sky} in {cities}.")),
        ]
    return said


ONE_CALL_EACH = shown(("Rome", "sunny"), ("Oslo", "snowy"), ("Cairo", "hot"))
TWO_CALLS_EACH = shown(
    ("Rome and Oslo", "sunny"),
    ("Bonn and Cairo", "hot"),
    ("Kyiv and Lima", "cold"),
    ("Riga and Bern", "mild"),
    ("Doha and Baku", "dry"),
)
PARIS = user("What is the weather in Paris?")


def _sums() -> Iterator[dict[str, Any]]:
    for question, answer in (("one and one", "two"), ("two and two", "four"), ("three and three", "six")):
        yield user(f"What is {question}?")
        yield assistant(thought(f"The user asks for {question}. That is {answer}."), text(f"It is {answer}."))
    yield user("What is four and four?")


SUMS = list(_sums())
THINKING: dict[str, Any] = {"type": "enabled", "budget_tokens": 1024}
# A count that was begun: what comes next is known.
BEGUN = [user("Count to ten."), {"role": "assistant", "content": "One, two,"}]
CITY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "big": {"type": "boolean"}},
    "required": ["city", "big"],
    "additionalProperties": False,
}
