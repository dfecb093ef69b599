from typing import Any, Literal

import msgspec
import pytest

from router.errors import RequestInvalid
from router.wire.fields import object_bytes, read_field


class Part(msgspec.Struct):
    size: Literal["small", "big"]
    only: Literal["this"] = "this"


class Shape(msgspec.Struct):
    name: str
    inner: list[int] = []
    part: Part | None = None
    parts: tuple[Part, ...] = ()
    colour: Literal["red", "green"] | None = None


decoder = msgspec.json.Decoder(Shape)


def test_a_field_that_is_right_is_read() -> None:
    assert Shape("a", [1]) == read_field(decoder, b'{"name":"a","inner":[1]}', "tools.2")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{}", r"^tools\.2\.name: field required"),
        (b'{"name":"a","inner":[1,"b"]}', r"^tools\.2\.inner\.(1|\.\.\.): .*string"),
        (b"[]", r"^tools\.2: .*array"),
        (b'{"name":', r"^tools\.2: is not valid JSON$"),
        (b'{"name":"\\ud800"}', r"^tools\.2: is not valid JSON$"),
        (b"[" * 9000, r"^tools\.2: "),
    ],
)
def test_what_is_wrong_is_said_with_the_whole_path(data: bytes, said: str) -> None:
    with pytest.raises(RequestInvalid, match=said):
        read_field(decoder, data, "tools.2")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"colour": "blue"}, """at.colour: must not be 'blue'; one of "red", "green\""""),
        ({"colour": 7}, 'at.colour: must be a string, not an integer; one of "red", "green"'),
        ({"part": {"size": "huge"}}, """at.part.size: must not be 'huge'; one of "small", "big\""""),
        ({"part": {}}, 'at.part.size: field required; one of "small", "big"'),
        (
            {"part": {"size": "big", "only": "that"}},
            """at.part.only: must not be 'that'; it can only be "this\"""",
        ),
        ({"part": "big"}, "at.part: must be an object, not a string"),
        ({"inner": ["a"]}, "at.inner.0: must be an integer, not a string"),
    ],
)
def test_where_few_values_are_known_they_are_listed_as_they_were_declared(more: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        read_field(decoder, msgspec.json.encode({"name": "a", **more}), "at")
    assert said == caught.value.message


def test_values_are_listed_inside_an_array_too() -> None:
    with pytest.raises(RequestInvalid, match=r'must not be .huge.; one of "small", "big"$'):
        read_field(decoder, b'{"name":"a","parts":[{"size":"big"},{"size":"huge"}]}', "at")


def test_an_object_stays_as_it_was_written() -> None:
    assert object_bytes(msgspec.Raw(b'{ "b" : 1}'), "input") == b'{ "b" : 1}'


@pytest.mark.parametrize("data", [b"[]", b"null", b'"a"', b"", b"1"])
def test_anything_but_an_object_is_refused(data: bytes) -> None:
    with pytest.raises(RequestInvalid, match=r"^input: must be an object"):
        object_bytes(data, "input")
