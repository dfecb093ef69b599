"""Whether bytes are a legal stream of OpenAI chat completion chunks.

    said = check_chat(response.content)            # raises Illegal, showing rule and place
    assert said.text == "nonce:a1 w1 w2"

One choice, as every call of the router's has. A stream ends with `data: [DONE]` or with one error object, and `error`
tells which. Comments are legal everywhere before that. A server's own extra fields are passed over.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from tests.rig.legality_fields import BrokenRuleError, rule
from tests.rig.transcript import Event, Illegal, begun, illegal, read_events

__all__ = ["ChatTool", "Completion", "Illegal", "check_chat"]

FINISH_REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}
# An answer that was broken off may end inside the arguments of a call.
BROKEN_OFF = {"length", "content_filter"}
DONE = "[DONE]"
_done = re.compile(rb"^data: \[DONE\]\n\n", re.MULTILINE)


class ChatTool(msgspec.Struct):
    """A call; `arguments` as they came, since those of a broken-off answer are no JSON."""

    id: str
    name: str
    arguments: str


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What a legal stream said. Without an `error`, `finish_reason` is set, if the stream is whole."""

    id: str | None
    model: str | None
    created: int | None
    text: str
    reasoning: str
    tools: tuple[ChatTool, ...]
    finish_reason: str | None
    usage: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    chunks: tuple[Event, ...]  # comments and the end left out
    comments: tuple[str, ...]


def check_chat(raw: bytes, *, usage_asked: bool = False, whole: bool = True) -> Completion:
    """Read a stream; Illegal where it breaks the protocol.

    `usage_asked`: the request had `stream_options.include_usage`, so usage must be there; else it may not be.
    `whole` False: the client left before the end, so the bytes may end anywhere.
    """
    raw = raw if whole else begun(raw)
    # The one event that is no JSON; the name keeps it apart from whatever a server may say in JSON.
    events = read_events(_done.sub(b"event: [DONE]\ndata: null\n\n", raw))
    walk = _Walk(usage_asked=usage_asked)
    for at, event in enumerate(events):
        try:
            walk.step(event)
        except BrokenRuleError as broken:
            raise illegal(f"not a legal chat stream: {broken}", events, at) from None
    if whole and not walk.ended:
        raise illegal("the stream ends without [DONE] or an error", events, len(events))
    return walk.completion(events)


class _Walk:
    """The automaton: one `step` an event."""

    def __init__(self, *, usage_asked: bool) -> None:
        self.usage_asked = usage_asked
        self.same: dict[str, Any] | None = None
        self.begun = self.ended = False
        self.text = self.reasoning = ""
        self.tools: list[ChatTool] = []
        self.finish_reason: str | None = None
        self.usage: Mapping[str, Any] | None = None
        self.error: Mapping[str, Any] | None = None

    def step(self, event: Event) -> None:
        rule(not self.ended, "something after the end")
        if event.is_comment:
            return
        if event.name == DONE:
            self._done()
            return
        rule(event.name == "", f"an event with the name {event.name!r}")
        rule(isinstance(event.data, dict), "data that is no object")
        if event.data.get("error"):
            self._error(event.data["error"])
        else:
            self._chunk(event.data)

    def completion(self, events: list[Event]) -> Completion:
        same = self.same or {}
        return Completion(
            id=same.get("id"),
            model=same.get("model"),
            created=same.get("created"),
            text=self.text,
            reasoning=self.reasoning,
            tools=tuple(self.tools),
            finish_reason=self.finish_reason,
            usage=self.usage,
            error=self.error,
            chunks=tuple(it for it in events if not it.is_comment and it.name != DONE),
            comments=tuple(it.data for it in events if it.is_comment),
        )

    def _chunk(self, data: Any) -> None:
        rule(data.get("object") == "chat.completion.chunk", f"object {data.get('object')!r}")
        for name, kind in (("id", str), ("model", str), ("created", int)):
            rule(isinstance(data.get(name), kind) and bool(data[name]), f"no {name}")
        now = {name: data[name] for name in ("id", "model", "created")}
        rule(self.same in (None, now), f"another id, model or time than before: {now}")
        self.same = now
        choices = data.get("choices")
        rule(isinstance(choices, list) and len(choices) <= 1, "choices that are no list of at most one")
        rule(bool(choices) or data.get("usage") is not None, "no choice and no usage")
        for choice in choices:
            rule(isinstance(choice, dict) and choice.get("index") == 0, "a choice whose index is not 0")
            self._choice(choice)
        if data.get("usage") is not None:
            self._count(data["usage"])

    def _choice(self, choice: Any) -> None:
        rule(self.finish_reason is None, "a choice after finish_reason")
        delta = choice.get("delta")
        rule(isinstance(delta, dict), "no delta")
        rule(self.begun or delta.get("role") == "assistant", "a first chunk without the role")
        rule(delta.get("role", "assistant") == "assistant", f"role {delta.get('role')!r}")
        self.begun = True
        for name in ("content", "reasoning_content"):
            rule(delta.get(name) is None or isinstance(delta[name], str), f"{name} that is no text")
        self.text += delta.get("content") or ""
        self.reasoning += delta.get("reasoning_content") or ""
        if "tool_calls" in delta:
            rule(isinstance(delta["tool_calls"], list) and bool(delta["tool_calls"]), "tool_calls without a call")
            for call in delta["tool_calls"]:
                self._call(call)
        rule("finish_reason" in choice, "no finish_reason, not even null")
        if choice["finish_reason"] is not None:
            self._finish(choice["finish_reason"])

    def _call(self, call: Any) -> None:
        rule(isinstance(call, dict) and type(call.get("index")) is int, "a tool call without an index")
        function = call.get("function")
        rule(isinstance(function, dict), "a tool call without a function")
        index, arguments = call["index"], function.get("arguments", "")
        rule(isinstance(arguments, str), "arguments that are no text")
        rule(0 <= index <= len(self.tools), f"tool call {index} after {len(self.tools)} of them")
        if index == len(self.tools):
            rule(isinstance(call.get("id"), str) and bool(call["id"]), "a new tool call without an id")
            rule(call.get("type") == "function", f"a new tool call of type {call.get('type')!r}")
            rule(isinstance(function.get("name"), str) and bool(function["name"]), "a new tool call without a name")
            rule(all(tool.id != call["id"] for tool in self.tools), "two tool calls with one id")
            self.tools.append(ChatTool(call["id"], function["name"], ""))
        else:
            rule(not call.get("id") and not function.get("name"), "an id or a name for the second time")
        self.tools[index].arguments += arguments

    def _finish(self, reason: object) -> None:
        rule(reason in FINISH_REASONS, f"finish_reason {reason!r}")
        self.finish_reason = str(reason)
        rule(bool(self.tools) or reason != "tool_calls", "finish_reason tool_calls without a call")
        for tool in self.tools:
            rule(reason in BROKEN_OFF or _is_object(tool.arguments), f"arguments {tool.arguments!r}")

    def _count(self, usage: Any) -> None:
        rule(self.usage_asked, "usage that nobody asked for")
        rule(self.finish_reason is not None, "usage before finish_reason")
        rule(self.usage is None, "usage for the second time")
        rule(isinstance(usage, dict), "usage that is no object")
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
        rule(all(type(it) is int and it >= 0 for it in counts), "usage without its counts")
        rule(counts[0] + counts[1] == counts[2], "a total that is not the sum")
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        rule(0 <= cached <= counts[0], "more cached tokens than the prompt has")
        self.usage = usage

    def _error(self, error: Any) -> None:
        rule(isinstance(error, dict), "an error that is no object")
        for name in ("message", "type"):
            rule(isinstance(error.get(name), str) and bool(error[name]), f"an error without a {name}")
        self.error = error
        self.ended = True

    def _done(self) -> None:
        rule(self.finish_reason is not None, "[DONE] without finish_reason")
        rule(self.usage is not None or not self.usage_asked, "[DONE] without the usage that was asked for")
        self.ended = True


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False
