from typing import Any

import pytest

from router.translate.echo import begun_thinking, text_after, thinking_after
from tests.wire.canonical_samples import assistant, form, text, thinking, user

ASK = user(text("hi"))


@pytest.mark.parametrize(
    ("messages", "begun"),
    [
        ((ASK,), ""),
        ((ASK, assistant(text("Well"))), ""),
        ((ASK, assistant(thinking('I "say"\n'))), 'I "say"\n'),
        ((ASK, assistant(thinking("hm"), text("Well"))), "hm"),
        ((ASK, assistant(thinking("a")), assistant(thinking("b"))), "a\nb"),
        ((ASK, assistant(thinking("hm")), ASK), ""),
    ],
)
def test_the_thinking_that_a_last_assistant_turn_holds_is_begun(messages: tuple[Any, ...], begun: str) -> None:
    assert begun == begun_thinking(form(*messages))


@pytest.mark.parametrize(("said", "begun", "left"), [("abc", "ab", "c"), ("abc", None, "abc"), ("abc", "x", "abc")])
def test_a_text_goes_on_after_what_was_begun(said: str, begun: str | None, left: str) -> None:
    assert left == text_after(said, begun)


@pytest.mark.parametrize(
    ("said", "begun", "left"),
    [
        ("I say. More", "I say.", " More"),
        ("I say.\n\nMore", "I say.", "\n\nMore"),  # as its stream says it
        ("I say.\n", "I say.", ""),  # the template's line break before the end of the thinking
        ("I say.", "I say.", ""),
        ("Else", "I say.", "Else"),
        ("\n", "", "\n"),
        ("\n", "I say.", "\n"),
    ],
)
def test_thinking_goes_on_after_what_was_begun_and_blanks_alone_are_the_templates(
    said: str, begun: str, left: str
) -> None:
    assert left == thinking_after(said, begun)
