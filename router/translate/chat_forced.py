"""A tool that must be called, for a client of the OpenAI API whose call goes to a llama-server.

Enforced by a schema, for the reasons in `translate.forced`; other servers keep to `tool_choice` themselves.
"""

import msgspec

from router.errors import RequestInvalid
from router.translate.arguments import Arguments
from router.translate.forced import ANY, chosen_call, forced_name, forced_schema
from router.wire.chat import ChatHead, read_part
from router.wire.openai import arguments_text
from router.wire.tools import Tool

_NOTHING = frozenset((b"", b"null", b"[]"))
_EMPTY = frozenset((b"", b"null", b"[]", b'""'))
_ANY_OBJECT = {"type": msgspec.Raw(b'"object"'), "properties": msgspec.Raw(b"{}")}


class ForcedChat(msgspec.Struct, frozen=True):
    """A call that the answer has to be. `name`: of the tool, or `forced.ANY`. `schema`: of the answer's text.

    `may_break`: the client has stop words, so the text may end anywhere.
    """

    name: str
    schema: bytes
    may_break: bool = False

    def call(self, text: str) -> tuple[str, str] | None:
        """Read a whole text: the tool's name and its arguments; None where it is no call."""
        if self.name != ANY:
            return self.name, text
        called = chosen_call(text)
        function = called.tool_calls[0].function if called is not None and called.tool_calls else None
        return None if function is None else (function.name or "", arguments_text(function))


class _Function(msgspec.Struct, frozen=True, gc=False):
    name: str
    parameters: dict[str, msgspec.Raw] | None = None


class _Tool(msgspec.Struct, frozen=True, gc=False):
    type: str = "function"
    function: _Function | None = None


class _Named(msgspec.Struct, frozen=True, gc=False):
    name: str


class _Choice(msgspec.Struct, frozen=True, gc=False):
    type: str
    function: _Named | None = None


class _Asked(msgspec.Struct, frozen=True, gc=False):
    tools: tuple[_Tool, ...] = ()
    tool_choice: str | _Choice | None = None
    stop: msgspec.Raw = msgspec.Raw(b"")


_asked = msgspec.json.Decoder(_Asked)


def is_object(text: str) -> bool:
    """Whether arguments are one JSON object."""
    arguments = Arguments()
    arguments.add(text)
    return arguments.begun and arguments.is_object()


def has_tools(head: ChatHead) -> bool:
    """Whether the request brings any."""
    return bytes(head.tools) not in _NOTHING


def forced_chat(head: ChatHead, body: bytes) -> ForcedChat | None:
    """Say what the answer has to call; None: it need not call anything. `head`: what `decode_chat` made of this body.

    Raises:
        RequestInvalid: llama-server would take the choice for "auto" (it names no tool of the request, or is of a kind
            that only OpenAI has), or the answer is begun already and cannot begin with a call.

    """
    if not has_tools(head) or b'"tool_choice"' not in body:
        return None
    asked = read_part(_asked, body)
    choice = asked.tool_choice
    if choice is None or choice in ("auto", "none"):
        return None
    if isinstance(choice, str) and choice != "required":
        raise RequestInvalid("Invalid value for 'tool_choice'. Supported values are: 'none', 'auto', 'required'.")
    tools = _named(asked.tools, choice) if isinstance(choice, _Choice) else asked.tools
    if head.messages[-1].role == "assistant":
        raise RequestInvalid(
            "Invalid value for 'tool_choice': the answer would have to begin with the call, and the last message has "
            "begun it otherwise; leave that message out, or let 'tool_choice' be 'auto'."
        )
    known = tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools))
    return ForcedChat(forced_name(known), forced_schema(known), bytes(asked.stop) not in _EMPTY)


def _named(tools: tuple[_Tool, ...], choice: _Choice) -> tuple[_Tool, ...]:
    if choice.type != "function" or choice.function is None:
        raise RequestInvalid(
            "Invalid value for 'tool_choice.type': only 'function' is supported; send only tools that may be called."
        )
    name = choice.function.name
    found = tuple(tool for tool in tools if tool.function is not None and tool.function.name == name)
    if not found:
        raise RequestInvalid(f"Invalid value for 'tool_choice': no tool is named {name[:64]!r}.")
    return found[:1]


def _tool(tool: _Tool, path: str) -> Tool:
    """As the Messages side knows one; its arguments are an object, whatever its parameters leave open."""
    if tool.type != "function" or tool.function is None:
        raise RequestInvalid(f"Invalid value for '{path}.type': only tools of type 'function' are supported.")
    schema = {"type": _ANY_OBJECT["type"], **(tool.function.parameters or _ANY_OBJECT)}
    return Tool(tool.function.name, b"", msgspec.json.encode(schema))
