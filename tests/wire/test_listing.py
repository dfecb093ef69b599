import json
from typing import Any

import pytest

from router.errors import RequestInvalid
from router.wire import shapes
from router.wire.listing import listed


def read(content: Any) -> tuple[Any, list[str]]:
    dropped: list[str] = []
    return listed(json.dumps(content).encode(), "p", dropped), dropped


def test_a_text_is_a_text_and_null_an_empty_one() -> None:
    assert ("hi", []) == read("hi")
    assert ("", []) == read(None)


def test_blocks_keep_their_places_when_others_between_them_are_not_known() -> None:
    blocks = [
        {"type": "new_block", "text": 1},
        {"type": "text", "text": "a"},
        {"type": "container_upload"},
        {"type": "text", "text": "b"},
    ]
    assert ([(1, shapes.Text("a")), (3, shapes.Text("b"))], ["new_block", "container_upload"]) == read(blocks)


def test_an_unknown_block_in_a_result_leaves_the_result() -> None:
    content = [{"type": "browser_state"}]
    ((place, found),), dropped = read([{"type": "tool_result", "tool_use_id": "a", "content": content}])
    assert (0, []) == (place, dropped)
    assert isinstance(found, shapes.LooseResult)
    assert content == json.loads(bytes(found.content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (5, r"^p: "),
        ({"type": "text", "text": "a"}, r"^p: "),
        (["a"], r"^p\.0: "),
        ([{"type": "text", "text": "a"}, {"text": "b"}], r"^p\.1\.type: field required"),
        ([{"type": "text"}], r"^p\.0\.text: field required"),
        ([{"type": "new"}, {"type": "text", "text": 1}], r"^p\.1\.text: "),
        ([{"type": 1}], r"^p\.0\.type: "),
    ],
)
def test_a_wrong_block_is_named_by_its_place(content: Any, said: str) -> None:
    with pytest.raises(RequestInvalid, match=said):
        read(content)


@pytest.mark.parametrize(
    "content", [b'"\\ud800"', b'[{"type":"text","text":"\\q"}]', b'["', b'[{"type":"new","a":"\\q"}]']
)
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(RequestInvalid, match=r"^p(\.0)?: is not valid JSON$"):
        listed(content, "p", [])
