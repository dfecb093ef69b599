"""Tools that must be called, by a llama-server.

It takes the object that names a tool for "auto", and what `required` asks for is not enforced for every template. A
schema is: so the tool's own is asked for, and the answer's text is the input of the call. Where there is a choice the
schema is that of any one call, with its name, and the call is told when it is whole. The tools stay in the prompt as
they were, which keeps it equal to the turns before.
"""

from typing import Any

import msgspec

from router.wire.canonical import Canonical
from router.wire.openai import Delta, FunctionPart, ToolCallPart
from router.wire.reading import read
from router.wire.tools import Tool

ANY = "*"
"""Stands for the name of the tool where the answer itself says it; no tool may be called so."""

NO_THINKING_TOKENS = 1
"""The thinking that a forced call may have before it. One token and not none: where the template itself opens the
thought, llama-server with a budget of 0 loses the start of the mark that ends it, and the thought goes on.
"""


class _Named(msgspec.Struct, frozen=True):
    name: str
    arguments: msgspec.Raw


_named = msgspec.json.Decoder(_Named)
_any = msgspec.json.Decoder()


def forced_tools(call: Canonical) -> tuple[Tool, ...]:
    """Return those of which the answer has to call one; none: it may call none, or is begun already."""
    choice = call.tool_choice
    if choice is None or call.prefill is not None:
        return ()
    if choice.kind == "tool":
        return tuple(tool for tool in call.tools if tool.name == choice.name)
    return call.tools if choice.kind == "any" else ()


def forced_name(tools: tuple[Tool, ...]) -> str:
    """What the answer's reader is told: the tool's name, `ANY` for a choice, empty for none."""
    return "" if not tools else tools[0].name if len(tools) == 1 else ANY


def forced_schema(tools: tuple[Tool, ...]) -> bytes:
    """Return the JSON schema of the answer's text."""
    if len(tools) == 1:
        return tools[0].input_schema
    calls, shared = [], []
    for number, tool in enumerate(tools):
        schema = tool.input_schema
        if b'"$ref"' in schema:  # it points at its own root, which is not that of the whole
            place = f"#/$defs/tool{number}"
            shared.append(b'"tool%d":%b' % (number, _moved(schema, place)))
            schema = b'{"$ref":"%b"}' % place.encode()
        calls.append(
            b'{"type":"object","properties":{"name":{"const":%b},"arguments":%b},"required":["name","arguments"],'
            b'"additionalProperties":false}' % (msgspec.json.encode(tool.name), schema)
        )
    defs = b',"$defs":{%b}' % b",".join(shared) if shared else b""
    return b'{"anyOf":[%b]%b}' % (b",".join(calls), defs)


def as_call(delta: Delta, name: str) -> Delta:
    """Take the text of an answer, or of a piece of one, for the input of a call of this tool."""
    if not delta.content:
        return delta
    part = ToolCallPart(index=0, function=FunctionPart(name=name, arguments=delta.content))
    return msgspec.structs.replace(delta, content=None, tool_calls=(part,))


def chosen_call(text: str) -> Delta | None:
    """Read the text of an answer that had a choice; None: it is no call, as when its length has cut it."""
    try:
        call = read(_named, text.encode())
    except msgspec.DecodeError:
        return None
    part = ToolCallPart(index=0, function=FunctionPart(name=call.name, arguments=bytes(call.arguments).decode()))
    return Delta(tool_calls=(part,))


def _moved(schema: bytes, place: str) -> bytes:
    """The same schema where its root is no longer the document's but at `place`, a JSON pointer (RFC 6901)."""

    def moved(it: Any) -> Any:
        if isinstance(it, list):
            return [moved(one) for one in it]
        if not isinstance(it, dict):
            return it
        return {name: _pointed(value, place) if name == "$ref" else moved(value) for name, value in it.items()}

    return msgspec.json.encode(moved(read(_any, schema)))


def _pointed(target: Any, place: str) -> Any:
    return place + target[1:] if isinstance(target, str) and target.startswith("#") else target
