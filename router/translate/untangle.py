"""llama-server's blocks, which overlap, told one after the other.

It opens a block when its first piece comes and closes all of them at the very end; an index may be used twice (text
before thinking), skipped (after a thinking prefill text starts at 1) or started again (llama.cpp
tools/server/server-task.cpp, to_json_anthropic). So a piece of text or thinking is placed by its kind. Arguments are
placed by index, and only into the call that is open: a wrong place would corrupt them unseen.
"""

import msgspec

from router.translate.blocks import BlockWriter, BrokenAnswerError
from router.wire.message_events import Block, block_decoder
from router.wire.reading import read


class _Start(msgspec.Struct, frozen=True):
    index: int
    content_block: msgspec.Raw


class _Piece(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None


class _Delta(msgspec.Struct, frozen=True):
    index: int
    delta: msgspec.Raw


class _Stop(msgspec.Struct, frozen=True):
    index: int


_start = msgspec.json.Decoder(_Start)
_delta = msgspec.json.Decoder(_Delta)
_piece = msgspec.json.Decoder(_Piece)
_stop = msgspec.json.Decoder(_Stop)
_input = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


class Untangler:
    """The data of the instance's block events in (UTF-8 for certain), the client's events out.

    `pieces`: how many have come that were not empty. Each method raises msgspec.DecodeError for what is of another
    shape, BrokenAnswerError for what has no place.
    """

    __slots__ = ("_awaited", "_calls", "_upstream_index", "_writer", "pieces")

    def __init__(self, writer: BlockWriter) -> None:
        self._writer = writer
        self._upstream_index = -1
        # Kind and index of a block that has been started and waits for its first piece.
        self._awaited: tuple[str, int] | None = None
        self._calls: set[tuple[int, str, str]] = set()
        self.pieces = 0

    def __repr__(self) -> str:
        return f"Untangler({self._writer!r}, upstream index {self._upstream_index})"

    @property
    def common(self) -> bytes:
        """How an event begins that may go out as it is, up to the quote before its piece; empty: none may."""
        head = self._writer.head
        return head + b'"' if head and self._upstream_index == self._writer.index and self._awaited is None else b""

    def start(self, data: bytes) -> bytes:
        """Take a content_block_start. Text and thinking open with their first piece."""
        started = read(_start, data)
        block = read(block_decoder, started.content_block)
        match block.type:
            case "text" | "thinking":
                if (self._writer.kind, self._upstream_index) != (block.type, started.index):
                    self._awaited = (block.type, started.index)
                piece = block.text if block.type == "text" else block.thinking
                out = self._place(block.type, started.index, piece or "")
                return out + (self._sign(started.index, block.signature) if block.signature else b"")
            case "tool_use":
                return self._start_call(started.index, block)
            case "":
                raise BrokenAnswerError("opened a block without a type")
            case other:
                self._awaited = None
                out = self._writer.open_other(other, started.content_block)
                self._upstream_index = started.index
                return out

    def delta(self, data: bytes) -> bytes:
        """Take a content_block_delta."""
        added = read(_delta, data)
        piece = read(_piece, added.delta)
        match piece.type:
            case "text_delta":
                return self._place("text", added.index, piece.text or "")
            case "thinking_delta":
                return self._place("thinking", added.index, piece.thinking or "")
            case "input_json_delta" if self._writer.kind in {"", "text", "thinking", "tool_use"}:
                return self._argue(added.index, piece.partial_json or "")
            case "signature_delta":
                return self._sign(added.index, piece.signature) if piece.signature else b""
            case "citations_delta":
                return self._open("text", added.index) + self._writer.write_other(added.delta)
        return self._other(added)

    def stop(self, data: bytes) -> bytes:
        """Take a content_block_stop. Most are late: their block is closed already, or was never opened."""
        index = read(_stop, data).index
        if self._awaited is not None and self._awaited[1] == index:
            self._awaited = None
        if self._upstream_index != index or not self._writer.whole:
            return b""
        return self._writer.close()

    def _other(self, added: _Delta) -> bytes:
        """Pass a delta of a block that this router does not know, such as a server's own tool call.

        One that no known block can have is dropped: clients would stumble over it.
        """
        if self._writer.kind.endswith("_tool_use") and self._upstream_index == added.index:
            return self._writer.write_other(added.delta)
        return b""

    def _place(self, kind: str, index: int, piece: str) -> bytes:
        if not piece:
            return b""
        self.pieces += 1
        return self._open(kind, index) + self._writer.write(piece)

    def _open(self, kind: str, index: int) -> bytes:
        """Have a text or thinking block open: the one that is, unless another has been started since."""
        awaited = self._awaited is not None and self._awaited[0] == kind
        if self._writer.kind == kind and not awaited:
            return b""
        out = self._writer.open_text() if kind == "text" else self._writer.open_thinking()
        if self._awaited is not None and awaited:
            index = self._awaited[1]
            self._awaited = None
        self._upstream_index = index
        return out

    def _sign(self, index: int, signature: str) -> bytes:
        """Keep a signature, unless its block is closed already; llama-server's own are empty and too late."""
        here = ("thinking", index)
        if here not in {self._awaited, (self._writer.kind, self._upstream_index)}:
            return b""
        out = self._open(*here)
        self._writer.sign(signature)
        return out

    def _start_call(self, index: int, block: Block) -> bytes:
        call = (index, block.id or "", block.name or "")
        if call in self._calls:
            return b""  # the last batch forgets what has been started
        piece = bytes(block.input).decode() if read(_input, block.input) else ""
        out = self._writer.open_tool(block.id, block.name or "")
        self._calls.add(call)
        self._upstream_index = index
        self._awaited = None
        self.pieces += bool(piece)
        return out + self._writer.write(piece)

    def _argue(self, index: int, piece: str) -> bytes:
        if not piece:
            return b""
        if self._writer.kind != "tool_use" or self._upstream_index != index:
            raise BrokenAnswerError("sent tool arguments for a call that is not open")
        self.pieces += 1
        return self._writer.write(piece)
