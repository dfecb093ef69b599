"""What is asked of it as part of a stream is in test_repair."""

import msgspec
import pytest

from router.translate.blocks import BlockWriter, BrokenAnswerError
from router.translate.untangle import Untangler

TEXT_AT_0 = b'{"index":0,"content_block":{"type":"text","text":""}}'
A_AT_0 = b'{"index":0,"delta":{"type":"text_delta","text":"a"}}'


def untangler() -> Untangler:
    return Untangler(BlockWriter("msg_1"))


def test_a_text_block_opens_with_its_first_piece() -> None:
    it = untangler()
    assert b"" == it.start(TEXT_AT_0)
    out = it.delta(A_AT_0)
    assert out.index(b"content_block_start") < out.index(b"text_delta")
    assert 1 == it.pieces


def test_the_common_event_is_known_only_while_indexes_agree_and_nothing_waits_to_open() -> None:
    it = untangler()
    assert b"" == it.common
    it.start(TEXT_AT_0)
    assert b"" == it.common
    it.delta(A_AT_0)
    assert it.common.endswith(b'"index":0,"delta":{"type":"text_delta","text":"')
    it.start(b'{"index":1,"content_block":{"type":"thinking"}}')
    assert b"" == it.common
    it.stop(b'{"index":1}')
    assert it.common
    it.stop(b'{"index":0}')
    assert b"" == it.common


def test_a_block_at_an_index_that_is_not_ours_is_renumbered() -> None:
    """After a thinking prefill llama-server's text begins at 1."""
    it = untangler()
    it.start(TEXT_AT_0.replace(b"0", b"1"))
    out = it.delta(A_AT_0.replace(b"0", b"1"))
    assert (2, 0) == (out.count(b'"index":0'), out.count(b'"index":1'))
    assert b"" == it.common
    assert b'"index":0' in it.stop(b'{"index":1}')


def test_a_stop_of_what_is_closed_or_was_never_opened_is_swallowed() -> None:
    it = untangler()
    assert b"" == it.stop(b'{"index":0}')
    it.delta(A_AT_0)
    assert b"" == it.stop(b'{"index":5}')
    assert it.stop(b'{"index":0}')
    assert b"" == it.stop(b'{"index":0}')


def test_a_call_stays_open_until_its_arguments_are_whole() -> None:
    it = untangler()
    it.start(b'{"index":0,"content_block":{"type":"tool_use","id":"x","name":"Bash"}}')
    it.delta(b'{"index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}')
    assert b"" == it.stop(b'{"index":0}')
    it.delta(b'{"index":0,"delta":{"type":"input_json_delta","partial_json":"}"}}')
    assert it.stop(b'{"index":0}')


def test_arguments_need_the_call_that_they_are_for() -> None:
    it = untangler()
    for index in (0, 1):
        it.start(b'{"index":%d,"content_block":{"type":"tool_use","id":"x","name":"Bash"}}' % index)
    with pytest.raises(BrokenAnswerError, match="not open"):
        it.delta(b'{"index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}')


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"index":0}', b'{"index":0,"content_block":{},"delta":7}'])
def test_what_is_of_another_shape_is_refused(data: bytes) -> None:
    for take in (untangler().start, untangler().delta):
        with pytest.raises(msgspec.DecodeError):
            take(data)
