"""The tools of a request: read once, and put into an order that stays the same while a conversation goes on."""

from collections.abc import Iterable

import msgspec

from router.errors import RequestInvalid
from router.wire.fields import object_bytes, read_field
from router.wire.parts import literal

PLACEHOLDER = "DeferredToolPlaceholder"
"""Claude Code's stand-in for the tools that it has not sent; it is no tool."""


class Tool(msgspec.Struct, frozen=True, gc=False):
    """A tool that the client runs. `description` is a literal, `input_schema` a JSON object as the client wrote it."""

    name: str
    description: bytes
    input_schema: bytes
    deferred: bool = False


class ServerTool(msgspec.Struct, frozen=True, gc=False):
    """A tool that the hosted API runs, or that only its models know; `index`: its place in `tools`."""

    index: int
    type: str
    name: str


class Toolbox(msgspec.Struct, frozen=True, gc=False):
    """All that came under `tools`, as sent."""

    tools: tuple[Tool, ...] = ()
    server_tools: tuple[ServerTool, ...] = ()

    def names(self) -> set[str]:
        """The names that a `tool_choice` may use."""
        return {tool.name for tool in self.tools} | {tool.name for tool in self.server_tools}

    def known(self, references: Iterable[str]) -> tuple[Tool, ...]:
        """Give the tools that the model knows: those sent outright, then deferred ones in the order of `references`.

        A client puts a tool that was found mid-conversation among the others; in the prompt it comes last, so that what
        is before it stays as it was.
        """
        if not any(tool.deferred for tool in self.tools):
            return self.tools
        outright = tuple(tool for tool in self.tools if not tool.deferred)
        found = {tool.name: tool for tool in self.tools if tool.deferred}
        return outright + tuple(tool for name in references if (tool := found.pop(name, None)))


class _Shape(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = msgspec.Raw(b"")
    defer_loading: bool | None = None


_list = msgspec.json.Decoder(list[_Shape] | None)


def read_tools(data: bytes) -> Toolbox:
    """Read `tools`.

    Raises:
        RequestInvalid: naming the tool and the field.

    """
    tools: list[Tool] = []
    server_tools: list[ServerTool] = []
    for index, shape in enumerate(read_field(_list, data, "tools") or ()):
        path = f"tools.{index}"
        if shape.type not in (None, "custom"):
            server_tools.append(ServerTool(index, shape.type or "", shape.name or ""))
            continue
        if not shape.name:
            raise RequestInvalid(f"{path}.name: field required; name the tool")
        if not shape.input_schema:
            raise RequestInvalid(f'{path}.input_schema: field required; a JSON schema, at least {{"type": "object"}}')
        schema = object_bytes(shape.input_schema, f"{path}.input_schema")
        if shape.name != PLACEHOLDER:
            tools.append(Tool(shape.name, literal(shape.description or ""), schema, bool(shape.defer_loading)))
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise RequestInvalid("tools: Tool names must be unique.")
    return Toolbox(tuple(tools), tuple(server_tools))
