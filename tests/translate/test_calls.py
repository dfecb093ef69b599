import json
from typing import Any

import msgspec

from router.translate.calls import Call, Calls
from router.wire.openai import Delta
from tests.translate.chunks import part


def delta(*parts: dict[str, Any], **more: Any) -> Delta:
    return msgspec.json.decode(json.dumps({"tool_calls": parts, **more}), type=Delta)


def told(calls: Calls, *deltas: Delta) -> list[tuple[str, str, str]]:
    """Each piece with the name and id of its call, which takes the arguments as the stream does."""
    found = []
    for one in deltas:
        for call, added in calls.pieces(one):
            call.arguments.add(added)
            found.append((call.id, call.name, added))
    return found


def test_pieces_belong_to_the_call_of_their_index() -> None:
    assert [("a", "f", "{"), ("b", "g", "{"), ("a", "f", "}"), ("b", "g", "}")] == told(
        Calls("msg_1"),
        delta(part(0, "a", "f", "{"), part(1, "b", "g", "{")),
        delta(part(0, arguments="}"), part(1, arguments="}")),
    )


def test_without_an_index_the_position_counts() -> None:
    assert [("a", "f", "{}"), ("b", "g", "{}")] == told(
        Calls("msg_1"), delta(part(None, "a", "f", "{}"), part(None, "b", "g", "{}"))
    )


def test_a_repeated_id_and_name_are_the_same_call() -> None:
    calls = Calls("msg_1")
    assert [("a", "f", "{"), ("a", "f", "}")] == told(
        calls, delta(part(0, "a", "f", "{")), delta(part(0, "a", "f", "}"))
    )


def test_a_new_id_and_name_on_a_used_index_are_a_new_call() -> None:
    assert [("a", "f", "{}"), ("b", "f", "{}")] == told(
        Calls("msg_1"), delta(part(0, "a", "f", "{}")), delta(part(0, "b", "f", "{}"))
    )


def test_a_new_name_after_a_whole_object_is_a_new_call_without_ids_too() -> None:
    assert [("", "f", "{}"), ("", "f", '{"x":1}')] == told(
        Calls("msg_1"), delta(part(0, None, "f", "{}")), delta(part(0, None, "f", '{"x":1}'))
    )
    calls = Calls("msg_1")
    one = [call for call, _ in calls.pieces(delta(part(0, None, "f", "{}")))]
    one[0].arguments.add("{}")
    assert one != [call for call, _ in calls.pieces(delta(part(0, None, "f", '{"x":1}')))]


def test_the_whole_again_adds_nothing() -> None:
    assert [("a", "f", "{}"), ("a", "f", "")] == told(
        Calls("msg_1"), delta(part(0, "a", "f", "{}")), delta(part(0, "a", "f", "{}"))
    )


def test_an_empty_part_is_no_call() -> None:
    assert [] == told(Calls("msg_1"), delta(part(0)), delta({}))


def test_a_plain_message_has_one_call_a_part() -> None:
    message = delta({"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}, {"function": {"name": "f"}},
                    function_call={"name": "g", "arguments": "{}"})  # fmt: skip
    found = [(call.id, call.name, added) for call, added in Calls("msg_1").whole(message)]
    assert [("a", "f", '{"x":1}'), ("", "f", ""), ("", "g", "{}")] == found


def test_ids_for_the_client_are_never_given_twice() -> None:
    calls = Calls("msg_1")
    assert ["toolu_a", "toolu_1_1", "toolu_1_2", "toolu_b"] == [calls.client_id(Call(it)) for it in ("a", "a", "", "b")]
    assert "Call('a', '', waiting, Arguments(0 characters, depth 0))" == repr(Call("a"))
    assert "Calls({})" == repr(calls)
