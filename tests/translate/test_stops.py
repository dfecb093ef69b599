import pytest

from router.translate.stops import GAVE_UP, STOP_REASONS, finish_word, stop_reason


@pytest.mark.parametrize(
    ("finish", "tools", "refused", "word", "expected"),
    [
        ("stop", False, False, None, ("end_turn", None)),
        ("stop", True, False, None, ("tool_use", None)),
        ("stop", True, False, "END", ("tool_use", None)),
        ("stop", False, False, "END", ("stop_sequence", "END")),
        ("stop", False, False, "</s>", ("end_turn", None)),
        ("stop", False, True, None, ("refusal", None)),
        ("length", False, False, None, ("max_tokens", None)),
        ("length", True, True, "END", ("max_tokens", None)),
        ("tool_calls", True, False, None, ("tool_use", None)),
        ("tool_calls", False, False, None, ("end_turn", None)),
        ("function_call", True, False, None, ("tool_use", None)),
        ("content_filter", True, False, None, ("refusal", None)),
        ("eos_token", False, False, None, ("end_turn", None)),
    ],
)
def test_a_finish_becomes_a_reason(
    finish: str, tools: bool, refused: bool, word: str | None, expected: tuple[str, str | None]
) -> None:
    assert expected == stop_reason(finish, tools=tools, refused=refused, word=word, stop=("END",))


def test_what_gave_up_has_no_reason() -> None:
    assert set() == GAVE_UP & set(STOP_REASONS)


@pytest.mark.parametrize(
    ("finish", "calls", "word"),
    [
        *[(finish, True, finish) for finish in STOP_REASONS],
        ("tool_calls", False, "stop"),
        ("tool_use", True, "tool_calls"),
        ("tool_use", False, "stop"),
        ("max_tokens", False, "length"),
        ("model_length", True, "length"),
        ("eos", False, "stop"),
        ("eos", True, "tool_calls"),
    ],
)
def test_a_reason_is_told_in_a_word_that_openai_has(finish: str, calls: bool, word: str) -> None:
    assert word == finish_word(finish, calls=calls)
