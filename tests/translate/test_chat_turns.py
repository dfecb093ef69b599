from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid
from router.translate.chat_turns import ChatTurn, Turns, turns_of

steady = settings(derandomize=True, max_examples=200, deadline=None)
ASK = {"role": "user", "content": "hi"}


def turns(*messages: dict[str, Any]) -> Turns:
    # Through JSON, as requests come: that leaves nothing of Python's in it.
    return turns_of(msgspec.json.decode(msgspec.json.encode(messages), type=tuple[ChatTurn, ...]))


def made(*messages: dict[str, Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(turns(*messages).messages))


def call(id_: str, arguments: str = "{}", name: str = "f") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*made: dict[str, Any], content: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(made)}


def result(id_: str, content: Any = "r") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": content}


def use(id_: str, **input_: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": "f", "input": input_}


def answer(id_: str, content: Any = "r") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_, "content": content}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


CASES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "a word": ([ASK], [ASK]),
    "a part alone": ([{"role": "user", "content": [text("hi")]}], [ASK]),
    "turns of one role": ([ASK, ASK], [{"role": "user", "content": [text("hi"), text("hi")]}]),
    "blanks alone": ([ASK, {"role": "assistant", "content": ""}, {"role": "user", "content": [text(" \n")]}], [ASK]),
    "a reminder in the middle": (
        [ASK, {"role": "system", "content": "s"}],
        [{"role": "user", "content": [text("hi"), text("<system-reminder>\ns\n</system-reminder>")]}],
    ),
    "a reminder that is one": (
        [ASK, {"role": "assistant", "content": "a"}, {"role": "developer", "content": "<system-reminder>x"}],
        [ASK, {"role": "assistant", "content": "a"}, {"role": "user", "content": "<system-reminder>x"}],
    ),
    "a call and its result": (
        [ASK, calls(call("c1", '{"b": 1, "a": [ 2 ]}')), result("c1"), ASK],
        [
            ASK,
            {"role": "assistant", "content": [use("c1", b=1, a=[2])]},
            {"role": "user", "content": [answer("c1"), text("hi")]},
        ],
    ),
    "two calls, and words before them": (
        [ASK, calls(call("c1"), call("c2"), content="w"), result("c2"), result("c1", [text("x"), text("y")])],
        [
            ASK,
            {"role": "assistant", "content": [text("w"), use("c1"), use("c2")]},
            {"role": "user", "content": [answer("c2"), answer("c1", [text("x"), text("y")])]},
        ],
    ),
    "words before the result": (
        [ASK, calls(call("c1")), ASK, result("c1", "")],
        [
            ASK,
            {"role": "assistant", "content": [use("c1")]},
            {"role": "user", "content": [answer("c1", ""), text("hi")]},
        ],
    ),
    "a call without result": (
        [ASK, calls(call("c1"), call("c2")), result("c2"), ASK],
        [
            ASK,
            {"role": "assistant", "content": [use("c1"), use("c2")]},
            {"role": "user", "content": [answer("c1", "No result."), answer("c2"), text("hi")]},
        ],
    ),
    "a call at the end": ([ASK, calls(call("c1", ""))], [ASK, {"role": "assistant", "content": [use("c1")]}]),
    "ids of any kind": (
        [ASK, calls(call("functions.f:0"), call("hex_61")), result("functions.f:0"), result("hex_61")],
        [
            ASK,
            {"role": "assistant", "content": [use("hex_66756e6374696f6e732e663a30"), use("hex_6865785f3631")]},
            {"role": "user", "content": [answer("hex_66756e6374696f6e732e663a30"), answer("hex_6865785f3631")]},
        ],
    ),
    "a prefill": (
        [ASK, {"role": "assistant", "content": "so \n"}], [ASK, {"role": "assistant", "content": "so"}],
    ),
    "thoughts, names and refusals": (
        [{**ASK, "name": "n"}, {"role": "assistant", "content": None, "reasoning_content": "t", "refusal": "no"}, ASK],
        [ASK, {"role": "assistant", "content": "no"}, ASK],
    ),
    "a refusal among the parts": (
        [ASK, {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, ASK],
        [ASK, {"role": "assistant", "content": "no"}, ASK],
    ),
    "images": (
        [{"role": "user", "content": [
            text("see"), {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AA==", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        ]}],
        [{"role": "user", "content": [
            text("see"), {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA=="}},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        ]}],
    ),
    "a document": (
        [{"role": "user", "content": [
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}},
        ]}],
        [{"role": "user", "content": [
            {"type": "document", "title": "a.pdf",
             "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}},
        ]}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_messages_become_turns_that_alternate(name: str) -> None:
    messages, expected = CASES[name]
    assert expected == made(*messages)


def test_what_stands_before_the_first_turn_is_the_system_prompt() -> None:
    said = turns({"role": "system", "content": "a"}, {"role": "developer", "content": [text("b"), text("c")]}, ASK)
    assert ("a\n\nb\n\nc", [ASK]) == (said.system, said.messages)
    assert "" == turns(ASK).system


def test_arguments_keep_the_order_of_their_keys_and_their_numbers() -> None:
    sent = msgspec.json.encode(turns(ASK, calls(call("c", '{"b": 1.50, "a": 12345678901234567890123}'))).messages)
    assert b'"input":{"b":1.50,"a":12345678901234567890123}' in sent


PART: dict[str, Any] = {"type": "image_url", "image_url": {"url": "ftp://x"}}
REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "nobody": ([{"role": "system", "content": "s"}], "Invalid 'messages': there is no message"),
    "nothing": ([{"role": "user", "content": ""}], "Invalid 'messages': there is no message"),
    "a new role": ([{"role": "x"}], "Invalid value for 'messages[0].role': 'x'. Supported values are:"),
    "the old role": ([ASK, {"role": "function"}], "Invalid value for 'messages[1].role': 'function'"),
    "the old call": ([{"role": "assistant", "function_call": {}}], "Invalid value for 'messages[0].function_call'"),
    "a voice": ([{"role": "assistant", "audio": {"id": "x"}}], "Invalid value for 'messages[0].audio'"),
    "sound": (
        [{"role": "user", "content": [{"type": "input_audio"}]}],
        "Invalid value for 'messages[0].content[0].type'",
    ),
    "a new part": (
        [{"role": "user", "content": [{"type": "x"}]}],
        "Invalid value for 'messages[0].content[0].type': 'x'",
    ),
    "no image": (
        [{"role": "user", "content": [{"type": "image_url"}]}],
        "Invalid value for 'messages[0].content[0].type'",
    ),
    "a strange image": ([{"role": "user", "content": [PART]}], "Invalid 'messages[0].content[0].image_url.url'"),
    "an image of a kind": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/bmp;base64,AA=="}}]}],
        "Invalid 'messages[0].content[0].image_url.url': 'image/bmp' is none of",
    ),
    "a file that is elsewhere": (
        [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}],
        "Invalid 'messages[0].content[0].file'",
    ),
    "a system image": (
        [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
        "Invalid value for 'messages[0].content': a message of the system takes only text",
    ),
    "a result of no call": (
        [ASK, {"role": "tool", "content": "r"}],
        "Missing required parameter: 'messages[1].tool_call_id'",
    ),
    "an empty id": ([ASK, calls(call(""))], "Invalid 'messages[1].tool_calls[0].id'"),
    "a custom call": ([calls({"id": "c", "type": "custom"})], "Invalid value for 'messages[0].tool_calls[0].type'"),
    "arguments that are cut": (
        [calls(call("c", '{"a'))],
        "Invalid value for 'messages[0].tool_calls[0].function.arguments': expected a JSON object",
    ),
    "arguments that are a list": (
        [calls(call("c", "[]"))],
        "Invalid value for 'messages[0].tool_calls[0].function.arg",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused_with_its_path(name: str) -> None:
    messages, words = REFUSED[name]
    with pytest.raises(RequestInvalid) as refused:
        turns(*messages)
    assert refused.value.message.startswith(words)


_messages = st.lists(
    st.sampled_from([
        ASK, {"role": "assistant", "content": "a "}, {"role": "system", "content": "s"}, calls(call("c1"), call("c2")),
        calls(call("c3"), content="w"), result("c1"), result("c2"), result("c3"), {"role": "user", "content": " "},
    ]),
    max_size=9,
)  # fmt: skip


@steady
@given(messages=_messages)
def test_turns_alternate_and_every_call_has_its_result_next_to_it(messages: list[dict[str, Any]]) -> None:
    found = made(ASK, *messages)
    assert ["user", "assistant"] * (len(found) // 2) + ["user"] * (len(found) % 2) == [turn["role"] for turn in found]
    blocks = [[text(it["content"])] if isinstance(it["content"], str) else it["content"] for it in found]
    for said, heard in zip(blocks[1::2], blocks[2::2], strict=False):
        answered = {block["tool_use_id"] for block in heard if block["type"] == "tool_result"}
        assert {block["id"] for block in said if block["type"] == "tool_use"} <= answered
    for heard in blocks[::2]:
        kinds = [block["type"] == "tool_result" for block in heard]
        assert sorted(kinds, reverse=True) == kinds
    assert all(block["text"].strip() for some in blocks for block in some if block["type"] == "text")
    assert found == made(ASK, *messages)
