import pytest

from router.config.problem import ConfigInvalid
from router.config.tree import compose, mark_of


@pytest.mark.parametrize(
    ("data", "line", "column", "phrase"),
    [
        (b"", 1, 1, "the file is empty"),
        (b"# only a comment\n", 1, 1, "the file is empty"),
        (b"models:\n\tqwen: 1\n", 2, 1, "indent with spaces only"),
        (b"a: 1\nb: *claude\n", 2, 4, "begins with * in quotes"),
        (b"a: 1\nb: c: d\n", 2, 5, "put the value in quotes"),
        (b"a:\n  - [1, 2\nb: 3\n", 2, 5, "close it with ]"),
        (b"a:\n  - {b: 1\nc: 3\n", 2, 5, "close it with }"),
        (b'a: 1\nb: "c\nd: 2\n', 2, 4, "close it on the same line"),
        (b"a: 1\n---\nb: 2\n", 2, 1, "remove the ---"),
        (b"a: &x 1\nb: &x 2\n", 2, 4, "an anchor"),
        (b"a: @b\n", 1, 4, "put the value in quotes"),
        (b'a: "C:\\path"\n', 1, 8, "single quotes"),
        (b"a: 1\n b: 2\n", 2, 3, "indent the line like its neighbours"),
        (b"a:\n  b: 1\n c: 2\n", 3, 2, "indent it exactly"),
        (b"a: 1\nb\nc: 2\n", 3, 1, "key: value"),
        (b"a: 1\nb: \x00\n", 2, 4, "a character that YAML does not allow"),
        (b"a: 1\nb: \xe4\n", 2, 4, "save the file as UTF-8"),
        ("a: 1".encode("utf-16"), 1, 1, "save the file as UTF-8"),
        (b"[" * 5000, 1, 1, "nested too deeply"),
        (b'a: "\\U00110000"', 1, 1, "no character"),
        (b"a: %x", 1, 4, "put the value in quotes"),
        (b"!x!y a", 1, 1, "not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_told_where_and_why(data: bytes, line: int, column: int, phrase: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        compose(data, file="router.yaml")
    (problem,) = caught.value.problems
    assert (line, column) == (problem.line, problem.column), str(problem)
    assert phrase in str(problem)


def test_a_name_from_the_file_stays_out_of_a_syntax_error() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        compose(b"api_key: *sk-hunter2\n", file="router.yaml")
    assert "hunter2" not in str(caught.value)


def test_marks_count_from_one_and_a_byte_order_mark_counts_for_nothing() -> None:
    assert mark_of(compose(b"\xef\xbb\xbfa: 1", file="router.yaml")) == (1, 1)
    assert mark_of(compose(b"# first\n  a: 1", file="router.yaml")) == (2, 3)
