"""The rules of `legality` that look at one field or one block, and the closed sets that they know."""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

STOP_REASONS = {
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
}
ERRORS = {
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "timeout_error",
    "api_error",
    "overloaded_error",
}
# What may be added to a block, the first being the delta that carries its content.
DELTAS = {
    "text": ("text_delta", "citations_delta"),
    "thinking": ("thinking_delta", "signature_delta"),
    "tool_use": ("input_json_delta",),
    "server_tool_use": ("input_json_delta",),
}
CONTENT = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
ID = re.compile(r"[A-Za-z0-9_-]+")


class BrokenRuleError(Exception):
    """The message says what is wrong with the event at hand."""


class Block(msgspec.Struct):
    kind: str
    opened: Mapping[str, Any]
    content: str = ""
    signatures: int = 0
    open: bool = True


def rule_opening(opened: Mapping[str, Any], *, exact: bool) -> None:
    match opened["type"]:
        case "text":
            rule(opened.get("text") == "", "a text block that does not start empty")
        case "thinking":
            rule(opened.get("thinking") == "", "a thinking block that does not start empty")
            rule(opened.get("signature") == "" or not exact, "a thinking block without signature")
        case "tool_use":
            rule(is_id(opened.get("id")), "a tool_use block without an id")
            rule(isinstance(opened.get("name"), str) and bool(opened["name"]), "a tool_use block without a name")
            rule(opened.get("input") == {} or not exact, "a tool_use block without an empty input")


def has_whole_input(block: Block) -> bool:
    try:
        tool_input(block)
    except BrokenRuleError:
        return False
    return True


def tool_input(block: Block) -> dict[str, Any]:
    try:
        value = json.loads(block.content or "{}")
    except ValueError:
        value = None
    rule(isinstance(value, dict), f"tool input that is no JSON object: {block.content!r}")
    assert isinstance(value, dict)
    return value


def rule_usage(usage: Any, *needed: str) -> None:
    rule(isinstance(usage, dict), "no usage")
    for name in needed:
        rule(isinstance(usage.get(name), int) and usage[name] >= 0, f"usage without {name}")


def is_id(value: object) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


def rule(kept: bool, otherwise: str) -> None:
    if not kept:
        raise BrokenRuleError(otherwise)
