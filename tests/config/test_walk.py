from msgspec import inspect

from router.config.reading import Reading
from router.config.schema import RouterFile
from router.config.tree import compose
from router.config.walk import UNREAD, Walk

TEXT = b"""\
models:
  good: {instances: [{url: "http://a:1"}]}
  bad: {instances: [{url: 7}, {url: "http://b:1"}]}
"""


def walked(text: bytes) -> tuple[object, Reading]:
    reading = Reading(file="f")
    value = Walk(reading, {}).read(compose(text, file="f"), inspect.type_info(RouterFile), ())
    return value, reading


def test_what_could_be_read_is_kept_beside_what_could_not() -> None:
    _, reading = walked(TEXT)
    assert [problem.path for problem in reading.problems] == ["models.bad.instances[0].url"]
    assert reading.values["models", "bad", "instances", 1, "url"] == "http://b:1"
    assert ("models", "bad", "instances", 0) not in reading.values


def test_values_and_keys_have_marks_of_their_own() -> None:
    _, reading = walked(TEXT)
    assert reading.marks["models", "good", "instances", 0, "url"] == (2, 28)
    assert reading.key_marks["models", "good", "instances", 0, "url"] == (2, 23)


def test_a_mapping_without_a_key_that_it_needs_is_not_read() -> None:
    value, reading = walked(b"listen: 127.0.0.1:1")
    assert value is UNREAD
    assert reading.values["listen",] == "127.0.0.1:1"


def test_a_misspelt_key_is_not_also_reported_as_missing() -> None:
    _, reading = walked(b"modles: {}")
    assert [str(problem) for problem in reading.problems] == ['f:1:1: modles: unknown key; did you mean "models"?']
    assert reading.meant == {("models",)}
