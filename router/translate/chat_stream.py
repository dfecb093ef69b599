"""A streamed Messages answer for a client of the OpenAI API: Anthropic events in, chat completion chunks out.

| said by the instance            | state that takes it | what the client gets                                     |
|---------------------------------|---------------------|----------------------------------------------------------|
| `message_start`                 | WAITING -> SPEAKING | nothing yet: the role goes out with the first content    |
| `content_block_start`, text     | SPEAKING            | `content`, if the block starts with some                 |
| ... thinking                    | SPEAKING            | `reasoning_content`, likewise                            |
| ... tool_use                    | SPEAKING            | a call with its id and name; calls are counted from 0    |
| ... anything else               | SPEAKING            | nothing, nor from its deltas                             |
| `content_block_delta`           | SPEAKING            | `content`, `reasoning_content` or a piece of `arguments` |
| `content_block_stop`            | SPEAKING            | the arguments of the start, or `{}`, if none have come   |
| `message_delta`                 | SPEAKING -> CLOSING | nothing: without its end the answer is not whole         |
| `message_stop`                  | CLOSING -> OVER     | `finish_reason`, the usage that was asked for, `[DONE]`  |
| `error`                         | any                 | nothing: `error` is set                                  |
| `ping`, comments, unknown names | any                 | nothing                                                  |

What comes in another state than its own is a broken stream. Blocks may overlap: chunks have no block to keep apart.
"""

from typing import Any, Literal

import msgspec

from router.errors import RouterError, UpstreamBroke
from router.translate.answer import Usage
from router.translate.arguments import Arguments
from router.translate.chat_response import BROKEN_OFF, MessageUsage, arguments_of, finish_reason
from router.translate.faults import read_fault, to_error
from router.wire.chat import DONE_EVENT
from router.wire.message_events import (
    Content,
    block_delta_decoder,
    block_start_decoder,
    block_stop_decoder,
    message_delta_decoder,
    message_start_decoder,
)
from router.wire.reading import check_utf8, read
from router.wire.sse import EventSplitter, event_data, event_name

State = Literal["WAITING", "SPEAKING", "CLOSING", "OVER"]

# (state, event) -> (method, next state). `message_delta` may be repeated: the last one counts.
_TABLE: dict[tuple[State, bytes], tuple[str, State]] = {
    ("WAITING", b"message_start"): ("_start", "SPEAKING"),
    ("SPEAKING", b"content_block_start"): ("_open", "SPEAKING"),
    ("SPEAKING", b"content_block_delta"): ("_add", "SPEAKING"),
    ("SPEAKING", b"content_block_stop"): ("_close", "SPEAKING"),
    ("SPEAKING", b"message_delta"): ("_count", "CLOSING"),
    ("CLOSING", b"message_delta"): ("_count", "CLOSING"),
    ("CLOSING", b"message_stop"): ("_stop", "OVER"),
}
_KNOWN = frozenset(name for _, name in _TABLE)


# Kind of block -> (its delta, the field of it that carries the content, the client's name for it).
_SPEECH = {
    "text": ("text_delta", "text", "content"),
    "thinking": ("thinking_delta", "thinking", "reasoning_content"),
}


class _Block:
    """A block that is open. Of a call: its number, and `instead`, its arguments if no piece of them comes."""

    __slots__ = ("arguments", "instead", "kind", "number")

    def __init__(self, kind: str, number: int = -1, instead: str = "") -> None:
        self.kind = kind
        self.number = number
        self.instead = instead
        self.arguments = Arguments()


class MessagesToChat:
    """One streamed answer; see `AnswerStream`."""

    def __init__(self, *, model: str, instance_id: str, completion_id: str, created_s: int, usage_asked: bool) -> None:
        """`model`: the name that the client asked for. `created_s`: Unix time. `usage_asked`: as `ChatHead` says."""
        same = {"id": completion_id, "object": "chat.completion.chunk", "created": created_s, "model": model}
        self._head = b"data: " + msgspec.json.encode(same)[:-1]
        self._instance_id = instance_id
        self._usage_asked = usage_asked
        self._splitter = EventSplitter()
        self._state: State = "WAITING"
        self._open_blocks: dict[int, _Block] = {}
        self._used: set[int] = set()
        self._calls = 0
        self._bad_arguments = False
        self._tokens = MessageUsage()
        self.committed = False
        self.error: RouterError | None = None
        self.events = 0
        self.stop_reason = ""

    def __repr__(self) -> str:
        return f"MessagesToChat({self._instance_id}, {self._state}, {self.events} events)"

    @property
    def ended(self) -> bool:
        """The answer is whole."""
        return self._state == "OVER"

    @property
    def usage(self) -> Usage:
        """What the instance has counted so far."""
        return self._tokens.for_record()

    def through(self, frame: bytes, start: int) -> bytes | None:
        """Nothing goes the short way."""
        return None

    def feed(self, data: bytes) -> bytes:
        """Return the chunks for the client; empty when nothing is ready.

        Raises:
            EventTooLarge: the instance sends something without end.
            msgspec.DecodeError: an event is not JSON, or of another shape than its name says.

        """
        return b"".join([self._event(event) for event in self._splitter.feed(data)])

    def finish(self) -> bytes:
        """Say nothing: a body that is over before message_stop is a cut, and `ended` is False."""
        return b""

    def _event(self, event: bytes) -> bytes:
        if self.ended or self.error:
            return b""
        name, data = event_name(event), event_data(event)
        if name == b"error":
            self.error = to_error(200, read_fault(data), instance_id=self._instance_id)
            return b""
        if name not in _KNOWN:
            return b""
        step = _TABLE.get((self._state, name))
        if step is None:
            return self._broke(f"sent {name.decode()} out of its order")
        check_utf8(data)
        method, state = step
        out: bytes = getattr(self, method)(data)
        if not self.error:
            self._state = state
        return out

    def _start(self, data: bytes) -> bytes:
        self._tokens.overlay(read(message_start_decoder, data).message.usage)
        return b""

    def _open(self, data: bytes) -> bytes:
        event = read(block_start_decoder, data)
        block = event.content_block
        if event.index in self._used:
            return self._broke("opened a block for the second time")
        self._used.add(event.index)
        if block.type != "tool_use":
            self._open_blocks[event.index] = _Block(block.type)
            return self._speech(block.type, block)
        if not block.id or not block.name:
            return self._broke("sent a tool_use block without id or name")
        self._open_blocks[event.index] = _Block(block.type, self._calls, arguments_of(block.input))
        function = {"name": block.name, "arguments": ""}
        call = {"index": self._calls, "id": block.id, "type": "function", "function": function}
        self._calls += 1
        return self._token({"tool_calls": [call]})

    def _add(self, data: bytes) -> bytes:
        event = read(block_delta_decoder, data)
        block = self._open_blocks.get(event.index)
        if block is None:
            return self._broke("added to a block that is not open")
        if block.kind == "tool_use":
            block.arguments.add(event.delta.partial_json)
            return self._arguments(block, event.delta.partial_json)
        if block.kind in _SPEECH and event.delta.type == _SPEECH[block.kind][0]:
            return self._speech(block.kind, event.delta)
        return b""

    def _close(self, data: bytes) -> bytes:
        block = self._open_blocks.pop(read(block_stop_decoder, data).index, None)
        if block is None:
            return self._broke("closed a block that is not open")
        if block.kind != "tool_use":
            return b""
        if not block.arguments.text:
            return self._arguments(block, block.instead)
        # Blanks alone would be an object without fields there; to a client that parses them they are none.
        self._bad_arguments |= not block.arguments.done or not block.arguments.is_object()
        return b""

    def _count(self, data: bytes) -> bytes:
        event = read(message_delta_decoder, data)
        self._tokens.overlay(event.usage)
        self.stop_reason = event.delta.stop_reason or self.stop_reason
        return b""

    def _stop(self, data: bytes) -> bytes:
        finish = finish_reason(self.stop_reason, tools=self._calls > 0)
        if not self.stop_reason or self._open_blocks:
            return self._broke("ended a message that is not finished")
        if self._bad_arguments and finish not in BROKEN_OFF:
            return self._broke("called a tool with arguments that are no JSON object")
        out = self._opening() + self._chunk({}, finish)
        if self._usage_asked:
            usage = msgspec.json.encode(self._tokens.for_client())
            out += self._head + b',"choices":[],"usage":' + usage + b"}\n\n"
        return out + DONE_EVENT

    def _speech(self, kind: str, content: Content) -> bytes:
        if kind not in _SPEECH:
            return b""
        _, field, name = _SPEECH[kind]
        said = getattr(content, field)
        return self._token({name: said}) if said else b""

    def _arguments(self, block: _Block, piece: str) -> bytes:
        if not piece:
            return b""
        return self._token({"tool_calls": [{"index": block.number, "function": {"arguments": piece}}]})

    def _token(self, delta: dict[str, Any]) -> bytes:
        self.events += 1
        return self._opening() + self._chunk(delta, None)

    def _opening(self) -> bytes:
        """The chunk with the role, once."""
        if self.committed:
            return b""
        self.committed = True
        return self._chunk({"role": "assistant", "content": ""}, None)

    def _chunk(self, delta: dict[str, Any], finish: str | None) -> bytes:
        choice = msgspec.json.encode({"index": 0, "delta": delta, "finish_reason": finish})
        return self._head + b',"choices":[' + choice + b"]}\n\n"

    def _broke(self, how: str) -> bytes:
        self.error = UpstreamBroke(f"instance {self._instance_id} {how}", instance_id=self._instance_id)
        return b""
