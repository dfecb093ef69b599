"""A call of the Messages API on each way: what is refused, which body goes out, what the answer becomes."""

import json
from typing import Any

import msgspec
import pytest

from router.errors import RequestInvalid
from router.translate.fidelity import Abilities
from router.translate.messages_plan import MessagesRequest
from router.wire.anthropic import decode_messages
from tests.rig import fake_chat
from tests.rig.fake_wire import compact, message_body, message_frames
from tests.rig.legality import check
from tests.translate.asking import (
    ABOUT,
    FORMAT,
    HI,
    HOSTED,
    LLAMA,
    OLD_LLAMA,
    REPLY,
    TOOL,
    VLLM,
    chat,
    chat_raw,
    messages,
    passing,
    plan,
    played,
    sent,
)
from tests.wire.canonical_samples import IMAGE, PDF, assistant, text, thinking, tool, user


def test_the_messages_api_itself_gets_the_very_bytes() -> None:
    body = b' {"max_tokens":1, "model":"m","messages":[{"role":"user","content":[]}], "x-new":[1e400]}'
    request = MessagesRequest(decode_messages(body), body)
    assert plan(request, HOSTED).body is body
    count = request.count(HOSTED, upstream_model=None)
    assert (count.path, count.body) == (b"/v1/messages/count_tokens", body)


@pytest.mark.parametrize(
    "fields", [{"messages": [user(PDF)]}, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
               {"mcp_servers": [{"url": "https://a.test"}]}, {"container": "c_1"}]
)  # fmt: skip
def test_what_nobody_here_can_do_is_its_own_to_judge(fields: Any) -> None:
    request = messages(**fields)
    assert plan(request, HOSTED).way == "exact"
    assert request.refusal(HOSTED, pass_tools=False) is None


def test_its_answers_keep_their_ids_and_get_our_name() -> None:
    reply = msgspec.structs.replace(REPLY, text=(), tool=("look", ("{}",)), stop_reason="tool_use")
    for can, id_ in ((HOSTED, "t" * 32), (LLAMA, "toolu_" + "t" * 32)):
        made = plan(messages(tools=[TOOL]), can)
        said = check(played(made.stream(ABOUT), b"".join(message_frames(reply))))
        assert (said.tools[0].id, said.model) == (id_, "asked")
        body, _, _ = made.whole(compact(message_body(reply)), ABOUT)
        assert json.loads(body)["content"][0]["id"] == id_


@pytest.mark.parametrize(
    ("fields", "can", "words"),
    [
        ({"messages": [user(IMAGE)]}, Abilities(images=False), "takes no images"),
        ({"tools": [TOOL]}, Abilities(tools=False), "does not show tools"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, LLAMA, "tools.0: Input tag"),
        ({"mcp_servers": [{"url": "https://a.test"}]}, LLAMA, "mcp_servers: asked runs on an instance of ours"),
        ({"container": {"id": "c"}}, VLLM, "container: asked runs on"),
    ],
)
def test_what_an_instance_cannot_do_has_a_reason_and_no_plan(fields: Any, can: Abilities, words: str) -> None:
    request = messages(**fields)
    assert words in (request.refusal(can, pass_tools=False) or "")
    with pytest.raises(RequestInvalid, match=words):
        plan(request, can)


@pytest.mark.parametrize("empty", [{"mcp_servers": []}, {"mcp_servers": None}, {"container": None}])
def test_what_asks_for_nothing_is_not_refused(empty: Any) -> None:
    body = json.dumps({"model": "m", "max_tokens": 1, "messages": HI} | empty).encode()
    assert MessagesRequest(decode_messages(body), body).refusal(LLAMA, pass_tools=False) is None


def test_tools_pass_where_the_operator_wants_it() -> None:
    request, can = messages(tools=[TOOL]), Abilities(tools=False)
    assert request.refusal(can, pass_tools=True) is None
    assert sent(plan(request, can, pass_tools=True))["tools"] == [TOOL]
    assert request.refusal(can, pass_tools=False) is not None


def test_a_request_that_is_wrong_for_everybody_raises_when_it_is_asked_about() -> None:
    request = messages(messages=[user(PDF)])
    for ask in (lambda: request.refusal(LLAMA, pass_tools=False), lambda: plan(request, LLAMA),
                lambda: request.count(LLAMA, upstream_model=None)):  # fmt: skip
        with pytest.raises(RequestInvalid, match=r"messages\.0\.content\.0"):
            ask()


@pytest.mark.parametrize(
    "fields",
    [
        {"output_config": FORMAT},
        {"tools": [TOOL], "tool_choice": {"type": "none"}},
        {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ],
)
def test_what_the_native_route_would_lose_is_translated(fields: Any) -> None:
    made = plan(messages(**fields), LLAMA)
    assert (made.path, made.way) == (b"/v1/chat/completions", "translated")


def test_the_canonical_form_is_made_once() -> None:
    request = messages()
    plan(request, LLAMA)
    assert request.canonical is request.canonical


@pytest.mark.parametrize("can", [Abilities(switch=True), Abilities(switch=True, messages=False)])
def test_thinking_is_a_switch_of_the_template_on_either_way(can: Abilities) -> None:
    for kind, on in (({"type": "disabled"}, False), ({"type": "adaptive"}, True)):
        assert sent(plan(messages(thinking=kind), can))["chat_template_kwargs"] == {"enable_thinking": on}
    assert "chat_template_kwargs" not in sent(plan(messages(), can))


def test_a_tool_that_must_be_called_is_enforced_by_its_schema_where_a_server_does_not() -> None:
    fields = {"tools": [TOOL, tool("other")], "tool_choice": {"type": "tool", "name": "look"}}
    for can in (LLAMA, OLD_LLAMA):
        body = sent(plan(messages(**fields), can))
        assert body["tool_choice"] == "none"
        assert body["response_format"]["json_schema"]["schema"] == TOOL["input_schema"]
        assert len(body["tools"]) == 2
    body = sent(plan(messages(**fields), VLLM))
    assert body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert "response_format" not in body


@pytest.mark.parametrize("can", [LLAMA, VLLM, HOSTED])
def test_a_messages_client_gets_a_legal_message_whoever_answers(can: Abilities) -> None:
    made = plan(messages(stream=True), can)
    raw = chat_raw(REPLY) if made.path == b"/v1/chat/completions" else b"".join(message_frames(REPLY))
    stream = made.stream(ABOUT)
    said = check(played(stream, raw))
    assert (said.text, said.model, said.stop_reason) == ("ab", "asked", "end_turn")
    assert (stream.usage.input_tokens, stream.usage.cache_read_input_tokens, stream.usage.output_tokens) == (4, 3, 2)
    plain = fake_chat.chat_body(REPLY) if made.path == b"/v1/chat/completions" else message_body(REPLY)
    body, usage, stop_reason = made.whole(compact(plain), ABOUT)
    assert json.loads(body)["content"] == [{"type": "text", "text": "ab"}]
    assert (json.loads(body)["model"], stop_reason) == ("asked", "end_turn")
    assert usage == stream.usage


@pytest.mark.parametrize("can", [LLAMA, VLLM])
def test_thoughts_that_are_not_to_be_shown_are_not(can: Abilities) -> None:
    reply = msgspec.structs.replace(REPLY, thinking=("secret",))
    for display, shown in (("omitted", ""), ("summarized", "secret")):
        made = plan(messages(thinking={"type": "adaptive", "display": display}), can)
        raw = chat_raw(reply) if can is VLLM else b"".join(message_frames(reply))
        assert check(played(made.stream(ABOUT), raw)).thinking == shown
        plain = fake_chat.chat_body(reply) if can is VLLM else message_body(reply)
        body, _, _ = made.whole(compact(plain), ABOUT)
        assert json.loads(body)["content"][0]["thinking"] == shown


@pytest.mark.parametrize("can", [LLAMA, VLLM])
def test_a_client_that_wants_no_token_gets_none(can: Abilities) -> None:
    made = plan(messages(max_tokens=0), can)
    raw = chat_raw(REPLY) if can is VLLM else b"".join(message_frames(REPLY))
    assert check(played(made.stream(ABOUT), raw)).text == ""
    assert sent(made)["max_tokens"] == 1  # an instance makes one anyway


@pytest.mark.parametrize(("can", "told"), [(LLAMA, "a"), (OLD_LLAMA, "a"), (VLLM, "Sure: a")])
def test_a_llama_servers_echo_of_what_the_client_had_begun_is_cut(can: Abilities, told: str) -> None:
    made = plan(messages(messages=[*HI, {"role": "assistant", "content": "Sure: "}]), can)
    reply = msgspec.structs.replace(REPLY, text=("Sure: ", "a"))
    plain = message_body(reply) if can is LLAMA else fake_chat.chat_body(reply)
    body, _, _ = made.whole(compact(plain), ABOUT)
    assert json.loads(body)["content"] == [{"type": "text", "text": told}]


@pytest.mark.parametrize("can", [LLAMA, OLD_LLAMA])
def test_its_echo_of_thinking_that_the_client_had_begun_is_cut(can: Abilities) -> None:
    made = plan(messages(messages=[*HI, assistant(thinking("I say."))]), can)
    reply = msgspec.structs.replace(REPLY, thinking=("I say.", "\nMore"), text=("a",))
    plain = message_body(reply) if can is LLAMA else fake_chat.chat_body(reply)
    body, _, _ = made.whole(compact(plain), ABOUT)
    assert ["\nMore", "a"] == [block.get("thinking") or block["text"] for block in json.loads(body)["content"]]


def test_a_stop_sequence_of_the_templates_own_is_told_by_the_messages_api_alone() -> None:
    reply = msgspec.structs.replace(REPLY, stop_reason="stop_sequence", stop_sequence="</s>")
    for can, stop, reason in (
        (LLAMA, ["x"], "end_turn"), (LLAMA, None, "end_turn"), (LLAMA, ["</s>"], "stop_sequence"),
        (HOSTED, ["</s>"], "stop_sequence"),
    ):  # fmt: skip
        made = plan(messages(stop_sequences=stop), can)
        assert reason == check(played(made.stream(ABOUT), b"".join(message_frames(reply)))).stop_reason
        assert reason == made.whole(compact(message_body(reply)), ABOUT)[2]


def test_a_stop_text_that_a_server_names_is_told_if_it_is_the_clients() -> None:
    for stop, reason in (("END", "stop_sequence"), ("other", "end_turn")):
        made = plan(messages(stop_sequences=[stop]), VLLM)
        met = b'"finish_reason":"stop","stop_reason":"END"'
        raw = chat_raw(REPLY).replace(b'"finish_reason":"stop"', met)
        assert check(played(made.stream(ABOUT), raw)).stop_reason == reason
        plain = compact(fake_chat.chat_body(REPLY)).replace(b'"finish_reason":"stop"', met)
        assert made.whole(plain, ABOUT)[2] == reason


@pytest.mark.parametrize("kind", ["tool", "any"])
def test_the_text_of_a_forced_call_is_its_input(kind: str) -> None:
    choice = {"type": kind, "name": "look"} if kind == "tool" else {"type": kind}
    made = plan(messages(tools=[TOOL], tool_choice=choice), OLD_LLAMA)
    reply = msgspec.structs.replace(REPLY, text=('{"a"', ":1}"))
    said = check(played(made.stream(ABOUT), chat_raw(reply)))
    assert [(it.name, it.input) for it in said.tools] == [("look", {"a": 1})]
    assert (said.text, said.stop_reason) == ("", "tool_use")
    body, _, stop_reason = made.whole(compact(fake_chat.chat_body(reply)), ABOUT)
    (block,) = json.loads(body)["content"]
    assert (block["type"], block["name"], block["input"], stop_reason) == ("tool_use", "look", {"a": 1}, "tool_use")


def test_what_was_left_out_is_told_once_it_is_known() -> None:
    request = messages(messages=[user(text("hi"), {"type": "container_upload", "file_id": "f"})])
    before = request.dropped
    plan(request, LLAMA)
    assert [before, request.dropped] == [(), ("container_upload",)]
    assert chat().dropped == passing().dropped == ()
