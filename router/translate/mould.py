"""What stands around the text of the common token event: two such events of one stream differ in nothing else.

Most servers write each chunk alike, byte for byte, but for its text (llama-server puts the second in as well, so its
mould is cast anew once a second). What fits the last one need not be read as JSON: only its text has to be a string.
"""

import re

import msgspec

from router.wire.openai import Chunk, Delta

_string = msgspec.json.Decoder(str).decode
# One JSON string, from its first quote to its last.
_literal = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL).match
_FRAMED = b"\r\n"


class Mould:
    """Empty until it is cast from an event that was read in full. `head`, `tail`: what is before and after the text."""

    __slots__ = ("_framed_tail", "head", "tail")

    def __init__(self) -> None:
        self.head = self.tail = self._framed_tail = b""

    def __repr__(self) -> str:
        return f"Mould({len(self.head)} + {len(self.tail)} bytes)"

    def cast(self, event: bytes, key: bytes) -> bool:
        """Take the shape of `event`, whose text stands after `key`, `"content":` or the like; False: there is none.

        A quote inside a string is escaped, so these bytes are a key, and once in it they are that of the text. The
        caller has read the event and found nothing in it but that text.
        """
        at = event.find(key)
        found = _literal(event, at + len(key)) if at >= 0 and event.count(key) == 1 else None
        if found is None or not event.endswith(b"\n\n"):
            self.clear()
            return False
        self.head, self.tail = event[: found.start()], event[found.end() :]
        self._framed_tail = self.tail + _FRAMED
        return True

    def clear(self) -> None:
        """Fit nothing."""
        self.head = self.tail = self._framed_tail = b""

    def text(self, frame: bytes, start: int) -> bytes | None:
        """Return the literal in a frame (see `AnswerStream.through`) that fits; None: it does not, or is empty."""
        head, tail = self.head, self._framed_tail
        if not head or not frame.startswith(head, start) or not frame.endswith(tail):
            return None
        literal = frame[start + len(head) : len(frame) - len(tail)]
        try:
            return literal if _string(literal) else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None


def framed(event: bytes) -> bytes:
    """Put an event into chunked framing."""
    return b"%x\r\n%b\r\n" % (len(event), event)


def key_of(chunk: Chunk) -> bytes:
    """The key of the only thing that a chunk says: text or reasoning; empty where it says more, or less."""
    if chunk.usage or chunk.prompt_progress or chunk.timings or chunk.verbose or len(chunk.choices or ()) != 1:
        return b""
    (choice,) = chunk.choices or ()
    delta = choice.delta
    if choice.index != 0 or choice.finish_reason or delta is None:
        return b""
    match delta:
        case Delta(content=str(), reasoning_content=None, reasoning=None):
            key = b'"content":'
        case Delta(content=None, reasoning_content=str(), reasoning=None):
            key = b'"reasoning_content":'
        case Delta(content=None, reasoning_content=None, reasoning=str()):
            key = b'"reasoning":'
        case _:
            return b""
    return b"" if delta.tool_calls or delta.function_call or delta.refusal else key
