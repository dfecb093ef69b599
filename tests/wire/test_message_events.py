import msgspec
import pytest

from router.wire.message_events import (
    TokenCounts,
    block_decoder,
    block_delta_decoder,
    block_start_decoder,
    block_stop_decoder,
    message_delta_decoder,
    message_start_decoder,
)


def test_a_start_brings_what_is_counted() -> None:
    start = message_start_decoder.decode(b'{"message":{"id":"m","usage":{"input_tokens":5,"x":1}}}')
    assert TokenCounts(input_tokens=5) == start.message.usage
    assert message_start_decoder.decode(b'{"message":{}}').message.usage is None


def test_a_block_brings_the_fields_of_its_type() -> None:
    start = block_start_decoder.decode(
        b'{"index":2,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"a": 1.0}}}'
    )
    block = start.content_block
    assert (2, "tool_use", "t", "f", "") == (start.index, block.type, block.id, block.name, block.text)
    assert block.input is not None
    assert b"1.0" == bytes(block.input["a"])
    delta = block_delta_decoder.decode(b'{"index":2,"delta":{"type":"input_json_delta","partial_json":"{"}}')
    assert ("input_json_delta", "{", "") == (delta.delta.type, delta.delta.partial_json, delta.delta.thinking)
    assert 2 == block_stop_decoder.decode(b'{"index":2}').index


def test_a_block_as_an_instance_writes_it_may_lack_anything_but_its_type() -> None:
    block = block_decoder.decode(b'{"type":"tool_use","id":null,"name":"f","input":{"a":1.0},"more":[]}')
    assert ("tool_use", None, "f", None, b'{"a":1.0}') == (
        block.type, block.id, block.name, block.text, bytes(block.input),
    )  # fmt: skip
    assert b"null" == bytes(block_decoder.decode(b'{"type":"text"}').input)
    with pytest.raises(msgspec.ValidationError):
        block_decoder.decode(b'{"text":"a"}')


def test_an_end_brings_its_reason() -> None:
    end = message_delta_decoder.decode(b'{"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}')
    assert ("end_turn", TokenCounts(output_tokens=9)) == (end.delta.stop_reason, end.usage)
    assert message_delta_decoder.decode(b'{"delta":{}}').delta.stop_reason is None


@pytest.mark.parametrize("data", [b"{}", b'{"delta":7}', b'{"delta":{"stop_reason":7}}'])
def test_another_shape_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        message_delta_decoder.decode(data)
