"""Requests for the tests of the canonical form: short ways to write them, and hypothesis' ways to make them up."""

import json
from typing import Any

from hypothesis import strategies as st

from router.wire.anthropic import MessagesHead, decode_messages
from router.wire.canonical import Canonical, canonical

ROLES = ("user", "assistant", "system")


def head(*messages: Any, **fields: Any) -> MessagesHead:
    body = {"model": "m", "max_tokens": 8, "messages": list(messages)} | fields
    return decode_messages(json.dumps(body).encode())


def form(*messages: Any, **fields: Any) -> Canonical:
    return canonical(head(*messages, **fields))


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def call(id_: str, name: str = "Read", **input_: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": name, "input": input_}


def result(id_: str, content: Any = "done", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_, "content": content, **more}


def thinking(words: str, signature: str = "") -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": signature}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": f"Does {name}.", "input_schema": {"type": "object"}, **more}


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}

# ---------------------------------------------------------------- made up

words = st.one_of(
    st.text(max_size=12), st.sampled_from(["", "Error: x", "<system-reminder>\nx", "x-anthropic-billing-header: a\nb"])
)
ids = st.sampled_from(["toolu_a", "toolu_b", "call_1", "toolu_01Xy", "odd id"])
marks = st.sampled_from([{}, {"cache_control": {"type": "ephemeral"}}])
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**40), 2**40),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=6), json_values, max_size=3)
texts = st.builds(lambda it, more: text(it, **more), words, marks)
images = st.sampled_from([IMAGE, {"type": "image", "source": {"type": "url", "url": "https://a.test/b.png"}}])
documents = st.builds(
    lambda title, it: {
        "type": "document",
        "title": title,
        "source": {"type": "text", "media_type": "text/plain", "data": it},
    },
    st.one_of(st.none(), words),
    words,
)
strange = st.builds(
    lambda kind: {"type": kind, "more": 1}, st.sampled_from(["server_tool_use", "container_upload", "new_block"])
)
references = st.builds(
    lambda name: {"type": "tool_reference", "tool_name": name}, st.sampled_from(["Late", "Later", "Lost"])
)
results = st.builds(
    lambda id_, content, more: {"type": "tool_result", "tool_use_id": id_} | content | more,
    ids,
    st.one_of(
        st.just({}),
        words.map(lambda it: {"content": it}),
        st.lists(st.one_of(texts, images, documents, references, strange), max_size=3).map(lambda it: {"content": it}),
    ),
    st.sampled_from([{}, {"is_error": True}, {"is_error": False}]),
)
user_messages = st.builds(
    lambda content: {"role": "user", "content": content},
    st.one_of(words, st.lists(st.one_of(texts, images, results, documents, strange), max_size=4)),
)
assistant_messages = st.builds(
    lambda content: {"role": "assistant", "content": content},
    st.one_of(
        words,
        st.lists(
            st.one_of(
                texts,
                st.builds(thinking, words),
                st.builds(
                    lambda id_, input_: {"type": "tool_use", "id": id_, "name": "Read", "input": input_}, ids, objects
                ),
                st.just({"type": "redacted_thinking", "data": "x"}),
                strange,
            ),
            max_size=4,
        ),
    ),
)
system_messages = st.builds(system, st.one_of(words, st.lists(texts, max_size=2)))
one_tool = st.builds(
    lambda name, more: tool(name, **more),
    st.sampled_from(["Read", "Late", "Later", "Write"]),
    st.sampled_from([{}, {"defer_loading": True}]),
)
tools = st.lists(one_tool, unique_by=lambda it: it["name"])


def _legal(fields: dict[str, Any]) -> dict[str, Any]:
    """Nobody can be made to call one of no tools."""
    if fields.get("tool_choice") == {"type": "any"} and not fields.get("tools"):
        return {name: value for name, value in fields.items() if name != "tool_choice"}
    return fields


requests = st.fixed_dictionaries(
    {
        "model": st.just("m"),
        "max_tokens": st.integers(0, 100),
        "messages": st.lists(st.one_of(user_messages, assistant_messages, system_messages), max_size=6).map(
            lambda some: [user(text("begin")), *some]
        ),
    },
    optional={
        "system": st.one_of(st.none(), words, st.lists(texts, max_size=3)),
        "tools": tools,
        "thinking": st.sampled_from(
            [None, {"type": "adaptive", "display": "omitted"}, {"type": "enabled", "budget_tokens": 2048}]
        ),
        "tool_choice": st.sampled_from(
            [None, {"type": "auto", "disable_parallel_tool_use": True}, {"type": "none"}, {"type": "any"}]
        ),
        "stop_sequences": st.lists(st.text(min_size=1, max_size=4), max_size=3),
        "temperature": st.floats(0, 2),
        "top_k": st.integers(0, 100),
        "stream": st.booleans(),
        "chat_template_kwargs": objects,
    },
).map(_legal)
