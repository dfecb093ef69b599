import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.translate.answer import Usage
from router.translate.chat_forced import ForcedChat
from router.translate.chat_mend import call_id
from router.translate.chat_plain import repair_completion
from router.translate.forced import ANY
from tests.rig.openai_sdk import sdk_completion

CAPTURES = Path(__file__).parent.parent / "captures" / "chat"
MODEL = 'my "coder"'


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.json")), ids=lambda path: path.stem)
def test_a_real_plain_answer_is_made_exact(path: Path) -> None:
    body, usage, stop_reason = repair_completion(path.read_bytes(), model=MODEL)
    before, after = json.loads(path.read_bytes()), json.loads(body)
    assert {**before, "model": MODEL} == after
    completion = sdk_completion(body)
    assert (MODEL, stop_reason) == (completion.model, {"two_calls": "tool_use"}.get(path.stem, stop_reason))
    assert completion.usage is not None
    assert (completion.usage.completion_tokens, completion.usage.prompt_tokens) == (
        usage.output_tokens,
        (usage.input_tokens or 0) + (usage.cache_read_input_tokens or 0),
    )


ANSWER = (
    b'{"choices":[{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"\\u00e9 \\/"}}], '
    b'"created":7,"model":"/srv/q.gguf","object":"chat.completion","usage":%b,"id":"c"}'
)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        (b'{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3}}', Usage(2, 3, 2)),
        (b'{"prompt_tokens":5,"completion_tokens":2}', Usage(5, None, 2)),
        (b"null", Usage()),
    ],
)
def test_a_plain_answer_names_the_clients_model_and_keeps_the_rest(counts: bytes, usage: Usage) -> None:
    expected = (ANSWER % counts).replace(b'"/srv/q.gguf"', b'"m"').replace(b"], ", b"],")
    assert (expected, usage, "end_turn") == repair_completion(ANSWER % counts, model="m")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"{}", b"[]", b'{"choices":[]}', b'{"error":{"message":"x"}}',
        b'{"choices":[{"finish_reason":"stop"}]}', b'{"choices":[{"message":{},"finish_reason":null}]}',
        b'{"choices":[{"message":{},"finish_reason":"stop"}],"x":"\xff"}',
    ],
)  # fmt: skip
def test_what_is_no_finished_completion_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        repair_completion(body, model="m")


# ---------------------------------------------------------------- what other servers send

ENVELOPE = {"id": "c", "object": "chat.completion", "created": 5, "model": "theirs"}
CALL = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
Json = dict[str, Any]


def mended(message: Json, finish: str = "stop", *, forced: ForcedChat | None = None, **envelope: Any) -> Json:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    whole = {**ENVELOPE, "choices": [choice], **envelope}
    body = json.dumps({name: value for name, value in whole.items() if value is not None}).encode()
    said, _, _ = repair_completion(body, model="m", completion_id="chatcmpl-1", created_s=7, forced=forced)
    sdk_completion(said)
    found: Json = json.loads(said)
    return found


def message_of(whole: Json) -> Json:
    message: Json = whole["choices"][0]["message"]
    return message


def test_what_a_completion_lacks_is_put_there() -> None:
    said = mended({"content": "a"}, id=None, object=None, created=None)
    assert ("chatcmpl-1", "chat.completion", 7) == (said["id"], said["object"], said["created"])
    assert {"role": "assistant", "content": "a"} == message_of(said)
    bare = {"choices": [{"message": {"tool_calls": [CALL]}, "finish_reason": "tool_calls"}]}
    said = json.loads(repair_completion(json.dumps(bare).encode(), model="m")[0])
    assert (0, None) == (said["choices"][0]["index"], message_of(said)["content"])


@pytest.mark.parametrize(
    ("theirs", "calls", "ours", "told"),
    [
        ("eos", [], "stop", "end_turn"),
        ("eos", [CALL], "tool_calls", "tool_use"),
        ("stop", [CALL], "stop", "tool_use"),
        ("tool_calls", [], "stop", "end_turn"),
        ("max_tokens", [], "length", "max_tokens"),
        ("content_filter", [], "content_filter", "refusal"),
    ],
)
def test_a_reason_that_openai_has_not_is_the_nearest_that_it_has(
    theirs: str, calls: list[Json], ours: str, told: str
) -> None:
    choice = {"index": 0, "message": {"content": "a", "tool_calls": calls}, "finish_reason": theirs}
    body, _, stop_reason = repair_completion(json.dumps({**ENVELOPE, "choices": [choice]}).encode(), model="m")
    said = json.loads(body)
    assert (ours, told) == (said["choices"][0]["finish_reason"], stop_reason)
    assert ("tool_calls" in message_of(said)) is bool(calls)


@pytest.mark.parametrize("finish", ["abort", "error", ""])
def test_a_server_that_gave_up_has_no_answer(finish: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        mended({"content": "a"}, finish)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [({"a": [1]}, '{"a":[1]}'), (None, "{}"), ("", "{}"), (" ", "{}"), ("Rome", "Rome"), ('{"a": 1}', '{"a": 1}')],
)
def test_arguments_are_a_text_and_never_an_empty_one(theirs: object, ours: str) -> None:
    said = mended({"tool_calls": [{**CALL, "function": {"name": "f", "arguments": theirs, "x": 1}}]})
    (call,) = message_of(said)["tool_calls"]
    assert {**CALL, "function": {"name": "f", "arguments": ours, "x": 1}} == call


def test_a_call_that_its_length_cut_is_not_finished_for_it() -> None:
    said = mended({"tool_calls": [{**CALL, "function": {"name": "f", "arguments": ""}}]}, "length")
    assert "" == message_of(said)["tool_calls"][0]["function"]["arguments"]


def test_calls_without_type_or_with_one_id_get_their_own() -> None:
    function = {"name": "f", "arguments": "{}"}
    said = mended(
        {"tool_calls": [{"function": function}, {"id": "0", "function": function}, {"id": "0", "function": function}]}
    )
    calls = message_of(said)["tool_calls"]
    assert [call_id("chatcmpl-1", 0, 0), "0", call_id("chatcmpl-1", 0, 2)] == [call["id"] for call in calls]
    assert {"function"} == {call["type"] for call in calls}


def test_what_is_no_call_of_a_function_is_left_alone() -> None:
    custom = {"id": "t", "type": "custom", "custom": {"name": "f", "input": "x"}}
    assert [custom] == message_of(mended({"content": None, "tool_calls": [custom]}, "tool_calls"))["tool_calls"]


# ---------------------------------------------------------------- a text that has to be a call

LOOK, SEVERAL = ForcedChat("look", b"{}"), ForcedChat(ANY, b"{}")


@pytest.mark.parametrize(("forced", "text"), [(LOOK, '{"at": 1}'), (SEVERAL, '{"name":"look","arguments":{"at": 1}}')])
def test_a_forced_answer_is_a_call(forced: ForcedChat, text: str) -> None:
    said = mended({"role": "assistant", "content": text, "reasoning_content": "hm"}, forced=forced)
    (call,) = message_of(said)["tool_calls"]
    function = {"name": "look", "arguments": '{"at": 1}'}
    assert {"id": call_id("chatcmpl-1", 0, 0), "type": "function", "function": function} == call
    assert (None, "hm", "tool_calls") == (
        message_of(said)["content"], message_of(said)["reasoning_content"], said["choices"][0]["finish_reason"]
    )  # fmt: skip


@pytest.mark.parametrize(("forced", "calls"), [(LOOK, 1), (SEVERAL, 0)])
def test_a_forced_answer_that_its_length_cut_says_so(forced: ForcedChat, calls: int) -> None:
    said = mended({"content": '{"na'}, "length", forced=forced)
    assert ("length", calls) == (said["choices"][0]["finish_reason"], len(message_of(said).get("tool_calls", ())))
    assert message_of(said)["content"] is None


@pytest.mark.parametrize("text", ["", "well", '{"a"', "[]", None])
@pytest.mark.parametrize("name", ["look", ANY])
def test_a_forced_answer_that_is_no_call_is_none_but_where_a_stop_word_may_have_done_it(
    name: str, text: str | None
) -> None:
    with pytest.raises(msgspec.DecodeError):
        mended({"content": text}, forced=ForcedChat(name, b"{}"))
    said = mended({"content": text}, forced=ForcedChat(name, b"{}", may_break=True))
    assert "stop" == said["choices"][0]["finish_reason"]
