import msgspec
import pytest

from router.translate.answer import Usage
from router.translate.blocks import BrokenAnswerError
from router.translate.ending import Tally, asked_for, stop_reason


def test_what_is_known_is_told_in_the_hosted_apis_order_with_what_it_writes_to_no_cache() -> None:
    tally = Tally()
    tally.add(b'{"cache_read_input_tokens":7,"input_tokens":12,"output_tokens":0}')
    expected = {
        "input_tokens": 12, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 7, "output_tokens": 0,
    }  # fmt: skip
    for told in (tally.at_start(), tally.at_end(events=5)):
        assert list(expected.items()) == list(told.items())
    assert Usage(12, 7, 0) == tally.for_record()


def test_a_later_number_takes_the_place_of_an_earlier_one_and_silence_of_none() -> None:
    tally = Tally()
    for usage in (b'{"input_tokens":12,"output_tokens":0}', b"null", b'{"output_tokens":9,"input_tokens":null}', b"{}"):
        tally.add(usage)
    assert Usage(12, None, 9) == tally.for_record()


def test_nothing_known_is_0_at_the_start_where_no_field_may_be_missing_and_left_out_of_the_end() -> None:
    tally = Tally()
    zeros = {
        "input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0,
    }  # fmt: skip
    assert zeros == tally.at_start()
    assert {"output_tokens": 4} == tally.at_end(events=4)
    assert Usage() == tally.for_record()


@pytest.mark.parametrize(
    ("sequence", "stop", "told"),
    [("x", ("y", "x"), "x"), ("x", ("y",), None), ("x", (), None), ("x", None, "x"), (None, ("x",), None),
     (None, None, None), ("", ("x",), None)],
)  # fmt: skip
def test_a_stop_sequence_is_told_to_those_who_asked_for_it(
    sequence: str | None, stop: tuple[str, ...] | None, told: str | None
) -> None:
    assert told == asked_for(sequence, stop)


def test_what_a_server_counts_besides_is_kept() -> None:
    tally = Tally()
    tally.add(b'{"input_tokens":1,"service_tier":"standard","cache_creation_input_tokens":5}')
    told = tally.at_end()
    assert (5, msgspec.Raw(b'"standard"')) == (told["cache_creation_input_tokens"], told["service_tier"])


@pytest.mark.parametrize("usage", [b"[]", b"7", b'{"input_tokens":"1"}', b'{"input_tokens":-1}', b"{"])
def test_what_is_no_count_is_refused(usage: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        Tally().add(usage)


@pytest.mark.parametrize(
    ("said", "sequence", "tools", "whole", "expected"),
    [
        ("end_turn", None, False, True, ("end_turn", None)),
        ("end_turn", "x", False, True, ("stop_sequence", "x")),
        ("end_turn", "", False, True, ("stop_sequence", "")),
        ("stop_sequence", "x", False, True, ("stop_sequence", "x")),
        ("stop_sequence", "x", True, True, ("stop_sequence", "x")),
        ("stop_sequence", None, False, True, ("end_turn", None)),
        ("end_turn", None, True, True, ("tool_use", None)),
        ("end_turn", "x", True, True, ("tool_use", None)),
        ("tool_use", "x", True, True, ("tool_use", None)),
        ("tool_use", "x", True, False, ("stop_sequence", "x")),
        ("max_tokens", None, True, True, ("max_tokens", None)),
        ("max_tokens", None, True, False, ("max_tokens", None)),
        ("max_tokens", "x", False, True, ("max_tokens", None)),
        ("refusal", None, False, True, ("refusal", None)),
        ("something_new", None, True, True, ("something_new", None)),
    ],
)
def test_the_reason_is_the_hosted_apis(
    said: str, sequence: str | None, expected: tuple[str, str | None], *, tools: bool, whole: bool
) -> None:
    assert expected == stop_reason(said, sequence, tools=tools, whole=whole)


@pytest.mark.parametrize(
    ("said", "tools", "whole", "why"),
    [
        ("", False, True, "ended without saying why"),
        ("tool_use", False, True, "spoke of a tool call that it did not send"),
        ("tool_use", True, False, "ended in the middle of a tool call"),
        ("end_turn", True, False, "ended in the middle of a tool call"),
    ],
)
def test_an_end_that_cannot_be_meant_is_refused(said: str, why: str, *, tools: bool, whole: bool) -> None:
    with pytest.raises(BrokenAnswerError, match=why):
        stop_reason(said, None, tools=tools, whole=whole)
