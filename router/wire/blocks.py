"""Reads the content of one message: any shape that the Messages API allows, into the parts of `wire.parts`.

A client sends its whole conversation with every turn, so most of a body are texts, tool calls and results in text: they
are copied as they stand, escapes and all, and only what is unusual is decoded. What depends on other messages (merging
turns, ordering results) is not done here.
"""

import re

import msgspec

from router.errors import RequestInvalid
from router.wire import shapes
from router.wire.anthropic import BlockHead, MessageHead, Role
from router.wire.fields import object_bytes
from router.wire.ids import for_instance
from router.wire.inner import ToolResult, as_parts, result_parts
from router.wire.listing import listed
from router.wire.media import image
from router.wire.parts import Call, Image, Message, Part, Result, literal, settled
from router.wire.signature import unseal

_ATTRIBUTION = re.compile(r"x-anthropic-billing-header:[^\n]*\n?")
_NO_ERROR = (b"", b"false", b"null")


def read_head(head: MessageHead, index: int) -> Message:
    """Read the message that is number `index` of its request.

    Raises:
        RequestInvalid: naming the block and the field.

    """
    content = head.content
    if isinstance(content, str):
        reader = _Reader(head.role)
        reader.take_text(content)
        return reader.message()
    found = _plain_blocks(head.role, content)
    if found is None:
        found = read_message(head.role, msgspec.json.encode(content), f"messages.{index}.content")
    return found


def _plain_blocks(role: Role, blocks: tuple[BlockHead, ...]) -> Message | None:
    """Read what needs no decoding; None: something in it does, or is wrong."""
    parts: list[Part] = []
    results: list[Result] = []
    calls: list[Call] = []
    for block in blocks:
        kind = block.type
        if kind == "tool_result" and role == "user":
            text, id_ = bytes(block.content), bytes(block.tool_use_id)
            if text[:1] != b'"' or not _plain(id_) or bytes(block.is_error) not in _NO_ERROR:
                return None
            results.append(Result(for_instance(id_[1:-1].decode()), (text,)))
        elif kind == "text" and role != "system":
            text = bytes(block.text)
            if text[:1] != b'"':
                return None
            if len(text) > 2:
                parts.append(text)
        elif kind == "tool_use" and role == "assistant":
            given, id_, name = bytes(block.input), bytes(block.id), bytes(block.name)
            if given[:1] != b"{" or not _plain(id_) or not _plain(name):
                return None
            calls.append(Call(for_instance(id_[1:-1].decode()), name[1:-1].decode(), given))
        else:
            return None
    return Message(role, settled(parts) if len(parts) > 1 else tuple(parts), tuple(results), (), tuple(calls))


def _plain(literal_: bytes) -> bool:
    """It is a string, not empty and without escapes: what is between the quotes is the text."""
    return len(literal_) > 2 and literal_[:1] == b'"' and b"\\" not in literal_


def read_message(role: Role, content: bytes, path: str) -> Message:
    """Read the `content` of a message at `path`, for example `messages.3.content`.

    Raises:
        RequestInvalid: naming the block and the field.

    """
    reader = _Reader(role)
    reader.take_all(content, path)
    return reader.message()


def system_texts(content: bytes, path: str) -> list[bytes]:
    """Give the literals of a system prompt.

    Without Claude Code's attribution line: it comes first, and differs from conversation to conversation.

    Raises:
        RequestInvalid: naming the block and the field.

    """
    return [part for part in read_message("system", content, path).parts if isinstance(part, bytes)]


class _Reader:
    """What has been found so far in one message."""

    def __init__(self, role: Role) -> None:
        self._role: Role = role
        self._parts: list[Part] = []
        self._results: list[Result] = []
        self._thinking: list[bytes] = []
        self._calls: list[Call] = []
        self._references: list[str] = []
        self._dropped: list[str] = []

    def message(self) -> Message:
        return Message(
            self._role,
            tuple(self._parts) if self._role == "system" else settled(self._parts),
            tuple(self._results),
            tuple(self._thinking),
            tuple(self._calls),
            tuple(self._references),
            tuple(self._dropped),
            self._images(),
        )

    def _images(self) -> bool:
        inside = [part for result in self._results for part in result.parts]
        return any(isinstance(part, Image) for part in (*self._parts, *inside))

    def take_all(self, content: bytes, path: str) -> None:
        found = listed(content, path, self._dropped)
        if isinstance(found, str):
            self.take_text(found)
            return
        for place, block in found:
            self._take(block, f"{path}.{place}")

    def _take(self, block: shapes.Block, path: str) -> None:
        match block:
            case shapes.Text(text):
                self.take_text(text)
            case shapes.ToolResult() | shapes.LooseResult():
                self._only("user", "tool_result", path)
                self._result(block, path)
            case shapes.ToolUse():
                self._only("assistant", "tool_use", path)
                self._calls.append(_call(block, path))
            case shapes.Thinking(thinking, signature) if self._role == "assistant":
                if thought := thinking or unseal(signature or "") or "":
                    self._thinking.append(literal(thought))
            case shapes.RedactedThinking():
                pass
            case shapes.ImageBlock(source) if self._role == "user":
                self._parts.append(image(source, path))
            case shapes.Document() | shapes.SearchResult():
                self._parts += as_parts(block, path, self._dropped)
            case _:
                self._dropped.append(str(block.__struct_config__.tag))

    def take_text(self, text: str) -> None:
        if self._role == "system":
            while found := _ATTRIBUTION.match(text):
                text = text[found.end() :]
        if text:
            self._parts.append(literal(text))

    def _result(self, block: ToolResult, path: str) -> None:
        parts = result_parts(block, path, self._dropped, self._references)
        self._results.append(Result(for_instance(block.tool_use_id), parts))

    def _only(self, role: Role, kind: str, path: str) -> None:
        if self._role != role:
            raise RequestInvalid(f"{path}: `{kind}` blocks can only be in `{role}` messages")


def _call(block: shapes.ToolUse, path: str) -> Call:
    if not block.name:
        raise RequestInvalid(f"{path}.name: must not be empty")
    return Call(for_instance(block.id), block.name, object_bytes(block.input, f"{path}.input"))
