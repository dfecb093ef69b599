import json
from typing import Any

from router.translate.native_parts import native_messages, native_tools
from router.wire.tools import Tool
from tests.wire.canonical_samples import IMAGE, assistant, call, form, result, text, thinking, user


def messages(*sent: Any) -> Any:
    out: list[bytes] = []
    native_messages(form(*sent).turns, out)
    return json.loads(b"[" + b"".join(out) + b"]")


def test_turns_are_written_in_the_words_of_the_messages_api() -> None:
    sent = [
        user(text("a"), IMAGE),
        assistant(thinking("hm"), text("b"), call("toolu_x", path="é")),
        user(result("toolu_x", [text("r"), IMAGE], is_error=True), text("so?")),
        assistant(text("c")),
    ]
    assert [
        user(text("a"), IMAGE),
        assistant(thinking("hm"), text("b"), call("x", path="é")),
        user({"type": "tool_result", "tool_use_id": "x", "content": [text("Error: r"), IMAGE]}),
        {"role": "user", "content": "so?"},
        {"role": "assistant", "content": "c"},
    ] == messages(*sent)


def test_several_results_and_calls_are_in_one_message_each() -> None:
    sent = [user(text("a")), assistant(call("x"), call("y")), user(result("x", "X"), result("y", "Y"))]
    assert [{"role": "user", "content": "a"}, *sent[1:]] == messages(*sent)


def test_tools_are_written_with_a_description_even_if_it_is_empty() -> None:
    out: list[bytes] = []
    native_tools([Tool('A"', b'"a"', b"{}"), Tool("B", b'""', b'{"type":"object"}', deferred=True)], out)
    assert [
        {"name": 'A"', "description": "a", "input_schema": {}},
        {"name": "B", "description": "", "input_schema": {"type": "object"}},
    ] == json.loads(b"[" + b"".join(out) + b"]")
