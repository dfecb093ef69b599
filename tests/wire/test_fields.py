import msgspec
import pytest

from router.errors import RequestInvalid
from router.wire.fields import object_bytes, read_field


class Shape(msgspec.Struct):
    name: str
    inner: list[int] = []


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


def test_an_object_stays_as_it_was_written() -> None:
    assert object_bytes(msgspec.Raw(b'{ "b" : 1}'), "input") == b'{ "b" : 1}'


@pytest.mark.parametrize("data", [b"[]", b"null", b'"a"', b"", b"1"])
def test_anything_but_an_object_is_refused(data: bytes) -> None:
    with pytest.raises(RequestInvalid, match=r"^input: must be an object"):
        object_bytes(data, "input")
