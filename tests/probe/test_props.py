import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.fleet.instance import Facts
from router.probe.props import read_props

steady = settings(derandomize=True, max_examples=300, deadline=None)

# Cut to what is read and a little more, from xllamacpp 2026.10.
PROPS: dict[str, Any] = {
    "default_generation_settings": {"id": 0, "id_task": -1, "n_ctx": 4096, "params": {"temperature": 0.8}},
    "total_slots": 2,
    "model_alias": "qwen3-coder",
    "model_path": "/srv/models/qwen.gguf",
    "modalities": {"vision": False, "audio": False},
    "chat_template": "{% if enable_thinking %}<think>{% endif %}",
    "chat_template_caps": {"supports_tools": True, "supports_preserve_reasoning": False},
    "bos_token": "<s>",
    "build_info": "b9000-0123abcd",
    "is_sleeping": False,
}
FACTS = Facts(
    slots=2,
    ctx_tokens=4096,
    model="qwen3-coder",
    build="b9000-0123abcd",
    vision=False,
    tools=True,
    thinking=True,
    switch=True,
)


def props(**changes: Any) -> bytes:
    return json.dumps(PROPS | changes).encode()


def without(*names: str) -> bytes:
    return json.dumps({name: value for name, value in PROPS.items() if name not in names}).encode()


def test_the_facts_are_read() -> None:
    assert FACTS == read_props(props())


@pytest.mark.parametrize(
    ("body", "fact", "value"),
    [
        (props(total_slots=16), "slots", 16),
        (without("default_generation_settings"), "ctx_tokens", None),
        (props(default_generation_settings=None), "ctx_tokens", None),
        (props(default_generation_settings={}), "ctx_tokens", None),
        (without("model_alias"), "model", "/srv/models/qwen.gguf"),
        (props(model_alias=None), "model", "/srv/models/qwen.gguf"),
        (without("model_alias", "model_path"), "model", None),
        (without("is_sleeping"), "sleeping", False),
        (props(is_sleeping=True), "sleeping", True),
        (without("build_info"), "build", None),
        (without("modalities"), "vision", False),
        (props(modalities=None), "vision", False),
        (props(modalities={"audio": True}), "vision", False),
        (props(modalities={"vision": True}), "vision", True),
        (without("chat_template_caps"), "tools", None),
        (props(chat_template_caps={"supports_tools": True, "supports_reasoning_effort": True}), "effort", True),
        (props(chat_template="{{ enable_thinking ~ reasoning_effort }}"), "effort", True),
        (props(chat_template_caps={}), "tools", None),
        (props(chat_template_caps={"supports_tools": False}), "tools", False),
        (without("chat_template"), "thinking", None),
        (props(chat_template=""), "thinking", None),
        (props(chat_template="{{ message.reasoning_content }}"), "thinking", True),
        (props(chat_template="{{ message.content }}"), "thinking", False),
    ],
)
def test_a_fact_may_be_missing_without_the_others(body: bytes, fact: str, value: object) -> None:
    facts = read_props(body)
    assert facts is not None
    assert value == getattr(facts, fact)
    template = {"thinking", "switch"} if fact == "thinking" else {fact}  # the template alone says both
    others = [name for name in Facts.__struct_fields__ if name not in template]
    assert [getattr(FACTS, name) for name in others] == [getattr(facts, name) for name in others]


@pytest.mark.parametrize(
    ("template", "switch"),
    [("{{ enable_thinking }}", True), ("{{ message.reasoning_content }}", False), ("", False)],
)
def test_a_template_that_shows_thoughts_need_not_let_them_be_switched_off(template: str, switch: bool) -> None:
    facts = read_props(props(chat_template=template))
    assert facts is not None
    assert switch == facts.switch


def test_props_never_say_whether_there_are_messages() -> None:
    """That is found by asking: no page tells it."""
    facts = read_props(props())
    assert facts is not None
    assert facts.messages is None


def test_slots_alone_are_facts() -> None:
    assert Facts(slots=1) == read_props(b'{"total_slots":1}')


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"{}", b"[]", b"null", b'"ok"', b"<html></html>", b'{"status":"ok"}', b'{"total_slots":0}',
        b'{"total_slots":-1}', b'{"total_slots":"4"}', b'{"total_slots":1.5}', b'{"total_slots":null}',
        b'{"total_slots":true}', b'{"error":{"message":"Loading model"}}', without("total_slots"),
        b'{"total_slots":4,"build_info":"\xff"}', b'{"total_slots":4,"x":%b}' % (b"[" * 100_000 + b"]" * 100_000),
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)  # fmt: skip
def test_what_is_not_props_or_names_no_slots_is_nothing(body: bytes) -> None:
    assert read_props(body) is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["vision", "n_ctx", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@steady
@given(
    body=st.binary(max_size=100)
    | st.builds(lambda name, value: props(**{name: value}), st.sampled_from(sorted(PROPS)), _json)
)
def test_arbitrary_bytes_are_facts_or_nothing(body: bytes) -> None:
    facts = read_props(body)
    assert facts is None or facts.slots >= 1
