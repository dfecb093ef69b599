import json
from typing import Any

import pytest

from router.translate.chat_parts import chat_messages, chat_tools
from router.wire.tools import Tool
from tests.wire.canonical_samples import IMAGE, assistant, call, form, result, text, thinking, user

SHOWN = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
BEGIN = user(text("a"))


def messages(*sent: Any, images_in_results: bool = True, system: str | None = None) -> Any:
    out: list[bytes] = []
    c = form(*sent, system=system)
    chat_messages(c.system, c.turns, out, images_in_results=images_in_results)
    return json.loads(b"[" + b"".join(out) + b"]")


def tool(id_: str, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": content}


def called(id_: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "Read", "arguments": arguments}}


def test_turns_are_written_in_the_words_of_chat_completions() -> None:
    assert [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [text("a"), SHOWN]},
        {
            "role": "assistant",
            "content": "b",
            "reasoning_content": "hm",
            "tool_calls": [called("x", '{"path":"é"}'), called("y", "{}")],
        },
        tool("x", "X"),
        tool("y", "Error: Y"),
        {"role": "user", "content": "so?"},
    ] == messages(
        user(text("a"), IMAGE),
        assistant(thinking("hm"), text("b"), call("toolu_x", path="é"), call("toolu_y")),
        user(result("toolu_y", "Y", is_error=True), result("toolu_x", "X"), text("so?")),
        system="s",
    )


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (call("x"), {"content": None, "tool_calls": [called("x", "{}")]}),
        (thinking("hm"), {"content": "", "reasoning_content": "hm"}),
        (text("b"), {"content": "b"}),
    ],
)
def test_what_the_assistant_did_not_do_is_not_there(block: Any, message: dict[str, Any]) -> None:
    assert {"role": "assistant", **message} == messages(BEGIN, assistant(block))[1]


def test_images_of_results_stay_in_them_where_the_server_takes_them() -> None:
    found = messages(BEGIN, assistant(call("x")), user(result("x", [text("r"), IMAGE])))
    assert tool("x", [text("r"), SHOWN]) == found[2]


def test_elsewhere_the_user_shows_the_images_right_after() -> None:
    results = user(result("x", [text("r"), IMAGE]), result("y", [IMAGE, IMAGE]))
    before = messages(BEGIN, assistant(call("x"), call("y")), results, images_in_results=False)
    hint = "[the image is in the next message]"
    shown = [text("[images from the tools]"), SHOWN, SHOWN, SHOWN]
    assert [tool("x", f"r\n{hint}"), tool("y", f"{hint}\n{hint}"), {"role": "user", "content": shown}] == before[2:]
    after = messages(BEGIN, assistant(call("x"), call("y")), results, assistant(text("b")), images_in_results=False)
    assert [*before, {"role": "assistant", "content": "b"}] == after


def test_shown_images_and_what_the_user_says_are_one_turn() -> None:
    sent = [BEGIN, assistant(call("x")), user(result("x", [IMAGE]), text("so?")), assistant(text("b")), user(text("c"))]
    found = messages(*sent, images_in_results=False)
    assert {"role": "user", "content": [text("[images from the tools]"), SHOWN, text("so?")]} == found[3]
    assert ["user", "assistant", "tool", "user", "assistant", "user"] == [it["role"] for it in found]


def test_tools_are_functions() -> None:
    out: list[bytes] = []
    chat_tools([Tool("A", b'"a"', b"{}"), Tool("B", b'""', b'{"type":"object"}')], out)
    assert [
        {"type": "function", "function": {"name": "A", "description": "a", "parameters": {}}},
        {"type": "function", "function": {"name": "B", "description": "", "parameters": {"type": "object"}}},
    ] == json.loads(b"[" + b"".join(out) + b"]")
