"""Where llama-server's /v1/messages is not the Messages API: what it gets from us, and what the client gets.

First what it drops or bends in requests, then what it says otherwise in answers.
"""

import json
from typing import Any

import pytest

from router.errors import RequestInvalid, RouterError, UpstreamAnswered, UpstreamLoading
from router.translate.faults import read_fault, to_error
from router.translate.fidelity import Abilities
from router.translate.messages_plan import MessagesRequest
from router.translate.plan import Plan
from router.translate.repair import repair_message
from router.wire.anthropic import decode_messages
from tests.rig.legality import Message
from tests.translate import native
from tests.wire.canonical_samples import IMAGE, PDF, assistant, call, result, system, text, thinking, tool, user

ASK = user(text("hi"))


def plan(*messages: Any, can: Abilities | None = None, **fields: Any) -> Plan:
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": list(messages) or [ASK], **fields}).encode()
    request = MessagesRequest(decode_messages(body), body)
    return request.plan(can or Abilities(), upstream_model=None, pass_tools=False)


def sent(*messages: Any, can: Abilities | None = None, **fields: Any) -> dict[str, Any]:
    """What llama-server gets on its own route."""
    found = plan(*messages, can=can, **fields)
    assert found.way == "native"
    body: dict[str, Any] = json.loads(found.body)
    return body


def translated(*messages: Any, **fields: Any) -> dict[str, Any]:
    """What it gets as a chat completion, because its own route would lose it."""
    found = plan(*messages, **fields)
    assert (found.way, found.path) == ("translated", b"/v1/chat/completions")
    body: dict[str, Any] = json.loads(found.body)
    return body


def refusal(*messages: Any, **fields: Any) -> str:
    with pytest.raises(RequestInvalid) as caught:
        plan(*messages, **fields)
    return caught.value.message


# ---------------------------------------------------------------- requests: system and messages


def test_it_joins_system_blocks_without_a_space_so_it_gets_one_text() -> None:
    assert sent(system=[text("Be"), text("kind.")])["system"] == "Be\n\nkind."


def test_it_passes_a_system_message_on_unchanged_so_it_gets_user_text() -> None:
    (turn,) = sent(ASK, system("Hurry."))["messages"]
    assert turn == {"role": "user", "content": "hi\n<system-reminder>\nHurry.\n</system-reminder>"}


def test_it_masks_a_part_of_the_billing_header_so_it_gets_none() -> None:
    body = sent(system=[text("x-anthropic-billing-header: cc_version=2.1.330.abc; cch=12345;"), text("Be kind.")])
    assert body["system"] == "Be kind."


def test_it_drops_cache_marks_so_they_are_not_sent_and_change_nothing() -> None:
    marked = user(text("hi", cache_control={"type": "ephemeral"}))
    assert plan(marked).body == plan(ASK).body


def test_it_puts_results_behind_the_text_of_their_turn_so_they_get_a_turn_of_their_own() -> None:
    turns = sent(ASK, assistant(call("toolu_a")), user(text("be quick"), result("toolu_a")))["messages"]
    assert [it["content"][0]["type"] for it in turns[1:3]] == ["tool_use", "tool_result"]
    assert turns[3] == {"role": "user", "content": "be quick"}


def test_it_ignores_is_error_so_the_text_says_it() -> None:
    turns = sent(ASK, assistant(call("toolu_a")), user(result("toolu_a", "no such file", is_error=True)))["messages"]
    assert turns[2]["content"][0]["content"] == "Error: no such file"


def test_it_drops_documents_and_search_results_so_they_become_text() -> None:
    document = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}
    found = {"type": "search_result", "title": "S", "source": "https://a.test", "content": [text("F")]}
    (turn,) = sent(user(document, found, text("hi")))["messages"]
    assert turn["content"].split("\n") == ["T", "D", "S", "https://a.test", "F", "hi"]


@pytest.mark.parametrize(
    "block",
    [PDF, {"type": "image", "source": {"type": "file", "file_id": "file_1"}}],
    ids=["pdf", "picture by its file id"],
)
def test_it_drops_what_it_cannot_read_so_that_is_refused_by_its_place(block: dict[str, Any]) -> None:
    assert refusal(user(text("read"), block)).startswith("messages.0.content.1")


def test_it_lets_a_message_without_a_usable_block_vanish_so_nothing_left_is_refused() -> None:
    assert refusal(user({"type": "server_thing_of_2027"})).startswith("messages: nothing is left")
    before, after = sent(ASK, user({"type": "server_thing_of_2027"})), sent(ASK)
    assert before["messages"] == after["messages"]


def test_it_refuses_two_turns_of_the_assistant_at_the_end_so_they_are_one() -> None:
    turns = sent(ASK, assistant(text("One,")), assistant(text("two,")))["messages"]
    assert [it["role"] for it in turns] == ["user", "assistant"]


def test_it_answers_500_to_a_picture_without_a_projector_so_that_is_refused_before() -> None:
    blind = Abilities(images=False)
    assert refusal(user(IMAGE), can=blind).startswith("messages: m takes no images")


def test_it_knows_no_thinking_signature_so_what_we_sealed_is_opened_first() -> None:
    from_us = repair_message(PLAIN_THOUGHT, model="m", message_id="msg_1", omit_thinking=True)[0]
    (hidden, _) = json.loads(from_us)["content"]
    assert hidden["thinking"] == ""
    turns = sent(ASK, assistant(hidden, text("a")), ASK)["messages"]
    assert turns[1]["content"][0] == thinking("hm")


# ---------------------------------------------------------------- requests: the other fields


@pytest.mark.parametrize("body", [b'{"model":"m","max_tokens":9}', b'{"model":"m",', b"[]", b""])
def test_it_answers_500_to_bodies_that_cannot_be_read_so_they_are_refused_before(body: bytes) -> None:
    with pytest.raises(RequestInvalid):
        decode_messages(body)


def test_it_takes_server_tools_for_functions_without_fields_so_they_are_refused() -> None:
    message = refusal(tools=[tool("Read"), {"type": "web_search_20250305", "name": "web_search"}])
    assert message.startswith("tools.1: Input tag 'web_search_20250305' found using 'type' does not match any of")


def test_it_ignores_defer_loading_so_those_tools_are_left_out_until_they_are_named() -> None:
    tools = [tool("Read"), tool("Late", defer_loading=True)]
    assert [it["name"] for it in sent(tools=tools)["tools"]] == ["Read"]
    found = result("toolu_a", [{"type": "tool_reference", "tool_name": "Late"}])
    body = sent(ASK, assistant(call("toolu_a", "ToolSearch")), user(found), tools=tools)
    assert [it["name"] for it in body["tools"]] == ["Read", "Late"]


def test_it_forgets_the_name_in_tool_choice_so_the_tools_schema_is_enforced() -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    body = translated(
        tools=[tool("Read", input_schema=schema), tool("Grep")], tool_choice={"type": "tool", "name": "Read"}
    )
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert [it["function"]["name"] for it in body["tools"]] == ["Read", "Grep"]


def test_it_does_not_know_the_choice_of_no_tool_so_that_goes_the_other_way() -> None:
    assert translated(tools=[tool("Read")], tool_choice={"type": "none"})["tool_choice"] == "none"


def test_it_drops_disable_parallel_tool_use_so_that_goes_the_other_way() -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert translated(tools=[tool("Read")], tool_choice=choice)["parallel_tool_calls"] is False


def test_it_drops_the_format_of_output_so_that_goes_the_other_way() -> None:
    form = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert translated(output_config=form)["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(("kind", "on"), [("disabled", False), ("adaptive", True), ("between_tools", True)])
def test_it_ignores_thinking_that_is_not_enabled_so_its_template_is_told(kind: str, *, on: bool) -> None:
    body = sent(can=Abilities(switch=True), thinking={"type": kind})
    assert body["chat_template_kwargs"] == {"enable_thinking": on}


def test_it_drops_effort_so_its_template_is_told() -> None:
    body = sent(can=Abilities(effort=True), output_config={"effort": "low"})
    assert body["chat_template_kwargs"] == {"reasoning_effort": "low"}


def test_it_drops_what_it_does_not_know_so_nothing_of_that_is_sent() -> None:
    more: dict[str, Any] = {"service_tier": "auto", "inference_geo": "us", "context_management": {"edits": []}}
    assert plan(metadata={"user_id": "u"}, cache_control={"type": "ephemeral"}, **more).body == plan().body


@pytest.mark.parametrize("field", ["mcp_servers", "container"])
def test_it_drops_what_only_the_hosted_api_has_so_that_is_refused(field: str) -> None:
    assert refusal(**{field: [{"type": "url", "url": "https://a.test", "name": "a"}]}).startswith(f"{field}: ")


def test_it_makes_a_token_when_none_is_asked_for_so_that_one_is_not_shown() -> None:
    assert sent(max_tokens=0)["max_tokens"] == 1
    stream = native.stream(silent=True)
    out = stream.feed(b"".join([START, TEXT, native.text(0, "a"), native.stops(0), native.ends("max_tokens"), STOP]))
    assert b"content_block" not in out
    assert stream.ended


# ---------------------------------------------------------------- answers: streamed

START = native.start()
TEXT = native.opens(0, "text")
STOP = native.STOP


def heard(*pieces: bytes) -> Message:
    """A whole and legal answer."""
    return native.message(*pieces)


def test_it_names_itself_and_its_answer_in_its_own_way() -> None:
    answer = heard(START, TEXT, native.text(0, "a"), native.stops(0), native.ends(), STOP)
    assert (answer.id, answer.model) == ("msg_1", native.MODEL)


def test_it_says_no_ping_but_comments() -> None:
    answer = heard(
        native.COMMENT, START, native.COMMENT, TEXT, native.text(0, "a"), native.stops(0), native.ends(), STOP
    )
    assert (answer.comments, answer.text) == ((), "a")


def test_it_begins_calls_without_input_and_under_bare_ids() -> None:
    answer = heard(
        START, native.calls(0, id="abc"), native.argues(0, "{}"), native.stops(0), native.ends("tool_use"), STOP
    )
    (opened,) = [it.data["content_block"] for it in answer.events if it.name == "content_block_start"]
    assert opened == {"type": "tool_use", "id": "toolu_abc", "name": "Bash", "input": {}}


def test_it_begins_thinking_without_a_signature() -> None:
    answer = heard(START, native.opens(0, "thinking"), native.thinks(0, "hm"), native.stops(0), native.ends(), STOP)
    assert answer.events[1].data["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert answer.events[3].data["delta"] == {"type": "signature_delta", "signature": ""}


def test_it_closes_all_blocks_at_the_end() -> None:
    answer = heard(
        START,
        native.opens(0, "thinking"), native.thinks(0, "hm"),
        native.opens(1, "text"), native.text(1, "a"),
        native.calls(2), native.argues(2, "{}"),
        native.signs(0), native.stops(0, 1, 2), native.ends("tool_use"), STOP,
    )  # fmt: skip
    assert (answer.thinking, answer.text, len(answer.tools)) == ("hm", "a", 1)


def test_it_uses_one_index_twice_when_text_comes_before_thinking() -> None:
    answer = heard(
        START, TEXT, native.text(0, "a"), native.opens(0, "thinking"), native.thinks(0, "hm"),
        native.stops(0, 0), native.ends(), STOP,
    )  # fmt: skip
    assert (answer.text, answer.thinking) == ("a", "hm")


def test_it_begins_a_block_again_when_its_last_batch_has_forgotten_it() -> None:
    answer = heard(START, TEXT, native.text(0, "a"), TEXT, native.text(0, "b"), native.stops(0), native.ends(), STOP)
    assert answer.text == "ab"


def test_it_says_no_message_start_when_the_first_token_is_half_a_character() -> None:
    pieces = (TEXT, native.text(0, "é"), native.stops(0), native.ends(), STOP)
    answer = native.message(*pieces)
    assert (answer.id, answer.text, answer.usage["input_tokens"]) == ("msg_1", "é", 0)


def test_it_counts_the_prompt_at_the_start_alone() -> None:
    answer = heard(START, TEXT, native.text(0, "a"), native.stops(0), native.ends(), STOP)
    (told,) = [it.data["usage"] for it in answer.events if it.name == "message_delta"]
    assert told == {
        "input_tokens": 12, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 7, "output_tokens": 3
    }  # fmt: skip


def test_it_says_end_turn_for_a_stop_sequence() -> None:
    answer = heard(START, TEXT, native.text(0, "a"), native.stops(0), native.ends("end_turn", "###"), STOP)
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "###")


def test_it_says_tool_use_for_a_call_that_a_stop_sequence_has_cut() -> None:
    answer = heard(
        START, native.calls(0), native.argues(0, '{"a":'), native.stops(0), native.ends("tool_use", "###"), STOP
    )
    assert answer.stop_reason == "stop_sequence"


def test_its_errors_in_a_stream_are_flat() -> None:
    stream = native.stream()
    stream.feed(START + native.event("error", code=500, message="Context size has been exceeded."))
    assert isinstance(stream.error, UpstreamAnswered)
    assert "Context size has been exceeded." in stream.error.message


# ---------------------------------------------------------------- answers: plain

USAGE = {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 3}
PLAIN_THOUGHT = json.dumps(
    {
        "id": "chatcmpl-1",
        "model": "/srv/q.gguf",
        "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "a"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
    }
).encode()


def whole(content: list[dict[str, Any]], prefill: str | None = None, **more: Any) -> dict[str, Any]:
    body = {**json.loads(PLAIN_THOUGHT), "content": content, **more}
    raw, _, _ = repair_message(json.dumps(body).encode(), model="mine", message_id="msg_1", prefill=prefill)
    found: dict[str, Any] = json.loads(raw)
    return found


def test_its_plain_answer_gets_our_id_the_clients_model_and_all_counts() -> None:
    told = whole([{"type": "text", "text": "a"}])
    assert (told["id"], told["type"], told["role"], told["model"]) == ("msg_1", "message", "assistant", "mine")
    assert told["usage"] == {**USAGE, "cache_creation_input_tokens": 0}


def test_its_plain_answer_says_end_turn_for_a_stop_sequence_too() -> None:
    told = whole([{"type": "text", "text": "a"}], stop_sequence="###")
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", "###")


def test_its_plain_answer_repeats_what_was_begun() -> None:
    assert whole([{"type": "text", "text": "One, two"}], "One,")["content"] == [{"type": "text", "text": " two"}]


def test_its_plain_calls_have_bare_ids() -> None:
    told = whole([{"type": "tool_use", "id": "abc", "name": "Bash", "input": {}}], stop_reason="tool_use")
    assert told["content"][0]["id"] == "toolu_abc"


# ---------------------------------------------------------------- answers: errors


def told_of(status: int, message: str, kind: str, **more: int) -> RouterError:
    body = json.dumps({"error": {"code": status, "message": message, "type": kind, **more}}).encode()
    return to_error(status, read_fault(body), instance_id="i")


def test_its_word_for_a_prompt_that_is_too_long_is_not_the_one_that_clients_know() -> None:
    sizes = {"n_prompt_tokens": 9000, "n_ctx": 8192}
    error = told_of(400, "request (9000 tokens) exceeds ...", "exceed_context_size_error", **sizes)
    assert isinstance(error, RequestInvalid)
    assert error.message == "prompt is too long: 9000 tokens > 8192 maximum"


def test_it_calls_a_picture_that_it_cannot_see_its_own_fault() -> None:
    assert isinstance(told_of(500, "image input is not supported - hint: ...", "server_error"), RequestInvalid)


def test_its_503_while_it_loads_is_a_state_that_passes() -> None:
    assert isinstance(told_of(503, "Loading model", "unavailable_error"), UpstreamLoading)


def test_its_paths_are_nobodys_business() -> None:
    error = told_of(500, "cannot read /srv/models/secret.gguf", "server_error")
    assert "secret" not in error.message
