"""A tool that must be called, by a llama-server.

It takes the object that names a tool for "auto", and what `required` asks for is not enforced for every template. A
schema is: so the tool's own is asked for, and the answer's text is the input of the call. The tools stay in the prompt
as they were, which keeps it equal to the turns before.
"""

import msgspec

from router.wire.canonical import Canonical
from router.wire.openai import Delta, FunctionPart, ToolCallPart
from router.wire.tools import Tool


def forced_tool(call: Canonical) -> Tool | None:
    """Return the tool that the answer has to call; None: there is a choice, or the answer is begun already."""
    choice = call.tool_choice
    if choice is None or call.prefill is not None:
        return None
    if choice.kind == "tool":
        return next((tool for tool in call.tools if tool.name == choice.name), None)
    return call.tools[0] if choice.kind == "any" and len(call.tools) == 1 else None


def as_call(delta: Delta, name: str) -> Delta:
    """Take the text of an answer, or of a piece of one, for the input of a call of this tool."""
    if not delta.content:
        return delta
    part = ToolCallPart(index=0, function=FunctionPart(name=name, arguments=delta.content))
    return msgspec.structs.replace(delta, content=None, tool_calls=(part,))
