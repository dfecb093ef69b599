import json
from typing import Any

import msgspec
import pytest

from router.translate.answer import Usage
from router.translate.chat_response import FINISH_REASONS, MessageUsage, arguments_of, completion_of, finish_reason
from tests.rig.legality_fields import STOP_REASONS
from tests.rig.openai_sdk import sdk_completion

TEXT = {"type": "text", "text": "Grüße"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1, "a": [1.50, "é"]}}
THINKING = {"type": "thinking", "thinking": "hm", "signature": "s"}


def message(*content: Any, **changes: Any) -> bytes:
    whole = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content,
        "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 2}, **changes,
    }  # fmt: skip
    return json.dumps(whole).encode()


def made(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(completion_of(body, model="m", completion_id="c", created_s=7)[0])
    return found


def test_a_text_becomes_a_completion() -> None:
    body, usage, reason = completion_of(message(TEXT, TEXT), model="m", completion_id="chatcmpl-1", created_s=7)
    assert (
        '{"id":"chatcmpl-1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":'
        '{"role":"assistant","content":"GrüßeGrüße","refusal":null},"logprobs":null,"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,'
        '"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0}}}'
    ) == body.decode()
    assert (Usage(5, None, 2), "end_turn") == (usage, reason)
    assert "GrüßeGrüße" == sdk_completion(body).choices[0].message.content


def test_calls_are_kept_with_their_ids_and_the_order_of_their_keys() -> None:
    body = message(THINKING, CALL, stop_reason="tool_use")
    said = made(body)["choices"][0]
    assert ("tool_calls", None, "hm") == (
        said["finish_reason"],
        said["message"]["content"],
        said["message"]["reasoning_content"],
    )
    function = {"name": "f", "arguments": '{"b":1,"a":[1.5,"\\u00e9"]}'}
    assert [{"id": "toolu_1", "type": "function", "function": function}] == said["message"]["tool_calls"]
    completion = sdk_completion(completion_of(body, model="m", completion_id="c", created_s=7)[0])
    assert completion.choices[0].message.tool_calls


@pytest.mark.parametrize(
    ("content", "expected"),
    [((), ""), ((TEXT, CALL), "Grüße"), ((CALL,), None), ((THINKING,), ""), (({"type": "new", "x": 1}, TEXT), "Grüße")],
)
def test_content_is_null_only_beside_calls(content: tuple[Any, ...], expected: str | None) -> None:
    assert expected == made(message(*content))["choices"][0]["message"]["content"]


def test_every_stop_reason_has_a_word_of_openais() -> None:
    assert set(FINISH_REASONS) >= STOP_REASONS
    assert "stop" == finish_reason("new", tools=False)


@pytest.mark.parametrize(
    ("reason", "tools", "expected"),
    [
        ("end_turn", False, "stop"), ("end_turn", True, "tool_calls"), ("stop_sequence", False, "stop"),
        ("pause_turn", False, "stop"), ("max_tokens", True, "length"), ("max_tokens", False, "length"),
        ("model_context_window_exceeded", False, "length"), ("tool_use", True, "tool_calls"),
        ("tool_use", False, "stop"), ("refusal", True, "content_filter"), ("new", True, "tool_calls"),
    ],
)  # fmt: skip
def test_the_reason_is_told_so_that_clients_run_calls_and_look_for_no_others(
    reason: str, tools: bool, expected: str
) -> None:
    assert expected == finish_reason(reason, tools=tools)


def test_the_prompt_is_whole_for_the_client_and_what_was_computed_for_the_record() -> None:
    usage = MessageUsage(5, 2, 3, 9)
    assert Usage(7, 3, 9) == usage.for_record()
    counts = usage.for_client()
    assert (10, 9, 19) == (counts["prompt_tokens"], counts["completion_tokens"], counts["total_tokens"])
    assert {"cached_tokens": 3, "cache_write_tokens": 2} == counts["prompt_tokens_details"]


def test_what_is_not_known_overwrites_nothing() -> None:
    usage = MessageUsage(5, None, 3, 1)
    usage.overlay(MessageUsage(output_tokens=9))
    assert MessageUsage(5, None, 3, 9) == usage
    assert Usage() == MessageUsage().for_record()


def test_arguments_are_compact() -> None:
    assert '{"a":[1.50,{"b":2}]}' == arguments_of({"a": msgspec.Raw(b'[ 1.50 , {"b" : 2}]')})
    assert "{}" == arguments_of({}) == arguments_of(None)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"{}", message(stop_reason=None), message(7), message({"type": "text", "text": 7}),
        message({"type": "tool_use", "id": "t"}), message({**CALL, "input": []}), message(usage=7),
        b'{"type":"error","error":{"type":"api_error","message":"x"}}', message(TEXT).replace(b"claude", b"\xff"),
    ],
)  # fmt: skip
def test_what_is_no_finished_message_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        completion_of(body, model="m", completion_id="c", created_s=7)
