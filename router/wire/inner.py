"""What stands inside a tool result or a document, as texts and images."""

from collections.abc import Sequence
from typing import TypeAlias

from router.wire import shapes
from router.wire.listing import Listed, listed
from router.wire.media import document_text, image
from router.wire.parts import Part, joined, literal, settled

_ERROR = "Error: "


ToolResult: TypeAlias = shapes.ToolResult | shapes.LooseResult


def result_parts(block: ToolResult, path: str, dropped: list[str], references: list[str]) -> tuple[Part, ...]:
    """Give the content of a tool result at `path`, an empty text where it has none; `references`: tools that it names.

    `is_error` becomes a word before it: a prompt has nothing else for it.
    """
    parts: list[Part] = []
    for place, inner in _blocks(_result_content(block, path, dropped)):
        if isinstance(inner, shapes.ToolReference):
            references.append(inner.tool_name)
        parts += as_parts(inner, f"{path}.content.{place}", dropped)
    if block.is_error:
        parts = _as_error(parts)
    return settled(parts) or (literal(""),)


def _result_content(block: ToolResult, path: str, dropped: list[str]) -> Listed:
    if isinstance(block, shapes.LooseResult):
        return listed(bytes(block.content) or b"null", f"{path}.content", dropped)
    return list(enumerate(block.content)) if isinstance(block.content, list) else block.content or ""


def as_parts(block: shapes.Block, path: str, dropped: list[str]) -> list[Part]:
    """Give a block that may stand inside another one; the type of any other goes into `dropped`."""
    match block:
        case shapes.Text(text):
            return _texts(text)
        case shapes.ImageBlock(source):
            return [image(source, path)]
        case shapes.ToolReference(tool_name):
            return _texts(f"Tool {tool_name} is now available.")
        case shapes.SearchResult(source, title, content):
            return _titled([title, source], _within(bytes(content), f"{path}.content", dropped))
        case shapes.Document(source, title, context):
            if source.type == "content":
                within = _within(bytes(source.content) or b"null", f"{path}.source.content", dropped)
            else:
                within = _texts(document_text(source, path))
            return _titled([title, context], within)
        case _:
            dropped.append(str(block.__struct_config__.tag))
            return []


def _as_error(parts: list[Part]) -> list[Part]:
    if not parts or not isinstance(parts[0], bytes):
        return [literal(_ERROR), *parts]
    start = literal(_ERROR)[:-1]
    return parts if parts[0].startswith(start) else [start + parts[0][1:], *parts[1:]]


def _within(content: bytes, path: str, dropped: list[str]) -> list[Part]:
    parts: list[Part] = []
    for place, block in _blocks(listed(content, path, dropped)):
        if isinstance(block, shapes.Text | shapes.ImageBlock):
            parts += as_parts(block, f"{path}.{place}", dropped)
        else:
            dropped.append(str(block.__struct_config__.tag))
    return parts


def _titled(lines: Sequence[str | None], parts: list[Part]) -> list[Part]:
    heads = [literal(line) for line in lines if line]
    return [joined(heads), *parts] if heads else parts


def _texts(text: str) -> list[Part]:
    return [literal(text)] if text else []


def _blocks(found: Listed) -> Sequence[tuple[int, shapes.Block]]:
    return [(0, shapes.Text(found))] if isinstance(found, str) else found
