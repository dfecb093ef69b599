"""The content blocks of the Messages API that mean something to a local model; other fields of them are ignored."""

import msgspec

NOTHING = msgspec.Raw(b"")


class Text(msgspec.Struct, tag="text", frozen=True, gc=False):
    """Plain text."""

    text: str


class Thinking(msgspec.Struct, tag="thinking", frozen=True, gc=False):
    """What the model thought before; `thinking` is empty where the client asked not to see it."""

    thinking: str
    signature: str | None = None


class RedactedThinking(msgspec.Struct, tag="redacted_thinking", frozen=True, gc=False):
    """Thinking that only the hosted API can read."""


class ToolUse(msgspec.Struct, tag="tool_use", frozen=True, gc=False):
    """A call that the model made."""

    id: str
    name: str
    input: msgspec.Raw = msgspec.Raw(b"{}")


class ToolReference(msgspec.Struct, tag="tool_reference", frozen=True, gc=False):
    """A deferred tool that a search has found."""

    tool_name: str


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where an image or a document comes from."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    content: msgspec.Raw = NOTHING


class ImageBlock(msgspec.Struct, tag="image", frozen=True, gc=False):
    """An image."""

    source: Source


class Document(msgspec.Struct, tag="document", frozen=True, gc=False):
    """A file, or a text that stands for one."""

    source: Source
    title: str | None = None
    context: str | None = None


class SearchResult(msgspec.Struct, tag="search_result", frozen=True, gc=False):
    """A passage and where it was found."""

    source: str
    title: str
    content: msgspec.Raw


Inner = Text | ImageBlock | ToolReference | Document | SearchResult


class ToolResult(msgspec.Struct, tag="tool_result", frozen=True, gc=False):
    """What came of a call."""

    tool_use_id: str
    content: str | list[Inner] | None = None
    is_error: bool | None = None


class LooseResult(msgspec.Struct, tag="tool_result", frozen=True, gc=False):
    """The same with blocks in it that are not in `Inner`."""

    tool_use_id: str
    content: msgspec.Raw = NOTHING
    is_error: bool | None = None


Known = Text | ToolResult | ToolUse | Thinking | RedactedThinking | ImageBlock | ToolReference | Document | SearchResult
Block = Known | LooseResult
KINDS: dict[str, type[Block]] = {
    "text": Text,
    "image": ImageBlock,
    "tool_result": LooseResult,
    "tool_use": ToolUse,
    "thinking": Thinking,
    "redacted_thinking": RedactedThinking,
    "tool_reference": ToolReference,
    "document": Document,
    "search_result": SearchResult,
}
