"""Whether bytes are a legal Anthropic event stream: an automaton that every transcript is held against.

    said = check(response.content)            # raises Illegal, showing rule and place
    assert said.text == "nonce:a1 w1 w2"

`exact` is what the hosted API does, and what our router must. `native` also accepts what llama-server bends:
blocks that overlap and are closed only at the end, missing `signature` and `input` keys,
flat errors, comments. A stream ends with message_stop or with one error; check tells which.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from tests.rig.legality_fields import (
    CONTENT,
    DELTAS,
    ERRORS,
    STOP_REASONS,
    Block,
    BrokenRuleError,
    has_whole_input,
    is_id,
    rule,
    rule_opening,
    rule_usage,
    tool_input,
)
from tests.rig.transcript import Event, Illegal, begun, illegal, read_events

__all__ = ["Illegal", "Message", "Tool", "check"]

Level = Literal["exact", "native"]
# At these the last tool call may be unfinished; the hosted API shows what there is of its arguments, too.
CUTS = {"max_tokens", "stop_sequence", "model_context_window_exceeded", "refusal"}


class Tool(msgspec.Struct, frozen=True):
    id: str
    name: str
    input: dict[str, Any]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a legal stream said. Without an `error`, `stop_reason` is set, if the stream is whole."""

    id: str | None
    model: str | None
    text: str
    thinking: str
    tools: tuple[Tool, ...]
    usage: Mapping[str, Any]  # message_start's, overlaid by message_delta's
    stop_reason: str | None
    stop_sequence: str | None
    error: Mapping[str, Any] | None  # type and message
    events: tuple[Event, ...]  # comments and pings left out
    pings: int
    comments: tuple[str, ...]


def check(raw: bytes, level: Level = "exact", *, comments: bool | None = None, whole: bool = True) -> Message:
    """Read a stream; Illegal where it breaks the protocol.

    `comments` says whether SSE comments are accepted; None: at level native only. `whole` False: the client left
    before the end, so the bytes may end anywhere.
    """
    events = read_events(raw if whole else begun(raw))
    walk = _Walk(exact=level == "exact", comments=level == "native" if comments is None else comments)
    for at, event in enumerate(events):
        try:
            walk.step(event)
        except BrokenRuleError as broken:
            raise illegal(f"not legal ({level}): {broken}", events, at) from None
    if whole and not walk.ended:
        raise illegal("the stream ends without message_stop or error", events, len(events))
    return walk.message(events)


class _Walk:
    """The automaton: one `step` an event."""

    def __init__(self, *, exact: bool, comments: bool) -> None:
        self.exact, self.comments = exact, comments
        self.start: Mapping[str, Any] | None = None
        self.delta: Mapping[str, Any] | None = None
        self.error: Mapping[str, Any] | None = None
        self.blocks: list[Block] = []
        self.cut: Block | None = None  # the tool block that was closed before its input was whole
        self.ended = False
        self._steps: dict[str, Callable[[Any], None]] = {
            "message_start": self._message_start,
            "content_block_start": self._block_start,
            "content_block_delta": self._block_delta,
            "content_block_stop": self._block_stop,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
            "error": self._error,
        }

    def step(self, event: Event) -> None:
        if event.is_comment:
            rule(self.comments, "a comment")
            return
        rule(not self.ended, f"{event.name} after the end")
        rule(isinstance(event.data, dict), "data that is no object")
        flat = event.name == "error" and not self.exact
        rule(flat or event.data.get("type") == event.name, "the type in the data is not the event's name")
        if event.name == "ping":
            return
        if event.name not in self._steps:
            rule(not self.exact, f"an unknown event, {event.name!r}")
            return
        rule(self.start is not None or event.name in {"message_start", "error"}, "before message_start")
        self._steps[event.name](event.data)

    def message(self, events: list[Event]) -> Message:
        start, delta = self.start or {}, self.delta or {}
        usage = {**start.get("usage", {}), **delta.get("usage", {})}
        tools = [it for it in self.blocks if it.kind == "tool_use" and not it.open]
        return Message(
            id=start.get("id"),
            model=start.get("model"),
            text="".join(it.content for it in self.blocks if it.kind == "text"),
            thinking="".join(it.content for it in self.blocks if it.kind == "thinking"),
            tools=tuple(
                Tool(it.opened["id"], it.opened["name"], {} if it is self.cut else tool_input(it)) for it in tools
            ),
            usage=usage,
            stop_reason=delta.get("delta", {}).get("stop_reason"),
            stop_sequence=delta.get("delta", {}).get("stop_sequence"),
            error=self.error,
            events=tuple(it for it in events if not it.is_comment and it.name != "ping"),
            pings=sum(it.name == "ping" for it in events),
            comments=tuple(it.data for it in events if it.is_comment),
        )

    def _message_start(self, data: Any) -> None:
        rule(self.start is None, "a second message_start")
        message = data.get("message")
        rule(isinstance(message, dict), "no message")
        rule((message.get("type"), message.get("role")) == ("message", "assistant"), "not an assistant's message")
        rule(isinstance(message.get("model"), str) and bool(message["model"]), "no model")
        rule(is_id(message.get("id")), "no id, or one with odd characters")
        rule(message.get("content") == [], "content that is not an empty list")
        for name in ("stop_reason", "stop_sequence"):
            rule(name in message and message[name] is None, f"{name} is not null")
        rule_usage(message.get("usage"), "input_tokens", "output_tokens")
        self.start = message

    def _block_start(self, data: Any) -> None:
        rule(self.delta is None, "a block after message_delta")
        self._rule_whole()
        rule(data.get("index") == len(self.blocks), f"index {data.get('index')}, not {len(self.blocks)}")
        still = [number for number, block in enumerate(self.blocks) if block.open]
        rule(not (self.exact and still), f"a block starts while {still} is open")
        opened = data.get("content_block")
        rule(isinstance(opened, dict) and isinstance(opened.get("type"), str), "no content_block with a type")
        rule_opening(opened, exact=self.exact)
        self.blocks.append(Block(opened["type"], opened))

    def _block_delta(self, data: Any) -> None:
        block = self._open_block(data)
        delta = data.get("delta")
        rule(isinstance(delta, dict), "no delta")
        kind = delta.get("type")
        rule(kind in DELTAS.get(block.kind, ()), f"{kind} in a {block.kind} block")
        if kind == "signature_delta":
            rule(isinstance(delta.get("signature"), str), "no signature")
            block.signatures += 1
            rule(block.signatures == 1, "a second signature")
        elif kind in CONTENT:
            rule(not block.signatures, "thinking after its signature")
            rule(isinstance(delta.get(CONTENT[kind]), str), f"no {CONTENT[kind]}")
            block.content += delta[CONTENT[kind]]

    def _block_stop(self, data: Any) -> None:
        block = self._open_block(data)
        signed = block.kind != "thinking" or block.signatures == 1
        rule(signed or not self.exact, "a thinking block without signature_delta")
        if block.kind in {"tool_use", "server_tool_use"} and not has_whole_input(block):
            self._rule_whole()
            self.cut = block
        block.open = False

    def _message_delta(self, data: Any) -> None:
        rule(self.delta is None, "a second message_delta")
        rule(not any(block.open for block in self.blocks), "message_delta while a block is open")
        delta = data.get("delta")
        rule(isinstance(delta, dict) and "stop_sequence" in delta, "no delta, or one without stop_sequence")
        why = delta.get("stop_reason")
        rule(why in STOP_REASONS, f"stop_reason {why!r}")
        if why not in CUTS:
            self._rule_whole()
        hit = isinstance(delta["stop_sequence"], str)
        rule(hit == (why == "stop_sequence") or not self.exact, "stop_reason and stop_sequence disagree")
        tools = any(block.kind == "tool_use" for block in self.blocks)
        rule(tools or why != "tool_use", "stop_reason tool_use without a tool_use block")
        rule_usage(data.get("usage"), "output_tokens")
        self.delta = data

    def _message_stop(self, data: Any) -> None:
        rule(self.delta is not None, "message_stop without message_delta")
        self.ended = True

    def _error(self, data: Any) -> None:
        error = data.get("error") if self.exact or "error" in data else data
        rule(isinstance(error, dict), "no error")
        rule(error.get("type") in ERRORS or not self.exact, f"error type {error.get('type')!r}")
        rule(isinstance(error.get("message"), str) and bool(error["message"]), "no message")
        self.error = error
        self.ended = True

    def _rule_whole(self) -> None:
        if self.cut is not None:
            tool_input(self.cut)

    def _open_block(self, data: Any) -> Block:
        index = data.get("index")
        known = [block for number, block in enumerate(self.blocks) if number == index and block.open]
        rule(bool(known), f"block {index} is not open")
        return known[0]
