"""The checker lets pass what the hosted API and llama-server send, and nothing that is broken."""

import json

import httpx
import pytest

from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour
from tests.rig.legality import Illegal, check
from tests.rig.llama import Pair

Said = tuple[str, dict[str, object]]


def start(**changes: object) -> Said:
    message: dict[str, object] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 12, "cache_read_input_tokens": 9, "output_tokens": 1},
    }
    return "message_start", {"message": {**message, **changes}}


def opens(index: int, **block: object) -> Said:
    return "content_block_start", {"index": index, "content_block": block}


def adds(index: int, **delta: object) -> Said:
    return "content_block_delta", {"index": index, "delta": delta}


def closes(index: int) -> Said:
    return "content_block_stop", {"index": index}


def ends(why: str | None = "end_turn", sequence: str | None = None, **usage: object) -> Said:
    counted = usage or {"input_tokens": 12, "output_tokens": 7}
    return "message_delta", {"delta": {"stop_reason": why, "stop_sequence": sequence}, "usage": counted}


STOP: Said = ("message_stop", {})
PING: Said = ("ping", {})
ERROR: Said = ("error", {"error": {"type": "overloaded_error", "message": "Overloaded"}})
TEXT = (opens(0, type="text", text=""), adds(0, type="text_delta", text="hello"), closes(0))
THINKING = (
    opens(0, type="thinking", thinking="", signature=""),
    adds(0, type="thinking_delta", thinking="hm"),
    adds(0, type="signature_delta", signature="s"),
    closes(0),
)
TOOL = (
    opens(1, type="tool_use", id="toolu_1", name="Bash", input={}),
    adds(1, type="input_json_delta", partial_json=""),
    adds(1, type="input_json_delta", partial_json='{"a":'),
    adds(1, type="input_json_delta", partial_json="1}"),
    closes(1),
)


def wire(*said: Said) -> bytes:
    return b"".join(f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode() for name, data in said)


LEGAL = {
    "a text": (start(), PING, *TEXT, ends(), STOP),
    "nothing said": (start(), ends(), STOP),
    "thinking, then a tool": (start(), *THINKING, *TOOL, ends("tool_use"), STOP),
    "a call that the token limit cut": (start(), *TEXT, *TOOL[:3], closes(1), ends("max_tokens"), STOP),
    "a stop sequence": (start(), *TEXT, ends("stop_sequence", "\n"), STOP),
    "an error in the middle": (start(), *TEXT[:2], ERROR),
    "pings, then an error": (PING, PING, ERROR),
}
# name -> (events, the rule that must be named, whether llama-server's own habit makes it legal at native)
BROKEN: dict[str, tuple[tuple[Said, ...], str, bool]] = {
    "no start": (TEXT, "before message_start", False),
    "two starts": ((start(), start()), "a second message_start", False),
    "a start without usage": ((start(usage=None),), "no usage", False),
    "a start with content": ((start(content=[1]),), "content that is not an empty list", False),
    "a start with an empty id": ((start(id=""),), "no id", False),
    "a skipped index": ((start(), opens(1, type="text", text="")), "index 1, not 0", False),
    "a repeated index": ((start(), *TEXT, *TEXT), "index 0, not 1", False),
    "a block in a block": (
        (start(), *TEXT[:2], *TOOL, closes(0), ends("tool_use"), STOP),
        "a block starts while [0] is open",
        True,
    ),
    "the wrong delta": ((start(), TEXT[0], adds(0, type="thinking_delta", thinking="x")), "thinking_delta in", False),
    "a delta after the stop": ((start(), *TEXT, TEXT[1]), "block 0 is not open", False),
    "a block stopped twice": ((start(), *TEXT, closes(0)), "block 0 is not open", False),
    "an unsigned thinking block": (
        (start(), *THINKING[:2], closes(0), ends(), STOP),
        "a thinking block without signature_delta",
        True,
    ),
    "a thinking block without its key": (
        (start(), opens(0, type="thinking", thinking=""), *THINKING[1:], ends(), STOP),
        "a thinking block without signature",
        True,
    ),
    "thinking after the signature": ((start(), *THINKING[:3], THINKING[1]), "thinking after its signature", False),
    "a tool without input": (
        (start(), *TEXT, opens(1, type="tool_use", id="t", name="n"), *TOOL[1:], ends("tool_use"), STOP),
        "a tool_use block without an empty input",
        True,
    ),
    "half a tool input": (
        (start(), *TEXT, *TOOL[:3], closes(1), ends("tool_use")),
        "tool input that is no JSON object",
        False,
    ),
    "half a tool input before a block": (
        (start(), *TEXT, *TOOL[:3], closes(1), opens(2, type="text", text="")),
        "tool input that is no JSON object",
        False,
    ),
    "an end in a block": ((start(), *TEXT[:2], ends()), "message_delta while a block is open", False),
    "two ends": ((start(), *TEXT, ends(), ends()), "a second message_delta", False),
    "a block after the end": ((start(), ends(), *TEXT), "a block after message_delta", False),
    "no reason": ((start(), *TEXT, ends(None)), "stop_reason None", False),
    "a tool reason without a tool": ((start(), *TEXT, ends("tool_use")), "without a tool_use block", False),
    "a sequence with another reason": ((start(), ends("end_turn", "\n"), STOP), "disagree", True),
    "a stop without an end": ((start(), *TEXT, STOP), "message_stop without message_delta", False),
    "a ping after the stop": ((start(), ends(), STOP, PING), "ping after the end", False),
    "a stop after an error": ((start(), ERROR, STOP), "message_stop after the end", False),
    "no stop": ((start(), *TEXT, ends()), "ends without message_stop", False),
    "nothing at all": ((), "ends without message_stop", False),
}


@pytest.mark.parametrize("said", LEGAL.values(), ids=LEGAL.keys())
def test_what_the_hosted_api_sends_is_legal_at_both_levels(said: tuple[Said, ...]) -> None:
    assert check(wire(*said)) == check(wire(*said), "native")


@pytest.mark.parametrize(("said", "rule", "native"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_stream_is_told_by_its_rule(said: tuple[Said, ...], rule: str, *, native: bool) -> None:
    with pytest.raises(Illegal) as caught:
        check(wire(*said))
    assert rule in str(caught.value)
    if native:
        check(wire(*said), "native")
    else:
        with pytest.raises(Illegal):
            check(wire(*said), "native")


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (wire(start())[:-1], "the bytes end inside an event"),
        (b"event: ping\ndata: {\n\n", "is not JSON"),
        (b"event: ping\ndata: \xff\n\n", "not UTF-8"),
        (b"event: ping\nid: 7\ndata: {}\n\n", "a second or unknown line"),
        (b'event: ping\ndata: {"type":"pong"}\n\n', "not the event's name"),
        (b": hello\n\n" + wire(ERROR), "a comment"),
        (b'event: error\ndata: {"code":500,"message":"x","type":"server_error"}\n\n', "not the event's name"),
    ],
)
def test_broken_framing_is_told(raw: bytes, rule: str) -> None:
    with pytest.raises(Illegal) as caught:
        check(raw)
    assert rule in str(caught.value)


def test_a_legal_stream_tells_what_it_said() -> None:
    said = check(wire(start(), PING, *THINKING, *TOOL, ends("tool_use"), STOP))
    assert (said.thinking, said.text, said.stop_reason, said.pings) == ("hm", "", "tool_use", 1)
    assert (said.tools[0].name, said.tools[0].input) == ("Bash", {"a": 1})
    assert said.usage == {"input_tokens": 12, "cache_read_input_tokens": 9, "output_tokens": 7}


def test_a_stream_that_was_left_may_end_anywhere_but_must_be_legal_till_then() -> None:
    raw = wire(start(), *THINKING, *TOOL, ends("tool_use"), STOP)
    for end in range(len(raw)):
        assert check(raw[:end], whole=False).error is None
    broken = wire(start(), start(), *TEXT)
    both = len(wire(start(), start()))
    check(broken[: both - 1], whole=False)
    for end in (both, len(broken)):
        with pytest.raises(Illegal):
            check(broken[:end], whole=False)


def test_comments_can_be_allowed_in_an_exact_stream() -> None:
    assert check(b": instance a\n\n" + wire(ERROR), comments=True).comments == ("instance a",)


def test_the_message_shows_the_place_among_its_neighbours() -> None:
    with pytest.raises(Illegal) as caught:
        check(wire(start(), *TEXT, closes(0), ends(), STOP))
    marked = [line for line in str(caught.value).splitlines() if line.startswith("->")]
    assert marked == ['->   4 content_block_stop {"type": "content_block_stop", "index": 0}']


@pytest.mark.parametrize(
    "told",
    [
        behave.comments(),
        behave.answer(thinking=("hm",), text=("so",), tool=("Bash", ('{"a":', "1}"))),
        behave.error_event(),
    ],
)
def test_the_scripted_instance_is_native_but_not_exact(told: Behaviour) -> None:
    with FakeInstance([told]) as fake:
        raw = httpx.post(f"{fake.url}/v1/messages", json={"stream": True, "messages": []}).content
    check(raw, "native")
    with pytest.raises(Illegal):
        check(raw)


def test_a_real_llama_server_is_native(smollm2_pair: Pair) -> None:
    # Left to chance it may begin with an emoji, and then it sends no message_start.
    ask = {"max_tokens": 6, "temperature": 0, "stream": True, "messages": [{"role": "user", "content": "Say hi"}]}
    said = check(httpx.post(f"{smollm2_pair[0].url}/v1/messages", json=ask, timeout=30).content, "native")
    assert said.text
    assert said.usage["output_tokens"] <= 6
