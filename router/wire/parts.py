"""What a message is made of once it has been read: the pieces that both dialects render, as ready JSON.

A *literal* is the JSON string of a text, quotes included (`b'"hi"'`). Rendering a turn is then joining bytes, and what
was written once can be kept.
"""

import contextlib
import re
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from router.wire.anthropic import Role

Literal: TypeAlias = bytes
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_blank = re.compile(rb"[ \t\r\n]").search
_SEAM = b"\\n"


class Image(msgspec.Struct, frozen=True, gc=False):
    """An image: `source` is the Messages API's object, `url` the literal of a URL (`data:` when it came as base64)."""

    source: bytes
    url: Literal


Part: TypeAlias = Literal | Image


class Call(msgspec.Struct, frozen=True, gc=False):
    """A tool call: `input` is a JSON object as the client wrote it."""

    id: str
    name: str
    input: bytes

    @property
    def arguments(self) -> Literal:
        """The literal of the input's text, as chat completions want it.

        Compact, as llama-server writes it when it reads the object, so that both ways give the same prompt.
        """
        given = self.input
        if _blank(given):
            # Nested beyond measure: the instance may say what it makes of it.
            with contextlib.suppress(msgspec.DecodeError, RecursionError):
                given = _encode(_decode(given))
        return literal(given.decode())


class Result(msgspec.Struct, frozen=True, gc=False):
    """What a tool gave back; always one part at least, of which no two neighbours are texts."""

    id: str
    parts: tuple[Part, ...]


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message of a request, read. Which fields can be filled depends on the role."""

    role: Role
    parts: tuple[Part, ...] = ()
    results: tuple[Result, ...] = ()
    thinking: tuple[Literal, ...] = ()
    calls: tuple[Call, ...] = ()
    references: tuple[str, ...] = ()
    """Tools that a result has made known, in order."""
    dropped: tuple[str, ...] = ()
    """Types of blocks that no local model can read."""
    images: bool = False
    """An image is among the parts, or in a result."""


NO_RESULT = Result("", (b'"No result."',))


def literal(text: str) -> Literal:
    """Write a text as JSON."""
    return _encode(text)


def joined(literals: Sequence[Literal], seam: bytes = _SEAM) -> Literal:
    """Make one literal of several; between them a line break, or `seam` as JSON writes it. Of none: the empty one."""
    if len(literals) == 1:
        return literals[0]
    return b'"' + seam.join([it[1:-1] for it in literals]) + b'"'


def settled(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Join neighbouring texts.

    llama-server joins them like this for most templates; those that print parts themselves would run them together.
    """
    if len(parts) < 2:
        return tuple(parts)
    out: list[Part] = []
    texts: list[Literal] = []
    for part in parts:
        if isinstance(part, bytes):
            texts.append(part)
            continue
        if texts:
            out.append(joined(texts))
            texts = []
        out.append(part)
    if texts:
        out.append(joined(texts))
    return tuple(out)
