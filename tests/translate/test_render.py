import msgspec

from router.translate.render import MESSAGE_STOP, event, message, message_delta, message_start
from tests.rig.legality import check

USAGE = {"input_tokens": 1, "output_tokens": 2}


def test_what_it_writes_is_a_legal_stream_byte_for_byte() -> None:
    out = message_start(message(model="ü", message_id="msg_1", usage={"input_tokens": 1, "output_tokens": 0}))
    out += message_delta({"stop_reason": "end_turn", "stop_sequence": None}, USAGE, {"more": []}) + MESSAGE_STOP
    assert ("ü", "end_turn", USAGE) == (check(out).model, check(out).stop_reason, check(out).usage)
    assert out.decode() == (
        'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message",'
        '"role":"assistant","model":"ü","content":[],"stop_reason":null,"stop_sequence":null,'
        '"usage":{"input_tokens":1,"output_tokens":0}}}\n\n'
        'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
        '"usage":{"input_tokens":1,"output_tokens":2},"more":[]}\n\n'
        'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )


def test_a_raw_value_of_several_lines_becomes_one_line() -> None:
    assert b'event: x\ndata: {"a":[ 1]}\n\n' == event(b"x", {"a": msgspec.Raw(b"[\n1]")})
