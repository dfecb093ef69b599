import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.chain import Chain, chain, common
from router.balance.units import ASSISTANT, IMAGE_BYTES, messages_chain, units
from router.errors import RequestInvalid
from router.translate.request import chat_body
from router.wire.anthropic import decode_messages
from router.wire.canonical import Canonical, canonical
from tests.captures.reading import Captured, captured, consecutive_turns

steady = settings(derandomize=True, max_examples=300, deadline=None)
PNG = {"type": "base64", "media_type": "image/png", "data": "aGk="}
OTHER_PNG = {**PNG, "data": "aG8="}


def text(it: str) -> dict[str, Any]:
    return {"type": "text", "text": it}


def image(source: dict[str, Any]) -> dict[str, Any]:
    return {"type": "image", "source": source}


def thought(it: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": it, "signature": ""}


def use(name: str, *, id_: str = "c1", **given_: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": name, "input": given_}


def result(content: Any, id_: str = "c1") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_, "content": content}


def tool(name: str, about: str = "", **schema: Any) -> dict[str, Any]:
    return {"name": name, "description": about, "input_schema": {"type": "object", **schema}}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def model(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def form(*messages: Any, **fields: Any) -> Canonical:
    body = {"model": "m", "max_tokens": 9, "messages": list(messages), **fields}
    return canonical(decode_messages(json.dumps(body).encode()))


def of(*messages: Any, pool: str = "m", **fields: Any) -> Chain:
    return messages_chain(pool, form(*messages, **fields))


HI = user(text("hi"))
IMAGE = image(PNG)
CALLED = (HI, model(use("f")))
STRANGER = result("y", "z")  # of a call that nobody made


@pytest.mark.parametrize(
    ("why", "one", "other"),
    [
        ("a text is a string or its one block", of({"role": "user", "content": "hi"}), of(HI)),
        ("a mark moves", of(user({**text("hi"), "cache_control": {"type": "ephemeral"}})), of(HI)),
        (
            "the attribution line changes",
            of(HI, system=[text("x-anthropic-billing-header: cch=12345;"), text("s")]),
            of(HI, system=[text("x-anthropic-billing-header: cch=54321;"), text("s")]),
        ),
        ("sampling is no part of the prompt", of(HI), of(HI, temperature=0.5, stream=True)),
        (
            "nor is how long may be thought",
            of(HI, thinking={"type": "enabled", "budget_tokens": 1024}),
            of(HI, thinking={"type": "enabled", "budget_tokens": 2048}),
        ),
        (
            "results come in the order in which tools end",
            of(
                HI,
                model(use("f", id_="a"), use("f", id_="b")),
                user(result("1", "a"), result("2", "b")),
            ),
            of(
                HI,
                model(use("f", id_="a"), use("f", id_="b")),
                user(result("2", "b"), result("1", "a")),
            ),
        ),
        (
            "ids are made up anew",
            of(*CALLED, user(result("1"))),
            of(HI, model(use("f", id_="x")), user(result("1", "x"))),
        ),
    ],
)
def test_the_same_prompt_is_the_same_chain(why: str, one: Chain, other: Chain) -> None:
    assert one == other, why


@pytest.mark.parametrize(
    ("why", "one", "other", "alike"),
    [
        ("who speaks", of(HI, model(text("x")), HI), of(HI, model(use("x")), user(result("hi"))), 1),
        ("the user or the model", of(HI), of(model(text("hi"))), 0),
        ("a result or a text", of(*CALLED, user(result("x"), STRANGER)), of(*CALLED, user(result("x"), text("y"))), 3),
        ("a user's text is no system text", of(HI, system="s"), of(user(text("s")), model(text("hi")), HI), 0),
        ("a user's text is no result", of(*CALLED, user(result("x"))), of(*CALLED, user(text("x"))), 2),
        ("a thought is no text", of(HI, model(thought("x")), HI), of(HI, model(text("x")), HI), 1),
        (
            "a thought and a text the other way round",
            of(HI, model(thought("x"), text("y")), HI),
            of(HI, model(thought("y"), text("x")), HI),
            1,
        ),
        ("a tool's name", of(*CALLED, user(result("1"))), of(HI, model(use("g")), user(result("1"))), 1),
        ("a tool's input", of(*CALLED, user(result("1"))), of(HI, model(use("f", a=1)), user(result("1"))), 1),
        ("an image", of(user(IMAGE)), of(user(image(OTHER_PNG))), 0),
        ("where an image stands", of(user(IMAGE, text("x"))), of(user(text("x"), IMAGE)), 0),
        ("whose image", of(*CALLED, user(result("x"), IMAGE)), of(*CALLED, user(result([text("x"), IMAGE]))), 2),
        ("two results or one", of(*CALLED, user(result("x"))), of(*CALLED, user(result("x"), result("y", "z"))), 3),
        ("the order of tools", of(HI, tools=[tool("f"), tool("g")]), of(HI, tools=[tool("g"), tool("f")]), 0),
        ("a later tool", of(HI, tools=[tool("f"), tool("g")]), of(HI, tools=[tool("f"), tool("h")]), 1),
        ("what a tool is for", of(HI, tools=[tool("f", "x")]), of(HI, tools=[tool("f", "y")]), 0),
        ("a tool's schema", of(HI, tools=[tool("f")]), of(HI, tools=[tool("f", properties={})]), 0),
        ("tools, after the system", of(HI, tools=[tool("f")], system="s"), of(HI, tools=[tool("g")], system="s"), 1),
        ("whether there are tools", of(HI, system="s"), of(HI, system="s", tools=[tool("f")]), 0),
        ("the pool", of(HI), of(HI, pool="n"), 0),
        ("thinking", of(HI, thinking={"type": "adaptive"}), of(HI, thinking={"type": "disabled"}), 0),
        ("nothing said of thinking", of(HI, thinking={"type": "adaptive"}), of(HI), 0),
        ("the effort", of(HI, output_config={"effort": "low"}), of(HI, output_config={"effort": "high"}), 0),
        ("the template's arguments", of(HI, chat_template_kwargs={"a": 1}), of(HI, chat_template_kwargs={"a": 2}), 0),
    ],
)  # fmt: skip
def test_another_prompt_is_another_chain_from_where_it_differs(why: str, one: Chain, other: Chain, alike: int) -> None:
    """As far as that both are as long as they are: the last of each differs."""
    if alike < min(len(one), len(other)):
        assert one.ids[-1] != other.ids[-1], why
    assert alike == common(one, other), why


def test_an_image_has_the_length_of_its_tokens_not_of_its_bytes() -> None:
    small, large = of(user(IMAGE)), of(user(image({**PNG, "data": "aGk=" * 100_000})))
    assert small.size_bytes == large.size_bytes
    assert IMAGE_BYTES <= small.size_bytes <= IMAGE_BYTES + 10


def test_the_sizes_are_those_of_the_texts() -> None:
    one, other = of(user(text("x" * 1000)), system="s"), of(user(text("x" * 1500)), system="s")
    assert other.size_bytes - one.size_bytes == 500
    assert 1001 <= one.size_bytes <= 1010


def test_a_text_that_the_client_left_open_goes_on() -> None:
    """The prefill: it is a turn like any other until the model has added to it."""
    open_, done = of(HI, model(text("I am"))), of(HI, model(text("I am here")), HI)
    assert common(open_, done) == 1
    assert list(units(form(HI, model(text("I am")))))[-1] == ASSISTANT + b'"I am"'


# Small alphabets, so that two requests are often the same but for one thing.
texts = st.sampled_from(["", "a", "b", '"', '\\"', "\u0000", "é"])
blocks = {
    "user": st.one_of(
        texts.map(text),
        st.sampled_from([IMAGE, image(OTHER_PNG)]),
        st.builds(result, st.one_of(texts, st.lists(st.one_of(texts.map(text), st.just(IMAGE)), max_size=2))),
    ),
    "assistant": st.one_of(texts.map(text), texts.map(thought), st.builds(use, st.sampled_from(["f", "fa"]), a=texts)),
    "system": texts.map(text),
}
said: st.SearchStrategy[dict[str, Any]] = st.sampled_from(sorted(blocks)).flatmap(
    lambda role: st.builds(dict, role=st.just(role), content=st.lists(blocks[role], max_size=3))
)
requests = st.builds(
    lambda messages, fields: {"model": "m", "max_tokens": 9, "messages": messages, **fields},
    st.lists(said, min_size=1, max_size=4),
    st.fixed_dictionaries({}, optional={"system": texts, "tools": texts.map(lambda about: [tool("f", about)])}),
)


def read(request: dict[str, Any]) -> Canonical | None:
    try:
        return canonical(decode_messages(json.dumps(request).encode()))
    except RequestInvalid:
        return None


def rendered(call: Canonical) -> bytes:
    """What an instance is sent, without the ids of calls."""
    body = msgspec.json.decode(chat_body(call, model="m", llama=True))
    for message in body["messages"]:
        message.pop("tool_call_id", None)
        for it in message.get("tool_calls", ()):
            it.pop("id")
    return msgspec.json.encode(body)


@steady
@given(requests, requests)
def test_units_are_equal_exactly_when_what_is_sent_is_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    mine, theirs = read(one), read(other)
    if mine is not None and theirs is not None:
        assert (list(units(mine)) == list(units(theirs))) is (rendered(mine) == rendered(theirs))


@steady
@given(requests, st.data())
def test_one_thing_changed_changes_the_units_as_it_changes_what_is_sent(
    one: dict[str, Any], data: st.DataObject
) -> None:
    messages = list(one["messages"])
    messages[data.draw(st.integers(0, len(messages) - 1))] = data.draw(said)
    mine, theirs = read(one), read({**one, "messages": messages})
    if mine is not None and theirs is not None:
        assert (list(units(mine)) == list(units(theirs))) is (rendered(mine) == rendered(theirs))


@steady
@given(requests, texts, texts)
def test_what_a_conversation_adds_comes_last(request: dict[str, Any], answer: str, question: str) -> None:
    earlier = read(request)
    if earlier is None or earlier.prefill is not None:
        return
    said_ = [*request["messages"], model(text(answer + "!")), user(text(question + "?"))]
    later = read({**request, "messages": said_})
    assert later is not None
    before, after = list(units(earlier)), list(units(later))
    assert after[:-2] == before


def chain_of(it: Captured) -> Chain:
    return messages_chain("m", canonical(decode_messages(it.body)))


PAIRS = consecutive_turns()
TOOLS_FOUND = "toolsearch"  # they came while the conversation went on, and stand before it


@pytest.mark.parametrize(("earlier", "later"), PAIRS, ids=[later.name for _, later in PAIRS])
def test_a_real_turn_begins_with_all_of_the_turn_before(earlier: Captured, later: Captured) -> None:
    before, after = chain_of(earlier), chain_of(later)
    assert len(after) > len(before) > 10
    if TOOLS_FOUND not in later.name:
        assert len(before) == common(before, after)


def test_a_tool_that_was_found_breaks_off_after_the_tools_that_were_there() -> None:
    ((earlier, later),) = [pair for pair in PAIRS if TOOLS_FOUND in pair[1].name]
    one, other = (canonical(decode_messages(it.body)) for it in (earlier, later))
    assert len(other.tools) > len(one.tools)
    known = chain(0, units(msgspec.structs.replace(one, turns=())))
    assert len(known) == common(chain(0, units(one)), chain(0, units(other)))


def test_subagents_and_side_calls_of_a_session_share_little_with_its_main_prompt() -> None:
    """And so two that begin otherwise are seen to be others, whatever id they carry."""
    of_session = [it for it in captured() if it.name.startswith("claude-code-2.1.330-subagent")]
    agent = next(it for it in of_session if "x-claude-code-agent-id" in it.headers)
    mains = [it for it in of_session if "x-claude-code-agent-id" not in it.headers]
    assert len(mains) == 3
    for main in mains:
        assert common(chain_of(agent), chain_of(main)) == 0
