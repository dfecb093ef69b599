import json
from typing import Any

import pytest
from hypothesis import given, settings

from router.errors import RequestInvalid
from router.wire.anthropic import Role, decode_messages
from router.wire.blocks import read_head, read_message, system_texts
from router.wire.parts import Call, Image, Message, Result
from router.wire.signature import seal
from tests.wire.canonical_samples import IMAGE, PDF, call, requests, result, text, thinking


def read(role: Role, content: Any) -> Message:
    return read_message(role, json.dumps(content).encode(), "messages.3.content")


def test_a_text_and_a_list_of_one_text_are_the_same() -> None:
    assert read("user", "hé") == read("user", [text("hé", cache_control={"type": "ephemeral"})])
    assert (b'"h\xc3\xa9"',) == read("user", "hé").parts


def test_escapes_make_no_difference() -> None:
    assert read_message("user", b'"h\\u00e9\\/"', "p") == read_message(
        "user", '[{"type":"text","text":"hé/"}]'.encode(), "p"
    )


def meaning(message: Message) -> object:
    """A message with its literals read, since they may be written in several ways."""

    def of(part: object) -> object:
        return json.loads(part) if isinstance(part, bytes) else part

    return (
        message.role,
        [of(part) for part in message.parts],
        [(result.id, [of(part) for part in result.parts]) for result in message.results],
        [of(part) for part in message.thinking],
        [(call_.id, call_.name, json.loads(call_.input)) for call_ in message.calls],
        message.references,
        message.dropped,
        message.images,
    )


@given(requests)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_what_is_copied_unread_means_the_same_as_what_is_read(fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    for index, (head, sent) in enumerate(zip(decode_messages(body).messages, fields["messages"], strict=True)):
        slowly = read_message(head.role, json.dumps(sent["content"]).encode(), f"messages.{index}.content")
        assert meaning(read_head(head, index)) == meaning(slowly)


@pytest.mark.parametrize("content", ["", [], [text("")], None])
def test_empty_texts_are_dropped(content: Any) -> None:
    assert read("user", content) == Message("user")
    assert read("assistant", content) == Message("assistant")


def test_what_the_user_says_and_shows_stays_in_order_and_results_stand_apart() -> None:
    found = read("user", [text("a"), result("toolu_x", "r"), text("b"), IMAGE])
    said, shown = found.parts
    assert b'"a\\nb"' == said
    assert isinstance(shown, Image)
    assert (Result("x", (b'"r"',)),) == found.results


def test_a_call_has_its_input_as_it_came_and_the_id_that_the_instance_gave() -> None:
    given = b'{ "b" : 1, "a":"\\u00e9\\"" }'
    content = b'[{"type":"tool_use","id":"toolu_x","name":"Read","input":%b}]' % given
    (found,) = read_message("assistant", content, "p").calls
    assert Call("x", "Read", given) == found


def test_text_after_a_call_joins_the_text_before_it() -> None:
    found = read("assistant", [text("a"), call("toolu_x"), text("b")])
    assert ((b'"a\\nb"',), 1) == (found.parts, len(found.calls))


def test_thinking_that_was_not_shown_is_taken_out_of_its_signature() -> None:
    found = read("assistant", [thinking("shown"), thinking("", seal("hidden")), thinking("", "EqQB"), thinking("")])
    assert (b'"shown"', b'"hidden"') == found.thinking


def test_what_no_local_model_can_read_is_dropped_and_named() -> None:
    strange = [
        {"type": "redacted_thinking", "data": "x"},
        {"type": "server_tool_use", "id": "a"},
        {"type": "new"},
        text("a"),
    ]
    assert ((b'"a"',), ("server_tool_use", "new")) == (
        read("assistant", strange).parts,
        read("assistant", strange).dropped,
    )
    assert ("thinking", "tool_reference") == (
        read("user", [thinking("a"), {"type": "tool_reference", "tool_name": "A"}]).dropped
    )
    assert ("image",) == read("assistant", [IMAGE]).dropped


def test_a_document_is_said_by_whoever_sends_it() -> None:
    document = {"type": "document", "title": "T", "source": {"type": "text", "data": "words"}}
    assert (b'"T\\nwords\\nWell?"',) == read("user", [document, text("Well?")]).parts


@pytest.mark.parametrize(
    ("role", "content", "said"),
    [
        ("user", [call("a")], r"^messages\.3\.content\.0: `tool_use` blocks can only be in `assistant` messages$"),
        ("assistant", [result("a")], r"^messages\.3\.content\.0: `tool_result` blocks can only be in `user` messages$"),
        ("user", [text("a"), {"type": "text"}], r"^messages\.3\.content\.1\.text: field required"),
        ("user", [PDF], r"^messages\.3\.content\.0\.source: .*base64 \(application/pdf\)"),
        ("assistant", [{**call("a"), "name": ""}], r"^messages\.3\.content\.0\.name: must not be empty$"),
        ("assistant", [{**call("a"), "input": []}], r"^messages\.3\.content\.0\.input: must be an object$"),
        ("assistant", [{"type": "tool_use", "name": "b"}], r"^messages\.3\.content\.0\.id: field required"),
        ("user", 5, r"^messages\.3\.content: "),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(role: Role, content: Any, said: str) -> None:
    with pytest.raises(RequestInvalid, match=said):
        read(role, content)


def test_system_texts_stay_apart_and_lose_the_attribution() -> None:
    blocks = [text("x-anthropic-billing-header: a"), text("One."), text("x-anthropic-billing-header: b\nTwo.")]
    assert [b'"One."', b'"Two."'] == system_texts(json.dumps(blocks).encode(), "system")
    assert b'"x-anthropic-billing-header: a"' == read("user", blocks[:1]).parts[0]
