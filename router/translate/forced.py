"""Tools that must be called, by a llama-server.

It takes the object that names a tool for "auto", and what `required` asks for is not enforced for every template. A
schema is: so the tool's own is asked for, and the answer's text is the input of the call. Where there is a choice the
schema is that of any one call, with its name, and the call is told when it is whole. The tools stay in the prompt as
they were, which keeps it equal to the turns before.
"""

import msgspec

from router.wire.canonical import Canonical
from router.wire.openai import Delta, FunctionPart, ToolCallPart
from router.wire.reading import read
from router.wire.tools import Tool

ANY = "*"
"""Stands for the name of the tool where the answer itself says it; no tool may be called so."""


class _Named(msgspec.Struct, frozen=True):
    name: str
    arguments: msgspec.Raw


_named = msgspec.json.Decoder(_Named)


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
    return b'{"anyOf":[%b]}' % b",".join(
        [
            b'{"type":"object","properties":{"name":{"const":%b},"arguments":%b},"required":["name","arguments"],'
            b'"additionalProperties":false}' % (msgspec.json.encode(tool.name), tool.input_schema)
            for tool in tools
        ]
    )


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
