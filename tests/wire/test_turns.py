from typing import Any

import pytest

from router.wire.parts import Image, Result
from router.wire.turns import AssistantTurn, ResultTurn, Turn, UserTurn
from tests.wire.canonical_samples import IMAGE, assistant, call, form, result, system, text, thinking, user

BEGIN = user(text("begin"))


def turns(*messages: Any) -> tuple[Turn, ...]:
    return form(BEGIN, *messages).turns[1:]


def said(words: str) -> UserTurn:
    return UserTurn((b'"%b"' % words.encode(),))


def results_of(turn: Turn) -> list[tuple[str, bytes]]:
    assert isinstance(turn, ResultTurn)
    return [(it.id, it.parts[0]) for it in turn.results if isinstance(it.parts[0], bytes)]


def test_neighbours_of_one_role_become_one_turn() -> None:
    assert (UserTurn((b'"begin\\nmore"',)),) == form(BEGIN, user(text("more"))).turns
    assert (AssistantTurn(b'"hm\\nhm"', b'"a\\nb"', ()),) == turns(
        assistant(thinking("hm"), text("a")), assistant(thinking("hm"), text("b"))
    )


def test_a_turn_of_which_nothing_is_left_brings_its_neighbours_together() -> None:
    assert (AssistantTurn(b"", b'"a\\nb"', ()), said("c")) == turns(
        assistant(text("a")), user({"type": "new_block"}), assistant(text("b")), user(text("c"))
    )


def test_results_come_before_what_else_the_user_says() -> None:
    _, *rest = turns(assistant(call("toolu_a")), user(text("and"), result("toolu_a", "r"), text("so?")))
    assert [ResultTurn((Result("a", (b'"r"',)),)), UserTurn((b'"and\\nso?"',))] == rest


def test_results_come_in_the_order_of_the_calls_and_strangers_after_them() -> None:
    _, found = turns(
        assistant(call("toolu_a"), call("toolu_b")),
        user(result("toolu_z", "Z"), result("toolu_b", "B"), result("other", "O"), result("toolu_a", "A")),
    )
    assert [("a", b'"A"'), ("b", b'"B"'), ("z", b'"Z"'), ("other", b'"O"')] == results_of(found)


def test_results_that_are_sent_one_by_one_become_one_turn() -> None:
    _, found = turns(assistant(call("toolu_a"), call("toolu_b")), user(result("toolu_b")), user(result("toolu_a")))
    assert ["a", "b"] == [id_ for id_, _ in results_of(found)]


def test_a_call_that_was_never_answered_gets_a_result_unless_it_is_the_last_word() -> None:
    calls = assistant(call("toolu_a"), call("toolu_b"), call("toolu_c"))
    _, found = turns(calls, user(result("toolu_b", "B")))
    assert [("a", b'"No result."'), ("b", b'"B"'), ("c", b'"No result."')] == results_of(found)
    _, found, after = turns(calls, user(text("so?")))
    assert ["a", "b", "c"] == [id_ for id_, _ in results_of(found)]
    assert said("so?") == after
    assert 1 == len(turns(calls))


def test_results_without_calls_are_still_results() -> None:
    (found,) = form(user(result("toolu_a", "A"))).turns
    assert [("a", b'"A"')] == results_of(found)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Now.", "<system-reminder>\\nNow.\\n</system-reminder>"),
        ([text("Now."), text("Here.")], "<system-reminder>\\nNow.\\n\\nHere.\\n</system-reminder>"),
        ("<system-reminder>\nNow.\n</system-reminder>", "<system-reminder>\\nNow.\\n</system-reminder>"),
    ],
)
def test_a_system_message_in_mid_conversation_is_said_by_the_user_in_place(content: Any, words: str) -> None:
    assert (AssistantTurn(b"", b'"a"', ()), said(f"{words}\\nso?")) == turns(
        assistant(text("a")), system(content), user(text("so?"))
    )


def test_a_system_message_between_a_call_and_its_result_comes_after_the_result() -> None:
    _, found, after = turns(assistant(call("toolu_a")), system("Now."), user(result("toolu_a", "A")))
    assert [("a", b'"A"')] == results_of(found)
    assert said("<system-reminder>\\nNow.\\n</system-reminder>") == after


def test_leading_system_messages_belong_to_the_system_prompt() -> None:
    c = form(system("One."), user(), system("Two."), BEGIN, system=None)
    assert (b'"One.\\n\\nTwo."', (said("begin"),)) == (c.system, c.turns)


def test_images_are_seen_wherever_they_are() -> None:
    assert form(user(IMAGE)).has_images
    assert form(BEGIN, assistant(call("toolu_a")), user(result("toolu_a", [text("a"), IMAGE]))).has_images
    assert not form(BEGIN, assistant(text("a"), call("toolu_a")), user(result("toolu_a"))).has_images
    (turn,) = form(user(text("a"), IMAGE)).turns
    assert isinstance(turn, UserTurn)
    assert isinstance(turn.parts[1], Image)
