import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.chain import PIECE_BYTES, Chain, common
from router.balance.chat_units import chat_chain, completion_chain
from router.balance.units import IMAGE_BYTES, messages_chain
from router.wire.anthropic import decode_messages
from router.wire.canonical import canonical
from tests.captures.reading import captured

steady = settings(derandomize=True, max_examples=300, deadline=None)
URL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
OTHER_URL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aG8="}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
OTHER_TOOL = {"type": "function", "function": {"name": "g", "parameters": {}}}


def text(it: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": it, **more}


def said(role: str, content: Any = None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def known(chain: Chain | None) -> Chain:
    assert chain is not None
    return chain


def of(*messages: Any, pool: str = "m", **fields: Any) -> Chain:
    return known(chat_chain(pool, json.dumps({"model": "m", "messages": list(messages), **fields}).encode()))


HI = said("user", "hi")
SYSTEM = said("system", "s")
CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
CALLING = said("assistant", tool_calls=CALLS)
OTHER_CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]


@pytest.mark.parametrize(
    ("why", "one", "other"),
    [
        ("a text is a string or its one part", of(said("user", [text("hi")])), of(HI)),
        ("a mark moves", of(said("user", [text("hi", cache_control={"type": "ephemeral"})])), of(HI)),
        ("sampling is no part of the prompt", of(HI, temperature=1, stream=True), of(HI)),
        ("fields in another order", of({"content": "hi", "role": "user"}), of(HI)),
        ("no content and null", of(HI, {"role": "assistant", "tool_calls": CALLS}), of(HI, CALLING)),
        ("no tools and null and none", of(HI, tools=None), of(HI, tools=[])),
    ],
)  # fmt: skip
def test_the_same_prompt_is_the_same_chain(why: str, one: Chain, other: Chain) -> None:
    assert one == other, why


@pytest.mark.parametrize(
    ("why", "one", "other", "alike"),
    [
        ("who speaks", of(HI, said("assistant", "x")), of(HI, said("tool", "x")), 1),
        ("system and developer", of(said("system", "x"), HI), of(said("developer", "x"), HI), 0),
        ("roles that nobody knows", of(HI, said("a", "x")), of(HI, said("b", "x")), 1),
        ("a call", of(HI, CALLING), of(HI, said("assistant", tool_calls=OTHER_CALLS)), 1),
        ("a thought", of(HI, said("assistant", "x", reasoning_content="y")), of(HI, said("assistant", "x")), 1),
        ("the thought", of(said("assistant", reasoning_content="y")), of(said("assistant", reasoning_content="z")), 0),
        ("an image", of(said("user", [URL])), of(said("user", [OTHER_URL])), 0),
        ("where an image stands", of(said("user", [URL, text("x")])), of(said("user", [text("x"), URL])), 0),
        ("two texts or one", of(said("user", [text("a"), text("b")])), of(said("user", "ab")), 0),
        ("tools, after the system", of(SYSTEM, HI, tools=[TOOL]), of(SYSTEM, HI, tools=[OTHER_TOOL]), 1),
        ("tools, before the user", of(HI, tools=[TOOL]), of(said("user", "ho"), tools=[TOOL]), 1),
        ("tools without a user", of(SYSTEM, tools=[TOOL]), of(SYSTEM, tools=[OTHER_TOOL]), 1),
        ("whether there are tools", of(SYSTEM, HI), of(SYSTEM, HI, tools=[TOOL]), 0),
        ("the pool", of(HI), of(HI, pool="n"), 0),
        ("the effort", of(HI, reasoning_effort="low"), of(HI, reasoning_effort="high"), 0),
        ("the template's arguments", of(HI, chat_template_kwargs={"a": 1}), of(HI, chat_template_kwargs={"a": 2}), 0),
    ],
)  # fmt: skip
def test_another_prompt_is_another_chain_from_where_it_differs(why: str, one: Chain, other: Chain, alike: int) -> None:
    assert one.ids[-1] != other.ids[-1], why
    assert alike == common(one, other), why


def test_an_image_has_the_length_of_its_tokens_not_of_its_bytes() -> None:
    large = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "aGk=" * 100_000}}
    assert of(said("user", [URL])).size_bytes == of(said("user", [large])).size_bytes >= IMAGE_BYTES


def test_what_both_apis_say_alike_is_one_prompt() -> None:
    """So a system prompt that was warmed by the one is warm for the other."""
    body = {"model": "m", "max_tokens": 1, "system": "s", "messages": [HI], "output_config": {"effort": "low"}}
    other = messages_chain("m", canonical(decode_messages(json.dumps(body).encode())))
    assert other == of(said("system", "s"), HI, reasoning_effort="low")


def test_real_turns_begin_with_all_of_the_turn_before() -> None:
    first, second, again = (known(chat_chain("m", it.body)) for it in captured("/v1/chat/completions"))
    assert len(second) == len(first) + 2
    assert len(first) == common(first, second)
    assert first == again  # the same question, to be streamed


messages = st.lists(
    st.builds(
        said,
        st.sampled_from(["system", "user", "assistant", "tool"]),
        st.one_of(st.none(), st.text(max_size=3), st.lists(st.sampled_from([text("a"), URL]), max_size=2)),
    ),
    min_size=1,
    max_size=4,
)


@steady
@given(messages, messages, st.sampled_from([{}, {"tools": [TOOL]}]))
def test_what_a_conversation_adds_comes_last(earlier: list[Any], more: list[Any], fields: dict[str, Any]) -> None:
    one, other = of(HI, *earlier, **fields), of(HI, *earlier, *more, **fields)
    assert len(one) == common(one, other)
    assert len(other) >= len(one) + len(more)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"messages":[]}', b'{"messages":[{"content":"x"}]}',
        b'{"messages":[{"role":5}]}',
    ],
)  # fmt: skip
def test_a_body_that_is_no_chat_has_no_chain(body: bytes) -> None:
    assert chat_chain("m", body) is None


@pytest.mark.parametrize(
    "content", [5, {}, [5], [[]], [{}], [{"type": 5}], [{"type": "x"}], [{"text": 5}], [{"type": "é"}]]
)
def test_content_that_is_odd_is_told_apart_all_the_same(content: Any) -> None:
    assert of(said("user", content)) == of(said("user", content)) != of(HI)


def test_a_type_of_part_that_is_no_text_is_no_trouble() -> None:
    assert chat_chain("m", b'{"messages":[{"role":"user","content":[{"type":"\xff"}]}]}') is not None


@steady
@given(st.binary(max_size=60))
def test_any_bytes_have_a_chain_or_none(body: bytes) -> None:
    chat_chain("m", b'{"messages":[{"role":"user","content":[%b]}]}' % body)
    completion_chain("m", b'{"prompt":%b}' % body)


def completion(prompt: Any, pool: str = "m") -> Chain | None:
    return completion_chain(pool, json.dumps({"prompt": prompt}).encode())


@pytest.mark.parametrize("grown", [1, PIECE_BYTES, 3 * PIECE_BYTES + 1])
@pytest.mark.parametrize("size", [1, PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES + 5])
def test_a_text_that_has_grown_begins_with_all_its_whole_pieces(size: int, grown: int) -> None:
    one, other = known(completion("x" * size)), known(completion("x" * (size + grown)))
    assert size == one.size_bytes
    assert size // PIECE_BYTES == common(one, other)


def test_tokens_are_a_prompt_like_a_text_but_another() -> None:
    one, other = known(completion([1, 2] * 2000)), known(completion([1, 2] * 3000))
    assert common(one, other) == one.size_bytes // PIECE_BYTES > 0
    assert common(known(completion([1])), known(completion("1"))) == 0


def test_the_pool_and_the_text_decide() -> None:
    assert known(completion("a")) == known(completion("a"))
    assert common(known(completion("a")), known(completion("b"))) == 0
    assert common(known(completion("a")), known(completion("a", pool="n"))) == 0


@pytest.mark.parametrize(
    "prompt", [None, "", [], 5, {"prompt_string": "x"}, ["a", "b"], [[1], [2]], [{"prompt_string": "a"}]]
)
def test_no_prompt_or_several_have_no_chain(prompt: Any) -> None:
    assert completion(prompt) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"input":"x"}', b'{"prompt":'])
def test_a_body_without_a_prompt_has_no_chain(body: bytes) -> None:
    assert completion_chain("m", body) is None
