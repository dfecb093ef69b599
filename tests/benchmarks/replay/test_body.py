import json

from benchmarks.answers import Protocol
from benchmarks.replay.body import body, request
from benchmarks.replay.strand import Spoken

SPOKEN = Spoken(system=(" a b", " c"), said=(" d", " e f", " g"), words=7)


def test_both_protocols_carry_the_same_text() -> None:
    messages = json.loads(body(SPOKEN, 9, Protocol.MESSAGES))
    chat = json.loads(body(SPOKEN, 9, Protocol.CHAT))
    assert [" a b", " c"] == [block["text"] for block in messages["system"]]
    assert {"role": "system", "content": " a b c"} == chat["messages"][0]
    assert messages["messages"] == chat["messages"][1:]
    assert ["user", "assistant", "user"] == [turn["role"] for turn in messages["messages"]]
    assert (9, True) == (messages["max_tokens"], messages["stream"]) == (chat["max_tokens"], chat["stream"])
    assert chat["stream_options"] == {"include_usage": True}


def test_no_system_prompt_is_no_message() -> None:
    chat = json.loads(body(Spoken(system=(), said=(" d",), words=1), 9, Protocol.CHAT))
    assert ["user"] == [turn["role"] for turn in chat["messages"]]


def test_a_request_tells_its_length() -> None:
    head, _, content = request("/v1/messages", 80, {"X-A": "b"}, b"{}").partition(b"\r\n\r\n")
    assert b"{}" == content
    assert {b"Content-Length: 2", b"X-A: b", b"Connection: close"} < set(head.split(b"\r\n"))
