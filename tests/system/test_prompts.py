"""Real servers read the same prompt from both renderings, and go on from each other's cache."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import msgspec
import pytest

from router.demo.llama import LlamaProcess
from router.translate.request import chat_body, native_body
from router.wire.anthropic import decode_messages
from router.wire.canonical import Canonical, canonical
from tests.captures.reading import Captured, captured
from tests.rig import llama
from tests.system.templates import HERMES

TEMPLATES = {"own": None, "hermes": HERMES}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, LlamaProcess]]:
    """SmolLM2 with its own template and with ours, one slot each, so that the cache is the last prompt."""
    llama.need_llama()
    spec = llama.smollm2_spec(slots=1)
    with ExitStack() as stack:
        found = {
            name: stack.enter_context(LlamaProcess(msgspec.structs.replace(spec, chat_template=template)))
            for name, template in TEMPLATES.items()
        }
        for server in found.values():
            server.wait_ready(llama.READY_S)
        yield found


@pytest.fixture(scope="module")
def strict_tiny() -> Iterator[LlamaProcess]:
    """A long context behind the strict template, for what Claude Code sends."""
    llama.need_llama()
    # Scrambled words take more tokens than words do: the longest request has 40,000.
    spec = msgspec.structs.replace(llama.tiny_spec(slots=1, n_ctx_slot=65_536), chat_template=HERMES)
    with LlamaProcess(spec) as server:
        server.wait_ready(llama.READY_S)
        yield server


# ---------------------------------------------------------------- what is asked

STORY = "Once upon a time there was a router that kept every prompt as it had been. " * 12
TOOLS = [
    {"name": "Read", "description": "Reads a file.", "input_schema": {"type": "object", "properties": {"path": {}}}},
    {"name": "Wait", "input_schema": {"type": "object"}},
]


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def call(id_: str, **input_: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": "Read", "input": input_}


def result(id_: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_, "content": content, **more}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


THOUGHT = {"type": "thinking", "thinking": "The user wants the file.\nSo be it.", "signature": ""}
CASES: dict[str, dict[str, Any]] = {
    "system blocks": {
        "system": [text("x-anthropic-billing-header: cc_version=2.1;"), text("You are terse."), text("Be kind.")],
        "messages": [user(text(STORY), text("Say hi"))],
    },
    "a result and text in one turn": {
        "tools": TOOLS,
        "messages": [
            user(text(STORY)),
            assistant(text("Let me see."), call("toolu_a", path='/x é "q"', n=[1, 2.5, 1e22, 1e-7, 2**70, None, True])),
            user(text("And be quick."), result("toolu_a", [text("line 1"), text("line 2")]), text("Thanks.")),
        ],
    },
    "parallel results in the order in which they came": {
        "system": STORY,
        "tools": TOOLS,
        "messages": [
            user(text("Read both")),
            assistant(call("toolu_a", path="a"), call("toolu_b", path="b"), call("toolu_c", path="c")),
            user(result("toolu_b", "B", is_error=True), result("toolu_a", None), text("Well?")),
        ],
    },
    "thinking in history": {
        "system": STORY,
        "tools": TOOLS,
        "messages": [
            user(text("Read")),
            assistant(THOUGHT, text("Reading."), call("toolu_a", path="a")),
            user(result("toolu_a", "A")),
            assistant(THOUGHT),
            user(text("Well?")),
        ],
    },
    "a system message in mid-conversation": {
        "system": "Be terse.",
        "messages": [
            user(text(STORY)),
            {"role": "system", "content": [text("The date is today.")]},
            assistant(text("Fine.")),
            user(text("Go on")),
            {"role": "system", "content": "Hurry."},
        ],
    },
}


def form(fields: dict[str, Any]) -> Canonical:
    return canonical(decode_messages(json.dumps({"model": "m", "max_tokens": 1, "temperature": 0} | fields).encode()))


def later(fields: dict[str, Any]) -> dict[str, Any]:
    """The next turn."""
    return {**fields, "messages": [*fields["messages"], assistant(text("Yes.")), user(text("More"))]}


class Read(msgspec.Struct):
    """How many tokens a server read for a prompt, and how many of them it had in its cache."""

    prompt: int
    cached: int


def native(server: LlamaProcess, c: Canonical) -> Read:
    usage = posted(server, "/v1/messages", native_body(c, model=None))["usage"]
    return Read(usage["input_tokens"] + usage["cache_read_input_tokens"], usage["cache_read_input_tokens"])


def chat(server: LlamaProcess, c: Canonical) -> Read:
    usage = posted(server, "/v1/chat/completions", chat_body(c, model=None, llama=True))["usage"]
    return Read(usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"])


def counted(server: LlamaProcess, c: Canonical) -> int:
    found: int = posted(server, "/v1/messages/count_tokens", native_body(c, model=None))["input_tokens"]
    return found


def posted(server: LlamaProcess, path: str, body: bytes) -> dict[str, Any]:
    answer = httpx.post(server.url + path, content=body, timeout=120)
    assert 200 == answer.status_code, answer.text
    found: dict[str, Any] = answer.json()
    return found


PATHS = {"native": native, "chat": chat}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("template", TEMPLATES)
def test_both_renderings_and_the_count_give_the_same_number_of_tokens(
    servers: dict[str, LlamaProcess], template: str, case: str
) -> None:
    server, c = servers[template], form(CASES[case])
    by_native, by_chat = native(server, c), chat(server, c)
    assert by_native.prompt == by_chat.prompt == counted(server, c)
    assert by_chat.cached == by_native.prompt - 1


@pytest.mark.parametrize("template", TEMPLATES)
def test_an_answer_that_was_begun_is_gone_on_from_in_both_renderings(
    servers: dict[str, LlamaProcess], template: str
) -> None:
    begun = form({"system": STORY, "messages": [user(text("Count")), assistant(text("One, two,"))]})
    asked = form({"system": STORY, "messages": [user(text("Count"))]})
    by_native, by_chat = native(servers[template], begun), chat(servers[template], begun)
    assert by_native.prompt == by_chat.prompt == counted(servers[template], begun)
    assert by_chat.cached == by_native.prompt - 1
    assert by_native.prompt > counted(servers[template], asked)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("first", "second"), [("native", "chat"), ("chat", "native")])
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_conversation_that_changes_its_path_keeps_the_cache(
    servers: dict[str, LlamaProcess], template: str, first: str, second: str, case: str
) -> None:
    server = servers[template]
    before = PATHS[first](server, form(CASES[case]))
    after = PATHS[second](server, form(later(CASES[case])))
    assert after.cached >= before.prompt - 1
    assert after.prompt > before.prompt


def test_the_strict_template_prints_tools_calls_results_and_thoughts(servers: dict[str, LlamaProcess]) -> None:
    c = form(CASES["thinking in history"])
    prompt = posted(servers["hermes"], "/apply-template", chat_body(c, model=None, llama=True))["prompt"]
    assert "The user wants the file." in prompt
    assert '"name": "Read", "arguments": {"path":' in prompt.replace('{"path" :', '{"path":')
    assert "<tool_response>\nA\n</tool_response>" in prompt
    assert "Reads a file." in prompt


def captured_form(it: Captured) -> Canonical:
    return canonical(decode_messages(json.dumps({**it.fields, "max_tokens": 1, "stream": False}).encode()))


@pytest.mark.parametrize("it", captured(), ids=lambda it: it.name)
def test_the_strict_template_takes_every_captured_request_in_both_renderings_and_counts_them_alike(
    strict_tiny: LlamaProcess, it: Captured
) -> None:
    c = captured_form(it)
    body = chat_body(c, model=None, llama=True)
    by_chat = posted(strict_tiny, "/v1/chat/completions/input_tokens", body)["input_tokens"]
    assert counted(strict_tiny, c) == by_chat


def answered_alike(server: LlamaProcess, it: Captured) -> None:
    c = captured_form(it)
    by_native, by_chat = native(server, c), chat(server, c)
    assert by_native.prompt == by_chat.prompt
    assert by_chat.cached == by_native.prompt - 1


SOME = [it for it in captured() if it.name in {"claude-code-2.1.330-tool-2", "claude-code-2.1.330-websearch-2"}]


@pytest.mark.parametrize("it", SOME, ids=lambda it: it.name)
def test_captured_requests_are_answered_in_both_renderings(strict_tiny: LlamaProcess, it: Captured) -> None:
    answered_alike(strict_tiny, it)


@pytest.mark.slow
@pytest.mark.parametrize("it", captured(), ids=lambda it: it.name)
def test_every_captured_request_is_answered_in_both_renderings(strict_tiny: LlamaProcess, it: Captured) -> None:
    answered_alike(strict_tiny, it)
