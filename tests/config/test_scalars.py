import pytest
import yaml
from msgspec import inspect

from router.config.scalars import found, is_null, read_scalar, tag_of, wanted
from router.config.schema import Bytes, Count, InstanceEntry, LogRules, Seconds


def composed(text: str) -> yaml.Node:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    return node


def scalar(text: str) -> yaml.ScalarNode:
    node = composed(text)
    assert isinstance(node, yaml.ScalarNode)
    return node


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{}", "a mapping"),
        ("[]", "a list"),
        ("~", "nothing"),
        ("on", "true or false"),
        ("1.0", "a number"),
        ("2024-01-01", "a date"),
        ("word", "text"),
        ("!odd x", "something else"),
    ],
)
def test_what_stands_there_is_named_as_people_name_it(text: str, what: str) -> None:
    assert what == found(composed(text))


def test_a_tag_is_what_yaml_takes_the_text_for() -> None:
    assert tag_of(scalar("12:30")) == "int"
    assert tag_of(scalar("'12'")) == "str"
    assert is_null(scalar("null"))
    assert not is_null(scalar("''"))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Seconds, "a duration such as 20s"),
        (Bytes, "a size such as 32MiB"),
        (Count, "a whole number such as 4"),
        (bool | None, "true or false"),
        (LogRules, "a mapping with the keys level"),
        (tuple[int, ...], 'a list, each entry a whole number such as 4 (after "- " or inside [ ])'),
        (dict[str, InstanceEntry], "names, each with its settings"),
        (str | None, "text"),
    ],
)
def test_what_belongs_there_is_said_in_words(kind: object, text: str) -> None:
    assert text == wanted(inspect.type_info(kind))


@pytest.mark.parametrize("text", ["0x10", "010", "1_000", "4.0", "1e3", "12:30", "yes", "9" * 30, "'4'"])
def test_only_plain_digits_are_a_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"digits|without quotes"):
        read_scalar(scalar(text), inspect.type_info(int), None, {})


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("Yes", True), ("ON", True), ("false", False), ("no", False)]
)
def test_each_of_yamls_words_is_true_or_false(text: str, value: bool) -> None:
    assert read_scalar(scalar(text), inspect.type_info(bool), None, {}) is value


@pytest.mark.parametrize("text", ["1", "0", "'true'", "y", "truth", "1.0"])
def test_no_other_word_is(text: str) -> None:
    with pytest.raises(ValueError, match="write true or false"):
        read_scalar(scalar(text), inspect.type_info(bool), None, {})


@pytest.mark.parametrize(("written", "env"), [("${A}", {"A": "k"}), ("k", {}), ("${A}${B}", {"A": "k", "B": "k"})])
def test_a_key_is_taken_from_the_environment_or_as_it_is(written: str, env: dict[str, str]) -> None:
    key = read_scalar(scalar(f"'{written}'"), inspect.type_info(str), "secret", env)
    assert key in ("k", "kk")


@pytest.mark.parametrize(
    ("written", "env", "phrase"),
    [
        ("'${A}'", {}, "variable A, which is not set"),
        ("'${A}'", {"A": ""}, "variable A, which is empty"),
        ("'${A}'", {"A": "hunter2\n"}, "a line break"),
        ("'${A-b}'", {"A": "hunter2"}, "is no variable"),
        ("''", {}, "leave the key out"),
        ("12345", {}, "put it in quotes"),
    ],
)
def test_a_key_that_cannot_be_used_is_told_why_but_not_shown(written: str, env: dict[str, str], phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase) as caught:
        read_scalar(scalar(written), inspect.type_info(str), "secret", env)
    assert "hunter2" not in str(caught.value)
    assert "12345" not in str(caught.value)


def test_a_key_from_the_environment_is_not_expanded_again() -> None:
    assert read_scalar(scalar("'${A}'"), inspect.type_info(str), "secret", {"A": "${B}"}) == "${B}"
