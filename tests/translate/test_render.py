from router.translate.render import Writer, message
from tests.rig.legality import check


def test_what_it_writes_is_a_legal_stream_byte_for_byte() -> None:
    writer = Writer()
    before = writer.started
    writer.start(message(model="m", message_id="msg_1", usage={"input_tokens": 1, "output_tokens": 0}))
    assert (False, True) == (before, writer.started)
    writer.open({"type": "thinking", "thinking": "", "signature": ""}, "thinking_delta", "thinking")
    writer.add("t")
    writer.sign("s")
    writer.close()
    writer.open({"type": "text", "text": ""}, "text_delta", "text")
    first = writer.take()
    writer.add('ü"\n')
    delta = writer.take()
    writer.close()
    writer.end("end_turn", None, {"input_tokens": 1, "output_tokens": 2})
    whole = check(first + delta + writer.take())
    assert ("t", 'ü"\n', "end_turn", 2) == (whole.thinking, whole.text, whole.stop_reason, whole.usage["output_tokens"])
    assert delta == (
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"\xc3\xbc\\"\\n"}}\n\n'
    )
    assert b"" == writer.take()
    assert "Writer(block 1, 0 events wait)" == repr(writer)
