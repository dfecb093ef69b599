import json
from typing import Any

import pytest

from router.errors import RequestInvalid
from router.wire import shapes
from router.wire.inner import result_parts
from router.wire.listing import listed
from router.wire.parts import Image, Part
from tests.wire.canonical_samples import IMAGE, PDF, text


def read(content: Any, **more: Any) -> tuple[tuple[Part, ...], list[str], list[str]]:
    dropped: list[str] = []
    references: list[str] = []
    block = {"type": "tool_result", "tool_use_id": "a"} | ({} if content is ... else {"content": content}) | more
    found = listed(json.dumps([block]).encode(), "p", dropped)
    assert isinstance(found, list)
    result = found[0][1]
    assert isinstance(result, shapes.ToolResult | shapes.LooseResult)
    return result_parts(result, "p.0", dropped, references), dropped, references


SEARCH = {"type": "search_result", "source": "https://a.test", "title": "T", "content": [text("one"), text("two")]}
DOCUMENT = {"type": "document", "title": "T", "context": "C", "source": {"type": "text", "data": "words"}}
WITHIN = {"type": "document", "source": {"type": "content", "content": [text("one"), {"type": "new"}, text("two")]}}
REFERENCE = {"type": "tool_reference", "tool_name": "WebSearch"}


@pytest.mark.parametrize(
    ("content", "literal"),
    [
        ("done", b'"done"'),
        ([text("a"), text(""), text("b")], b'"a\\nb"'),
        (..., b'""'),
        (None, b'""'),
        ("", b'""'),
        ([], b'""'),
        ([SEARCH], b'"T\\nhttps://a.test\\none\\ntwo"'),
        ([DOCUMENT], b'"T\\nC\\nwords"'),
        ([WITHIN], b'"one\\ntwo"'),
        ([{"type": "document", "source": {"type": "content", "content": "words"}}], b'"words"'),
        ([REFERENCE, REFERENCE | {"tool_name": "B"}], b'"Tool WebSearch is now available.\\nTool B is now available."'),
    ],
)
def test_what_a_result_holds_becomes_one_text(content: Any, literal: bytes) -> None:
    assert (literal,) == read(content)[0]


def test_tools_that_a_result_names_and_blocks_that_nobody_knows_are_told() -> None:
    parts, dropped, references = read([REFERENCE, {"type": "browser_state"}, text("a"), {"type": "redacted_thinking"}])
    assert (b'"Tool WebSearch is now available.\\na"',) == parts
    assert (["browser_state", "redacted_thinking"], ["WebSearch"]) == (dropped, references)


def test_an_image_in_a_result_stays_an_image() -> None:
    before, image, after = read([text("a"), IMAGE, text("b")])[0]
    assert (b'"a"', b'"b"') == (before, after)
    assert isinstance(image, Image)


@pytest.mark.parametrize(
    ("content", "first"),
    [
        ("no such file", b'"Error: no such file"'),
        ("Error: no such file", b'"Error: no such file"'),
        (None, b'"Error: "'),
        ([IMAGE], b'"Error: "'),
    ],
)
def test_an_error_is_called_one_once(content: Any, first: bytes) -> None:
    assert first == read(content, is_error=True)[0][0]


@pytest.mark.parametrize(
    ("content", "path"),
    [([PDF], "p.0.content.0.source"), ([text("a"), {**IMAGE, "source": {"type": "file"}}], "p.0.content.1.source")],
)
def test_what_cannot_be_given_to_a_local_model_is_refused_by_its_place(content: Any, path: str) -> None:
    with pytest.raises(RequestInvalid, match="^" + path.replace(".", r"\.") + ": "):
        read(content)
