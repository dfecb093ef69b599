"""The blocks of one streamed message as the client gets them.

One block is open at a time, indexes run from 0 without a gap, a block closes before the next opens, a thinking block
ends with its signature. None of that can be broken from outside: whoever writes only says what comes next.
"""

import msgspec

from router.translate.render import event
from router.wire import ids, signature
from router.wire.reading import read

# Of a delta: its type, and the field with the piece.
_PIECE = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}
_TEXT = {"type": "text", "text": ""}
_THINKING = {"type": "thinking", "thinking": "", "signature": ""}
_encode = msgspec.json.encode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class BrokenAnswerError(Exception):
    """What the instance says cannot be made into a legal answer. The message completes "instance x ..."."""


class ToolIds:
    """The client's ids of one message's tool calls, no two alike, whatever the instance calls them."""

    __slots__ = ("_given", "_keep", "_message_id")

    def __init__(self, message_id: str, *, keep: bool = False) -> None:
        """`message_id`: what the id of a call without one is made from. `keep`: the ids are right as they come."""
        self._keep = keep
        self._message_id = message_id.removeprefix("msg_")
        self._given: set[str] = set()

    def take(self, upstream_id: str | None) -> str:
        """Return the id of the next call; one that a model gave to two calls is replaced on the second."""
        fallback = f"toolu_{self._message_id}_{len(self._given)}"
        given = upstream_id if self._keep and upstream_id else ids.for_client(upstream_id or "", fallback=fallback)
        if given in self._given:
            given = fallback
        self._given.add(given)
        return given


class BlockWriter:
    """Pieces in, events out. `kind`: of the open block, empty when none is; `index`: of the open or the last one."""

    __slots__ = ("_head", "_ids", "_omit_thinking", "_pieces", "_signature", "index", "kind", "tools")

    def __init__(self, message_id: str, *, omit_thinking: bool = False, keep_ids: bool = False) -> None:
        """`omit_thinking`: thinking blocks carry no text; their signature holds it (wire.signature)."""
        self._ids = ToolIds(message_id, keep=keep_ids)
        self._omit_thinking = omit_thinking
        self._head = b""
        self._pieces: list[str] | None = None
        self._signature = ""
        self.kind = ""
        self.index = -1
        self.tools = 0

    def __repr__(self) -> str:
        return f"BlockWriter({self.kind or 'nothing'} open, index {self.index}, {self.tools} tools)"

    @property
    def head(self) -> bytes:
        """How each delta event of the open block begins, up to its piece, a JSON string; empty: none goes out.

        After the piece come `}}` and the blank line.
        """
        return self._head

    @property
    def pieces(self) -> list[str] | None:
        """Where pieces that go out without `write` have to be noted; None: nobody needs them."""
        return self._pieces

    def open_text(self) -> bytes:
        """Open a text block. With nothing to write it must stay unopened: an empty one is refused on its way back."""
        return self._open("text", _TEXT)

    def open_thinking(self) -> bytes:
        """Open a thinking block."""
        out = self._open("thinking", _THINKING)
        if self._omit_thinking:
            self._head = b""
            self._pieces = []
        return out

    def open_tool(self, upstream_id: str | None, name: str) -> bytes:
        """Open a tool_use block; no arguments at all mean an empty object."""
        if not name:
            raise BrokenAnswerError("called a tool without a name")
        block = {"type": "tool_use", "id": self._ids.take(upstream_id), "name": name, "input": {}}
        out = self._open("tool_use", block)
        self._pieces = []
        self.tools += 1
        return out

    def open_other(self, kind: str, block: msgspec.Raw) -> bytes:
        """Open a block of a kind that this router does not know, as it is."""
        return self._open(kind, block)

    def write(self, piece: str) -> bytes:
        """Add to the open text, thinking or tool_use block."""
        if not piece:
            return b""
        if self._pieces is not None:
            self._pieces.append(piece)
        return b"%b%b}}\n\n" % (self._head, _encode(piece)) if self._head else b""

    def write_other(self, delta: object) -> bytes:
        """Add a delta of another type to the open block, as it is."""
        fields = {"type": "content_block_delta", "index": self.index, "delta": delta}
        return event(b"content_block_delta", fields)

    def sign(self, signature_: str) -> None:
        """Give the open thinking block a signature that is not ours; it goes out when the block closes."""
        self._signature = signature_

    @property
    def whole(self) -> bool:
        """The open block may close: it is no tool call, or its arguments are one JSON object."""
        if self.kind != "tool_use" or not self._pieces:
            return True
        try:
            read(_object, "".join(self._pieces).encode())
        except msgspec.DecodeError:
            return False
        return True

    def close(self, *, cut: bool = False) -> bytes:
        """Close what is open. `cut`: the answer ends here by its token limit or a stop sequence.

        Raises:
            BrokenAnswerError: a tool call is not whole, and nothing says that it was cut.

        """
        if not self.kind:
            return b""
        if not cut and not self.whole:
            raise BrokenAnswerError("sent tool arguments that are not a JSON object")
        out = b""
        if self.kind == "thinking":
            sealed = self._signature
            if self._omit_thinking and not sealed:
                sealed = signature.seal("".join(self._pieces or ()))
            out = self.write_other({"type": "signature_delta", "signature": sealed})
        self.kind = self._signature = ""
        self._head = b""
        self._pieces = None
        return out + event(b"content_block_stop", {"type": "content_block_stop", "index": self.index})

    def _open(self, kind: str, block: object) -> bytes:
        out = self.close()
        self.index += 1
        self.kind = kind
        if kind in _PIECE:
            type_, field = _PIECE[kind]
            head = f'{{"type":"content_block_delta","index":{self.index},"delta":{{"type":"{type_}","{field}":'
            self._head = b"event: content_block_delta\ndata: " + head.encode()
        fields = {"type": "content_block_start", "index": self.index, "content_block": block}
        return out + event(b"content_block_start", fields)
