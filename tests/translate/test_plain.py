"""Each way in which llama-server's plain answer is not the hosted API's, by name."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.translate.answer import Usage
from router.translate.plain import repair_message
from router.wire import signature
from tests.rig.legality import check
from tests.translate.native import CAPTURES, REAL, told

steady = settings(derandomize=True, max_examples=200, deadline=None)

USAGE = {"cache_read_input_tokens": 7, "input_tokens": 12, "output_tokens": 3}
TEXT = {"type": "text", "text": "Grüße"}
THINKING = {"type": "thinking", "thinking": "hm", "signature": ""}
CALL = {"type": "tool_use", "id": "call1", "name": "Bash", "input": {"a": 1}}


def plain(*content: object, **fields: object) -> bytes:
    message: dict[str, object] = {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "content": content,
        "model": "/srv/models/q.gguf",
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
    }
    return json.dumps({**message, **fields}).encode()


def repaired(
    *content: object,
    prefill: str | None = None,
    thought: str = "",
    omit_thinking: bool = False,
    stop: tuple[str, ...] | None = None,
    **fields: object,
) -> Any:
    body, _, reason = repair_message(
        plain(*content, **fields),
        model="m",
        message_id="msg_1",
        prefill=prefill,
        thought=thought,
        omit_thinking=omit_thinking,
        stop=stop,
    )
    message = json.loads(body)
    assert reason == message["stop_reason"]
    return message


def test_an_answer_is_the_hosted_apis_to_the_byte() -> None:
    body, usage, reason = repair_message(plain(TEXT), model='my "coder"', message_id="msg_1")
    assert body.decode() == (
        '{"id":"msg_1","type":"message","role":"assistant","model":"my \\"coder\\"",'
        '"content":[{"type":"text","text":"Grüße"}],"stop_reason":"end_turn","stop_sequence":null,'
        '"usage":{"input_tokens":12,"cache_creation_input_tokens":0,"cache_read_input_tokens":7,"output_tokens":3}}'
    )
    assert (Usage(12, 7, 3), "end_turn") == (usage, reason)


def test_a_tool_call_has_an_id_like_the_hosted_apis_and_an_input() -> None:
    calls = [CALL, {"type": "tool_use", "name": "Read"}, {**CALL, "input": None}]
    assert repaired(*calls)["content"] == [
        {"type": "tool_use", "id": "toolu_call1", "name": "Bash", "input": {"a": 1}},
        {"type": "tool_use", "id": "toolu_1_1", "name": "Read", "input": {}},
        {"type": "tool_use", "id": "toolu_1_2", "name": "Bash", "input": {}},
    ]


def test_thinking_has_a_signature_and_comes_first() -> None:
    bare = {"type": "thinking", "thinking": "hm"}
    assert [THINKING, TEXT] == repaired(TEXT, bare)["content"]


def test_signed_thinking_stays_where_it_is() -> None:
    """A server that signs its thinking binds it to its place."""
    signed = {**THINKING, "signature": "Eq1"}
    for omit in (False, True):
        content = repaired(TEXT, signed, omit_thinking=omit)["content"]
        assert [TEXT, {**signed, "thinking": "" if omit else "hm"}] == content


def test_omitted_thinking_is_sealed_in_its_signature() -> None:
    block, _ = repaired(THINKING, TEXT, omit_thinking=True)["content"]
    assert ("", "hm") == (block["thinking"], signature.unseal(block["signature"]))


def test_empty_blocks_are_left_out() -> None:
    """Trap 6: the hosted API refuses them when they come back."""
    empty = ({"type": "text", "text": ""}, {"type": "text", "text": None}, {**THINKING, "thinking": ""})
    assert [] == repaired(*empty)["content"]


def test_unknown_blocks_pass_as_they_are() -> None:
    new = {"type": "redacted_thinking", "data": "x"}
    cited = {**TEXT, "citations": [{"a": 1}]}
    assert [new, cited] == repaired(new, cited)["content"]


def test_unknown_fields_pass_as_they_are() -> None:
    counted = {**USAGE, "service_tier": "standard", "cache_creation_input_tokens": 5}
    message = repaired(TEXT, container={"id": "c"}, usage=counted)
    assert ({"id": "c"}, "standard", 5) == (
        message["container"],
        message["usage"]["service_tier"],
        message["usage"]["cache_creation_input_tokens"],
    )


@pytest.mark.parametrize(
    ("texts", "prefill", "left"),
    [
        (["One, two, three"], "One, two,", [" three"]),
        (["One, two,"], "One, two,", []),
        (["three"], "One, two,", ["three"]),
        (["One", "One"], "One", ["One"]),
        (["three", "One"], "One", ["three", "One"]),
        (["One"], None, ["One"]),
        (["One"], "", ["One"]),
    ],
)
def test_the_echo_of_a_prefill_is_cut_if_it_is_there(texts: list[str], prefill: str | None, left: list[str]) -> None:
    content = repaired(*({"type": "text", "text": text} for text in texts), prefill=prefill)["content"]
    assert left == [block["text"] for block in content]


@pytest.mark.parametrize(
    ("thoughts", "thought", "left"),
    [
        (["I say.\n\nMore"], "I say.", ["\n\nMore"]),
        (["I say.\n"], "I say.", []),
        (["I say."], "I say.", []),
        (["More"], "I say.", ["More"]),
        (["a", "ab"], "a", ["ab"]),
        (["a"], "", ["a"]),
    ],
)
def test_the_echo_of_thinking_that_was_begun_is_cut_too(thoughts: list[str], thought: str, left: list[str]) -> None:
    said = [{**THINKING, "thinking": it} for it in thoughts]
    content = repaired(*said, TEXT, thought=thought)["content"]
    assert [*left, "Grüße"] == [block.get("thinking") or block["text"] for block in content]
    sealed = repaired(*said, TEXT, thought=thought, omit_thinking=True)["content"]
    assert left == [signature.unseal(block["signature"]) for block in sealed[:-1]]


def test_a_call_for_no_tokens_gets_none() -> None:
    body, usage, reason = repair_message(
        plain(THINKING, TEXT, CALL, stop_sequence="x"), model="m", message_id="msg_1", silent=True
    )
    message = json.loads(body)
    assert ([], "max_tokens", None) == (message["content"], message["stop_reason"], message["stop_sequence"])
    assert (0, 12, Usage(12, 7, 0), "max_tokens") == (
        message["usage"]["output_tokens"], message["usage"]["input_tokens"], usage, reason,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said", "sequence", "reason"),
    [
        ([TEXT], "end_turn", "four", "stop_sequence"),
        ([TEXT, CALL], "end_turn", None, "tool_use"),
        ([CALL], "tool_use", "x", "tool_use"),
        ([{**CALL, "input": {}}], "tool_use", None, "tool_use"),
        ([{**CALL, "input": {}}], "tool_use", "x", "stop_sequence"),  # cut inside the arguments
        ([{**CALL, "input": {}}], "max_tokens", None, "max_tokens"),
        ([TEXT], "pause_turn", None, "pause_turn"),
    ],
)
def test_the_reason_is_the_one_that_a_client_acts_on(
    content: list[object], said: str, sequence: str | None, reason: str
) -> None:
    message = repaired(*content, stop_reason=said, stop_sequence=sequence)
    assert reason == message["stop_reason"]
    assert (sequence if reason == "stop_sequence" else None) == message["stop_sequence"]


@pytest.mark.parametrize(
    ("content", "said", "reason"),
    [
        ([TEXT], "end_turn", "end_turn"),
        ([TEXT], "stop_sequence", "end_turn"),
        ([CALL], "tool_use", "tool_use"),
        ([{**CALL, "input": {}}], "tool_use", "tool_use"),  # a call that needs none: templates end calls with a word
        ([TEXT], "max_tokens", "max_tokens"),
    ],
)
def test_a_stop_sequence_that_the_client_did_not_ask_for_is_not_told(
    content: list[object], said: str, reason: str
) -> None:
    for stop in ((), ("Human:",)):
        message = repaired(*content, stop_reason=said, stop_sequence="</call>", stop=stop)
        assert (reason, None) == (message["stop_reason"], message["stop_sequence"])
    asked = repaired(TEXT, stop_reason="end_turn", stop_sequence="</call>", stop=("Human:", "</call>"))
    assert ("stop_sequence", "</call>") == (asked["stop_reason"], asked["stop_sequence"])


def test_what_nobody_counted_is_left_out_of_the_record() -> None:
    body, usage, _ = repair_message(plain(TEXT, usage=None), model="m", message_id="msg_1")
    assert (Usage(), {"output_tokens": 0}) == (usage, json.loads(body)["usage"])


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"{}", b'{"error":{}}', b"[]", b"null", b'"x"', b"oops",
        plain(usage=[]), plain(usage={"output_tokens": "3"}), plain(usage={"output_tokens": -3}),
        plain(stop_reason=None), plain(stop_reason="tool_use"), plain(stop_reason=7),
        plain(content=None), plain("x"), plain({}), plain({"type": "text", "text": 7}),
        plain({**CALL, "name": None}), plain({**CALL, "input": "{}"}), plain({**CALL, "input": [1]}),
        plain().replace(b"chatcmpl", b"\xff"), plain(x="y").replace(b'"y"', b'"\xff"'),
        plain(x="y").replace(b'"y"', b"[" * 100_000 + b"]" * 100_000),
    ],
    ids=lambda body: body[-60:].decode("latin-1"),
)  # fmt: skip
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        repair_message(body, model="m", message_id="msg_1")


@steady
@given(body=st.one_of(st.binary(max_size=99), st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "content", "text", "input", "usage", "stop_reason", "name"]), inner, max_size=4
    ),
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_anything_else_is_a_message_or_refused(body: bytes) -> None:
    try:
        out, _, _ = repair_message(body, model="m", message_id="msg_1")
    except msgspec.DecodeError:
        return
    assert "message" == json.loads(out)["type"]


# ---------------------------------------------------------------- as real servers said it


@pytest.mark.parametrize("name", REAL)
def test_what_a_real_server_says_is_a_message(name: str) -> None:
    body = (CAPTURES / f"{name}.json").read_bytes()
    message = json.loads(repair_message(body, model="m", message_id="msg_1")[0])
    assert ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"] == list(message)
    assert (message["stop_reason"] == "tool_use") == (name in {"tool", "text_and_two_tools", "thinking_text_and_tool",
                                                              "after_a_tool_prefill"})  # fmt: skip


@pytest.mark.parametrize("name", ["thinking_then_text", "tool", "thinking_text_and_tool", "tool_cut_by_max_tokens"])
def test_a_plain_answer_and_a_streamed_one_say_the_same(name: str) -> None:
    message = json.loads(repair_message((CAPTURES / f"{name}.json").read_bytes(), model="m", message_id="msg_1")[0])
    said = check(told(((CAPTURES / f"{name}.sse").read_bytes(),)).out)
    of = {kind: [it for it in message["content"] if it["type"] == kind] for kind in ("text", "thinking", "tool_use")}
    assert said.text == "".join(it["text"] for it in of["text"])
    assert said.thinking == "".join(it["thinking"] for it in of["thinking"])
    assert [tool.input for tool in said.tools] == [it["input"] for it in of["tool_use"]]
    assert said.stop_reason == message["stop_reason"]


def test_a_real_echo_is_cut() -> None:
    for name, prefill, rest in (("after_a_prefill", "One, two,", " three, four"), ("nothing_to_say", None, "Hello! ")):
        body = (CAPTURES / f"{name}.json").read_bytes()
        content = json.loads(repair_message(body, model="m", message_id="msg_1", prefill=prefill)[0])["content"]
        assert content[0]["text"].startswith(rest)
    body = (CAPTURES / "after_a_thinking_prefill.json").read_bytes()
    whole = repair_message(body, model="m", message_id="msg_1", prefill="Hel", thought="I say hello.")[0]
    streamed = check(told(((CAPTURES / "after_a_thinking_prefill.sse").read_bytes(),)).out)
    (block,) = json.loads(whole)["content"]
    assert ("text", streamed.text, "") == (block["type"], block["text"], streamed.thinking)
    body = (CAPTURES / "nothing_to_say.json").read_bytes()
    echo = "Hello! How can I help you today?"
    assert [] == json.loads(repair_message(body, model="m", message_id="msg_1", prefill=echo)[0])["content"]
