import pytest

from router.config.problem import ConfigInvalid, ConfigProblem, Path, path_text, quoted


def problem(line: int, *, path: str = "models.qwen", hint: str | None = None) -> ConfigProblem:
    return ConfigProblem(file="router.yaml", line=line, column=9, path=path, reason="unknown key", hint=hint)


def test_a_problem_reads_as_place_path_reason_and_hint() -> None:
    expected = 'router.yaml:12:9: models.qwen: unknown key; did you mean "url"?'
    assert expected == str(problem(12, hint='did you mean "url"?'))
    assert str(problem(12, path="")) == "router.yaml:12:9: unknown key"


def test_an_invalid_file_tells_its_problems_in_the_order_of_the_file() -> None:
    invalid = ConfigInvalid([problem(20), problem(3)])
    assert [each.line for each in invalid.problems] == [3, 20]
    assert str(invalid).splitlines() == [str(each) for each in invalid.problems]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("models", "qwen", "instances", 0, "url"), "models.qwen.instances[0].url"),
        (("models", "qwen3.5", "aliases"), 'models["qwen3.5"].aliases'),
        (("a\nb",), '["a\\nb"]'),
    ],
)
def test_a_path_is_written_so_that_it_cannot_be_misread(path: Path, text: str) -> None:
    assert text == path_text(path)


def test_quoted_text_is_one_short_ascii_line() -> None:
    assert quoted("ä\n") == '"\\u00e4\\n"'
    assert len(quoted("x" * 1000)) == 62
