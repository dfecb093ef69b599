import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.parts import Call, Image, Part, joined, literal, settled

IMAGE = Image(b"{}", b'"data:x"')


@given(st.lists(st.text(), min_size=1))
def test_joined_literals_are_the_literal_of_the_joined_texts(texts: list[str]) -> None:
    assert literal("\n".join(texts)) == joined([literal(it) for it in texts])
    assert "\n\n".join(texts) == json.loads(joined([literal(it) for it in texts], b"\\n\\n"))


def test_of_no_literals_there_is_the_empty_one() -> None:
    assert b'""' == joined([])


@pytest.mark.parametrize(
    ("parts", "left"),
    [
        ([], ()),
        ([b'"a"'], (b'"a"',)),
        ([b'"a"', b'"b"'], (b'"a\\nb"',)),
        ([b'"a"', b'"b"', IMAGE, IMAGE, b'"c"'], (b'"a\\nb"', IMAGE, IMAGE, b'"c"')),
        ([IMAGE, b'"a"', b'"b"'], (IMAGE, b'"a\\nb"')),
    ],
)
def test_neighbouring_texts_become_one_and_images_stay_where_they_are(
    parts: list[Part], left: tuple[Part, ...]
) -> None:
    assert left == settled(parts)
    assert left == settled(left)


@pytest.mark.parametrize(
    ("given", "compact"),
    [
        (b"{}", "{}"),
        (b'{"b":1,"a":[true,null]}', '{"b":1,"a":[true,null]}'),
        (b'{ "b" : 1,\n "a":"\\u00e9 \\"" }', '{"b":1,"a":"\u00e9 \\""}'),
    ],
)
def test_the_arguments_of_a_call_are_its_input_as_compact_text(given: bytes, compact: str) -> None:
    assert json.loads(Call("c", "n", given).arguments) == compact
