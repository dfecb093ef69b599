"""The checker of chat completion streams lets pass what OpenAI and llama-server send, and nothing that is broken."""

import json
from typing import Any

import pytest

from tests.rig.legality_chat import ChatTool, Illegal, check_chat
from tests.wire.every_way import every_way

Chunk = dict[str, Any] | str


def chunk(delta: object = None, finish: object = None, **changes: object) -> Chunk:
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    whole = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice], **changes}
    return {name: value for name, value in whole.items() if value is not Ellipsis}


def call(index: object = 0, arguments: object = "", **more: object) -> Chunk:
    name = more.pop("name", None)
    function = {"arguments": arguments, **({"name": name} if name is not None else {})}
    return chunk({"tool_calls": [{"index": index, "function": function, **more}]})


def new_call(index: object = 0, id_: object = "call_1", name: object = "f", type_: object = "function") -> Chunk:
    return call(index, id=id_, name=name, type=type_)


def usage(**changes: object) -> Chunk:
    counts = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, **changes}
    return chunk(choices=[], usage=counts)


ROLE = chunk({"role": "assistant", "content": ""})
HELLO = chunk({"content": "hello"})
STOP = chunk(finish="stop")
DONE = "data: [DONE]\n\n"
ERROR: Chunk = {"error": {"message": "broke", "type": "server_error", "param": None, "code": None}}


def wire(*said: Chunk) -> bytes:
    return "".join(it if isinstance(it, str) else f"data: {json.dumps(it)}\n\n" for it in said).encode()


LEGAL: dict[str, tuple[tuple[Chunk, ...], bool]] = {
    "a text": ((ROLE, HELLO, STOP, DONE), False),
    "comments": ((": x\n\n", ROLE, ":\n\n", HELLO, STOP, ": y\n\n", DONE), False),
    "everything in one chunk": ((chunk({"role": "assistant", "content": "hello"}, "stop"), DONE), False),
    "usage": ((ROLE, HELLO, STOP, usage(), DONE), True),
    "usage beside the end": ((ROLE, HELLO, chunk(finish="stop", usage=usage()["usage"]), DONE), True),  # type: ignore[index]
    "usage that is null": ((ROLE, HELLO, chunk(finish="length", usage=None), DONE), False),
    "nothing said": ((ROLE, STOP, DONE), False),
    "a thought": ((ROLE, chunk({"reasoning_content": "hm"}), HELLO, STOP, DONE), False),
    "a call": ((ROLE, new_call(), call(0, '{"a"'), call(0, ":1}"), chunk(finish="tool_calls"), DONE), False),
    "a call broken off": ((ROLE, new_call(), call(0, '{"a"'), chunk(finish="length"), DONE), False),
    "a server's own fields": ((chunk({"role": "assistant"}, timings={}), HELLO, STOP, DONE), False),
    "an error first": ((ERROR,), False),
    "an error in the middle": ((ROLE, HELLO, ERROR), True),
}
BROKEN: dict[str, tuple[tuple[Chunk, ...], bool, str]] = {
    "no end": ((ROLE, HELLO), False, "ends without [DONE]"),
    "no [DONE]": ((ROLE, HELLO, STOP), False, "ends without [DONE]"),
    "nothing": ((), False, "ends without [DONE]"),
    "[DONE] alone": ((DONE,), False, "[DONE] without finish_reason"),
    "[DONE] too early": ((ROLE, HELLO, DONE), False, "[DONE] without finish_reason"),
    "two [DONE]": ((ROLE, STOP, DONE, DONE), False, "after the end"),
    "a comment after the end": ((ROLE, STOP, DONE, ":\n\n"), False, "after the end"),
    "an error after [DONE]": ((ROLE, STOP, DONE, ERROR), False, "after the end"),
    "[DONE] after an error": ((ROLE, STOP, ERROR, DONE), False, "after the end"),
    "a second error": ((ERROR, ERROR), False, "after the end"),
    "an error without a message": (({"error": {"type": "x"}},), False, "without a message"),
    "an error without a type": (({"error": {"message": "x"}},), False, "without a type"),
    "an error that is text": (({"error": "x"},), False, "an error that is no object"),
    "a name": (("event: x\ndata: {}\n\n",), False, "an event with the name 'x'"),
    "an array": (("data: []\n\n",), False, "data that is no object"),
    "no role": ((HELLO, STOP, DONE), False, "a first chunk without the role"),
    "another role": ((chunk({"role": "user"}),), False, "a first chunk without the role"),
    "another role later": ((ROLE, chunk({"role": "user"})), False, "role 'user'"),
    "another kind": ((chunk(object="chat.completion"),), False, "object 'chat.completion'"),
    "no id": ((chunk(id=...),), False, "no id"),
    "an empty model": ((chunk(model=""),), False, "no model"),
    "a time that is text": ((chunk(created="7"),), False, "no created"),
    "another id": ((ROLE, chunk({"content": "x"}, id="c2")), False, "another id, model or time"),
    "another model": ((ROLE, chunk({"content": "x"}, model="n")), False, "another id, model or time"),
    "another time": ((ROLE, chunk({"content": "x"}, created=8)), False, "another id, model or time"),
    "no choices": ((chunk(choices=...),), False, "choices that are no list"),
    "two choices": ((chunk(choices=[{}, {}]),), False, "choices that are no list of at most one"),
    "a second choice": ((chunk(choices=[{"index": 1, "delta": {}}]),), False, "index is not 0"),
    "a choice without index": ((chunk(choices=[{"delta": {}}]),), False, "index is not 0"),
    "no delta": ((chunk(choices=[{"index": 0}]),), False, "no delta"),
    "no finish_reason": ((chunk(choices=[{"index": 0, "delta": {"role": "assistant"}}]),), False, "not even null"),
    "content that is a number": ((ROLE, chunk({"content": 7})), False, "content that is no text"),
    "a thought that is a list": ((ROLE, chunk({"reasoning_content": []})), False, "reasoning_content that is no text"),
    "neither choice nor usage": ((ROLE, chunk(choices=[])), True, "no choice and no usage"),
    "a new reason": ((ROLE, chunk(finish="end_turn")), False, "finish_reason 'end_turn'"),
    "two reasons": ((ROLE, STOP, STOP), False, "a choice after finish_reason"),
    "content after the reason": ((ROLE, STOP, HELLO), False, "a choice after finish_reason"),
    "no tool_calls in tool_calls": ((ROLE, chunk({"tool_calls": []})), False, "tool_calls without a call"),
    "a call without index": ((ROLE, new_call(None)), False, "a tool call without an index"),
    "a call without function": ((ROLE, chunk({"tool_calls": [{"index": 0}]})), False, "without a function"),
    "a call that skips a number": ((ROLE, new_call(1)), False, "tool call 1 after 0 of them"),
    "a call with a number below 0": ((ROLE, new_call(-1)), False, "tool call -1 after 0"),
    "a call without id": ((ROLE, new_call(id_="")), False, "a new tool call without an id"),
    "a call without type": ((ROLE, new_call(type_=None)), False, "a new tool call of type None"),
    "a call without name": ((ROLE, new_call(name="")), False, "a new tool call without a name"),
    "arguments before the call": ((ROLE, call(0, "{}")), False, "a new tool call without an id"),
    "two calls with one id": ((ROLE, new_call(), new_call(1)), False, "two tool calls with one id"),
    "an id for the second time": ((ROLE, new_call(), new_call()), False, "for the second time"),
    "arguments that are an object": ((ROLE, call(0, {}, id="c", name="f", type="function")), False, "no text"),
    "arguments that are cut": ((ROLE, new_call(), call(0, "{"), chunk(finish="tool_calls")), False, "arguments '{'"),
    "no arguments": ((ROLE, new_call(), chunk(finish="stop")), False, "arguments ''"),
    "arguments that are a list": ((ROLE, new_call(), call(0, "[]"), STOP), False, "arguments '[]'"),
    "tool_calls without a call": ((ROLE, chunk(finish="tool_calls")), False, "tool_calls without a call"),
    "usage that nobody asked for": ((ROLE, STOP, usage()), False, "usage that nobody asked for"),
    "usage that is missing": ((ROLE, STOP, DONE), True, "without the usage that was asked for"),
    "usage too early": ((ROLE, usage()), True, "usage before finish_reason"),
    "usage twice": ((ROLE, STOP, usage(), usage()), True, "usage for the second time"),
    "usage without counts": ((ROLE, STOP, usage(prompt_tokens=None)), True, "usage without its counts"),
    "a wrong total": ((ROLE, STOP, usage(total_tokens=8)), True, "not the sum"),
    "too much cached": (
        (ROLE, STOP, usage(prompt_tokens_details={"cached_tokens": 6})), True, "more cached tokens than the prompt has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEGAL)
def test_what_is_legal_passes(name: str) -> None:
    said, asked = LEGAL[name]
    check_chat(wire(*said), usage_asked=asked)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_refused_with_its_rule(name: str) -> None:
    said, asked, why = BROKEN[name]
    with pytest.raises(Illegal) as refused:
        check_chat(wire(*said), usage_asked=asked)
    assert why in str(refused.value)


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_stream_that_is_cut_anywhere_is_not_legal(name: str) -> None:
    said, asked = LEGAL[name]
    raw = wire(*said)
    for head, tail in [cut for cut in every_way(raw) if len(cut) == 2]:
        if tail:
            with pytest.raises(Illegal):
                check_chat(head, usage_asked=asked)


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_stream_that_was_left_may_end_anywhere(name: str) -> None:
    said, asked = LEGAL[name]
    raw = wire(*said)
    for end in range(len(raw)):
        check_chat(raw[:end], usage_asked=asked, whole=False)


def test_a_stream_that_was_left_must_be_legal_till_then() -> None:
    with pytest.raises(Illegal):
        check_chat(wire(ROLE, STOP, HELLO) + b"data: {", whole=False)


def test_what_was_said_is_told() -> None:
    said = check_chat(
        wire(
            ": hi\n\n",
            chunk({"role": "assistant", "content": None}),
            chunk({"reasoning_content": "h"}),
            chunk({"reasoning_content": "m"}),
            chunk({"content": "data: [DONE]\n\n"}),
            new_call(),
            new_call(1, "call_2", "g"),
            call(0, "{}"),
            call(1, '{"a":1}'),
            chunk(finish="tool_calls"),
            usage(prompt_tokens_details={"cached_tokens": 4}),
            DONE,
        ),
        usage_asked=True,
    )
    assert ("c1", "m", 7, "data: [DONE]\n\n", "hm") == (said.id, said.model, said.created, said.text, said.reasoning)
    assert (ChatTool("call_1", "f", "{}"), ChatTool("call_2", "g", '{"a":1}')) == said.tools
    assert ("tool_calls", None, 10, ("hi",)) == (said.finish_reason, said.error, len(said.chunks), said.comments)
    assert said.usage is not None
    assert 5 == said.usage["prompt_tokens"]


def test_an_error_is_told() -> None:
    said = check_chat(wire(ROLE, HELLO, ERROR))
    assert ("hello", None) == (said.text, said.finish_reason)
    assert said.error is not None
    assert "broke" == said.error["message"]
