import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid
from router.translate.request import chat_body, native_body
from router.wire.anthropic import decode_messages
from router.wire.canonical import Canonical, canonical
from router.wire.turns import UserTurn
from tests.captures.reading import Captured, captured, consecutive_turns
from tests.wire.canonical_samples import (
    IMAGE,
    ROLES,
    assistant,
    call,
    form,
    head,
    json_values,
    requests,
    result,
    system,
    text,
    thinking,
    tool,
    user,
)

steady = settings(derandomize=True, max_examples=100, deadline=None)
DIALECTS = ("native", "chat")


class Body(msgspec.Struct):
    """What makes the prompt, piece by piece, as bytes."""

    messages: list[msgspec.Raw]
    system: msgspec.Raw = msgspec.Raw(b"")
    tools: list[msgspec.Raw] = msgspec.field(default_factory=list)


def rendered(c: Canonical, dialect: str) -> bytes:
    return native_body(c, model="m") if dialect == "native" else chat_body(c, model="m", llama=True)


def body(it: Captured, dialect: str) -> Body:
    return msgspec.json.decode(rendered(canonical(decode_messages(it.body)), dialect), type=Body)


def starts_with(later: list[msgspec.Raw], earlier: list[msgspec.Raw]) -> bool:
    return [bytes(it) for it in earlier] == [bytes(it) for it in later[: len(earlier)]]


# ---------------------------------------------------------------- what clients really send


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("earlier", "later"), consecutive_turns(), ids=lambda it: it.name)
def test_every_turn_begins_with_the_prompt_of_the_turn_before(earlier: Captured, later: Captured, dialect: str) -> None:
    before, after = body(earlier, dialect), body(later, dialect)
    assert starts_with(after.messages, before.messages)
    assert len(after.messages) > len(before.messages)
    assert bytes(before.system) == bytes(after.system)
    assert starts_with(after.tools, before.tools)
    if "toolsearch" not in earlier.name:
        assert len(before.tools) == len(after.tools)


def test_there_are_turns_to_look_at_and_a_tool_is_found_in_one_of_them() -> None:
    pairs = consecutive_turns()
    grown = [
        later.name for earlier, later in pairs if len(body(earlier, "chat").tools) < len(body(later, "chat").tools)
    ]
    assert len(pairs) >= 10
    assert ["claude-code-2.1.330-toolsearch-deferred-2"] == grown


def test_no_attribution_line_and_no_user_id_is_left_of_any_captured_request() -> None:
    for it in captured():
        for dialect in DIALECTS:
            out = rendered(canonical(decode_messages(it.body)), dialect)
            assert b"x-anthropic-billing-header" not in out
            assert b"device_id" not in out
            assert b"cache_control" not in out


def test_the_attribution_line_is_in_the_captures() -> None:
    assert any(b"x-anthropic-billing-header" in it.body for it in captured())


# ---------------------------------------------------------------- what clients might send


@given(requests)
@steady
def test_any_legal_request_has_a_normal_form_which_is_its_own(fields: dict[str, Any]) -> None:
    once = canonical(decode_messages(json.dumps(fields).encode()))
    native = native_body(once, model="m")
    twice = canonical(decode_messages(native))
    assert json.loads(native) == json.loads(native_body(twice, model="m"))  # escapes stay as the client wrote them
    kept = msgspec.structs.replace(once, dropped=(), thinking=twice.thinking)
    first, second = (json.loads(chat_body(it, model="m", llama=True)) for it in (kept, twice))
    assert first == second
    assert json.loads(native)
    for llama in (True, False):
        assert json.loads(chat_body(once, model=None, llama=llama))


@given(requests, st.sampled_from([text("yes"), call("toolu_new"), thinking("hm")]))
@steady
def test_a_turn_more_begins_with_the_turn_before(fields: dict[str, Any], answer: dict[str, Any]) -> None:
    ended = {**fields, "messages": [*fields["messages"], user(text("so?"))]}
    more = {**ended, "messages": [*ended["messages"], assistant(answer), user(text("more"))]}
    for dialect in DIALECTS:
        before, after = (
            msgspec.json.decode(rendered(canonical(decode_messages(json.dumps(it).encode())), dialect), type=Body)
            for it in (ended, more)
        )
        assert starts_with(after.messages, before.messages)
        assert [bytes(it) for it in before.tools] == [bytes(it) for it in after.tools]


anything = st.recursive(
    st.one_of(json_values, st.sampled_from(["text", "tool_use", "tool_result", "image", "document", "thinking"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["type", "text", "content", "source", "input", "id", "name", "tool_use_id", "thinking"]),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)
fields_of_a_head = ["system", "tools", "tool_choice", "thinking", "output_config", "stop_sequences", "temperature"]


@given(
    st.lists(st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": anything}), min_size=1, max_size=4),
    st.dictionaries(
        st.sampled_from([*fields_of_a_head, "top_p", "top_k", "chat_template_kwargs"]), anything, max_size=3
    ),
)
@steady
def test_anything_at_all_gives_a_result_or_is_refused(messages: list[Any], fields: dict[str, Any]) -> None:
    try:
        c = canonical(decode_messages(json.dumps({"model": "m", "messages": messages} | fields).encode()))
    except RequestInvalid:
        return
    assert json.loads(native_body(c, model=None))
    assert json.loads(chat_body(c, model=None, llama=False))


@pytest.mark.parametrize("inner", ["[" * 5000 + "]" * 5000, '{"a":' * 5000 + "1" + "}" * 5000])
def test_deep_nesting_is_refused(inner: str) -> None:
    body = json.dumps({"model": "m", "messages": [assistant(call("a", c="HERE"))]}).replace('"HERE"', inner)
    with pytest.raises(RequestInvalid):
        canonical(decode_messages(body.encode()))


# ---------------------------------------------------------------- the parts of a request


def test_system_blocks_are_one_text_without_the_attribution_and_with_leading_system_messages() -> None:
    c = form(
        system([text("Third.", cache_control={"type": "ephemeral"})]),
        user(text("hi")),
        system=[text("x-anthropic-billing-header: cc_version=2.1.330.440;"), text("First."), text("Second.")],
    )
    assert b'"First.\\n\\nSecond.\\n\\nThird."' == c.system
    assert (UserTurn((b'"hi"',)),) == c.turns


@pytest.mark.parametrize(
    ("given_", "left"),
    [
        ("x-anthropic-billing-header: a\nThe rest.", b'"The rest."'),
        ("x-anthropic-billing-header: a\nx-anthropic-billing-header: b\nThe rest.", b'"The rest."'),
        ("x-anthropic-billing-header: a", None),
        ("Not x-anthropic-billing-header: a", b'"Not x-anthropic-billing-header: a"'),
        ("", None),
        (None, None),
    ],
)
def test_only_the_attribution_line_goes(given_: str | None, left: bytes | None) -> None:
    assert left == form(user(text("hi")), system=given_).system


def test_what_is_asked_for_besides_the_prompt_is_read() -> None:
    c = form(
        user(text("hi"), IMAGE),
        assistant(call("toolu_a"), {"type": "server_tool_use", "id": "x", "name": "y", "input": {}}),
        user(result("toolu_a")),
        tools=[tool("Read"), {"type": "web_search_20250305", "name": "web_search"}],
        tool_choice={"type": "tool", "name": "Read", "disable_parallel_tool_use": True},
        thinking={"type": "adaptive", "display": "omitted"},
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        stop_sequences=["END"],
        temperature=1.5,
        top_k=7,
        stream=True,
        chat_template_kwargs={"enable_thinking": False},
    )
    assert c.tool_choice is not None
    assert ("tool", "Read", False) == (c.tool_choice.kind, c.tool_choice.name, c.tool_choice.parallel)
    assert c.thinking is not None
    assert ("adaptive", None, True) == (c.thinking.kind, c.thinking.budget_tokens, c.thinking.omitted)
    assert ("high", b'{"type": "object"}', ("END",)) == (c.effort, c.schema, c.stop)
    assert (b"1.5", b"", b"7") == (c.sampling.temperature, c.sampling.top_p, c.sampling.top_k)
    assert (8, True, b'{"enable_thinking": false}') == (c.max_tokens, c.stream, c.chat_template_kwargs)
    assert (True, True, None, ("server_tool_use",)) == (c.has_images, c.has_calls, c.prefill, c.dropped)
    assert [(1, "web_search_20250305")] == [(it.index, it.type) for it in c.server_tools]
    assert ["Read"] == [it.name for it in c.tools]


def test_of_what_was_not_sent_there_is_nothing() -> None:
    c = form(user(text("hi")))
    assert (None, None, None, None, (), b"") == (
        c.tool_choice,
        c.thinking,
        c.effort,
        c.schema,
        c.stop,
        c.chat_template_kwargs,
    )
    assert (None, False, False, (), ()) == (c.prefill, c.has_images, c.has_calls, c.dropped, c.tools)


@pytest.mark.parametrize(
    ("last", "prefill"),
    [
        (assistant(text('She said "'), text("hi")), 'She said "\nhi'),
        ({"role": "assistant", "content": "é"}, "é"),
        (assistant(thinking("hm")), ""),
        (assistant(text("")), None),
        (user(text("x")), None),
    ],
)
def test_a_last_turn_of_the_assistant_is_a_prefill(last: Any, prefill: str | None) -> None:
    assert prefill == form(user(text("hi")), last).prefill


def test_a_tool_that_was_found_comes_last_and_one_that_has_to_be_called_is_known() -> None:
    found = result("toolu_a", [{"type": "tool_reference", "tool_name": "Alpha"}])
    sent = [tool("Alpha", defer_loading=True), tool("Beta", defer_loading=True), tool("Gamma")]
    history = [user(text("hi")), assistant(call("toolu_a")), user(found)]
    assert ["Gamma", "Alpha"] == [it.name for it in form(*history, tools=sent).tools]
    forced = form(user(text("hi")), tools=sent, tool_choice={"type": "tool", "name": "Beta"})
    assert ["Gamma", "Beta"] == [it.name for it in forced.tools]


@pytest.mark.parametrize(
    "messages", [[user()], [user(text(""))], [system("x")], [assistant({"type": "redacted_thinking", "data": ""})]]
)
def test_a_request_of_which_nothing_is_left_is_refused(messages: list[Any]) -> None:
    with pytest.raises(RequestInvalid, match=r"^messages: nothing is left"):
        form(*messages)


def test_what_is_wrong_is_named_with_the_place_of_the_message() -> None:
    good, bad = user(text("x")), user({"type": "text", "text": 5})
    with pytest.raises(RequestInvalid, match=r"^messages\.1\.content\.0\.text: .*string"):
        canonical(head(good, bad))


def test_a_prefill_with_half_a_character_is_refused_and_no_fault_of_ours() -> None:
    body = (
        b'{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"text","text":"\\ud800"}]}]}'
    )
    with pytest.raises(RequestInvalid):
        canonical(decode_messages(body))
