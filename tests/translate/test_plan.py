"""Each kind of call on each way: where it goes, with which body, and what its answer becomes. And there and back."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid
from router.translate.answer import AnswerStream
from router.translate.chat_request import messages_body
from router.translate.fidelity import Abilities
from router.translate.forced import forced_tools
from router.translate.plan import DEFAULT_MAX_TOKENS, About, ChatRequest, MessagesRequest, PassRequest, Plan, Request
from router.translate.request import chat_body
from router.wire.anthropic import decode_messages
from router.wire.canonical import Canonical, canonical
from router.wire.chat import decode_chat
from router.wire.parts import Image, Result
from router.wire.passing import decode_passing
from router.wire.turns import AssistantTurn, ResultTurn, Turn, UserTurn
from tests.rig import fake_chat
from tests.rig.fake_wire import Reply, compact, message_body, message_frames
from tests.rig.legality import check
from tests.rig.legality_chat import check_chat
from tests.wire.canonical_samples import IMAGE, PDF, requests, text, tool, user

ABOUT = About(instance_id="one", message_id="msg_1", created_s=1_795_363_657, guess_tokens=5)
LLAMA = Abilities()
OLD_LLAMA = Abilities(messages=False)
VLLM = Abilities(llama=False, messages=False)
HOSTED = Abilities(exact=True, llama=False, chat=False)
REPLY = Reply(id="x", model="theirs", text=("a", "b"), prompt_tokens=7, cached_tokens=3)
TOOL = tool("look")
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}
HI = [{"role": "user", "content": "hi"}]


def body_of(**fields: Any) -> bytes:
    body = {"model": "asked", "max_tokens": 9, "messages": HI} | fields
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def messages(**fields: Any) -> MessagesRequest:
    body = body_of(**fields)
    return MessagesRequest(decode_messages(body), body)


def chat(**fields: Any) -> ChatRequest:
    body = body_of(**fields)
    return ChatRequest(decode_chat(body), body)


def passing(path: bytes = b"/v1/embeddings", **fields: Any) -> PassRequest:
    body = json.dumps(fields).encode()
    return PassRequest(decode_passing(body), body, path)


def plan(request: Request, can: Abilities, *, model: str | None = None, pass_tools: bool = False) -> Plan:
    return request.plan(can, upstream_model=model, pass_tools=pass_tools)


def sent(made: Plan) -> Any:
    return json.loads(made.body)


# ---------------------------------------------------------------- where it goes

# Kind of call, what the instance can, and where that leads.
WAYS: dict[str, tuple[Request, Abilities, bytes, str]] = {
    "messages, llama-server": (messages(), LLAMA, b"/v1/messages", "native"),
    "messages, an old llama-server": (messages(), OLD_LLAMA, b"/v1/chat/completions", "translated"),
    "messages, vLLM": (messages(), VLLM, b"/v1/chat/completions", "translated"),
    "messages, the Messages API": (messages(), HOSTED, b"/v1/messages", "exact"),
    "chat, llama-server": (chat(), LLAMA, b"/v1/chat/completions", "native"),
    "chat, vLLM": (chat(), VLLM, b"/v1/chat/completions", "native"),
    "chat, the Messages API": (chat(), HOSTED, b"/v1/messages", "translated"),
    "embeddings, llama-server": (passing(model="asked"), LLAMA, b"/v1/embeddings", "native"),
    "embeddings, vLLM": (passing(model="asked"), VLLM, b"/v1/embeddings", "native"),
}


@pytest.mark.parametrize("name", WAYS)
def test_each_kind_of_call_goes_its_way(name: str) -> None:
    request, can, path, way = WAYS[name]
    made = plan(request, can)
    assert (made.path, made.way) == (path, way)
    assert request.refusal(can, pass_tools=False) is None


@pytest.mark.parametrize("name", WAYS)
def test_an_instances_own_name_for_the_model_is_sent(name: str) -> None:
    request, can, _, _ = WAYS[name]
    assert sent(plan(request, can, model="theirs"))["model"] == "theirs"


@pytest.mark.parametrize(
    ("request_", "can", "model"),
    [
        (messages(), LLAMA, "asked"),
        (messages(), OLD_LLAMA, "asked"),
        (messages(), VLLM, "asked"),
        (messages(), HOSTED, "asked"),
        (chat(), LLAMA, "asked"),
        (chat(), HOSTED, "asked"),
        (passing(model="asked"), LLAMA, "asked"),
        (passing(input="a"), LLAMA, None),
    ],
)
def test_without_one_the_clients_name_is_sent(request_: Request, can: Abilities, model: str | None) -> None:
    assert sent(plan(request_, can)).get("model") == model


def test_an_instances_name_is_not_added_to_a_passed_call_that_names_none() -> None:
    assert sent(plan(passing(input="a"), LLAMA, model="theirs")) == {"input": "a"}


@pytest.mark.parametrize(
    ("fields", "because"),
    [
        ({"output_config": FORMAT}, ("structured_output",)),
        ({"tools": [TOOL], "tool_choice": {"type": "none"}}, ("no_tools",)),
        (
            {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            ("one_tool_at_a_time",),
        ),
    ],
)
def test_what_the_native_route_would_lose_is_translated_and_said(fields: Any, because: tuple[str, ...]) -> None:
    made = plan(messages(**fields), LLAMA)
    assert (made.path, made.way, made.because) == (b"/v1/chat/completions", "translated", because)


# ---------------------------------------------------------------- exact


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


# ---------------------------------------------------------------- what is refused


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


def test_a_client_of_chat_completions_is_never_refused_beforehand() -> None:
    for can in (LLAMA, VLLM, HOSTED, Abilities(tools=False, images=False)):
        assert chat(tools=[]).refusal(can, pass_tools=False) is None


def test_what_chat_cannot_ask_of_the_messages_api_is_refused_by_its_plan() -> None:
    with pytest.raises(RequestInvalid, match="'n'"):
        plan(chat(n=2), HOSTED)
    assert plan(chat(n=2), LLAMA).way == "native"


def test_a_passed_route_is_not_asked_of_the_messages_api() -> None:
    assert "/v1/embeddings" in (passing(model="m").refusal(HOSTED, pass_tools=False) or "")


# ---------------------------------------------------------------- bodies


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


@pytest.mark.parametrize("can", [LLAMA, OLD_LLAMA, VLLM, HOSTED])
def test_a_limit_that_is_completed_is_sent_and_one_that_was_said_stays(can: Abilities) -> None:
    request: Request = messages(max_tokens=None)
    assert None is request.max_tokens
    request.complete(33)
    assert [33, 33] == [request.max_tokens, sent(plan(request, can))["max_tokens"]]
    request = chat(max_tokens=None)
    request.complete(33)
    assert sent(plan(request, can))["max_tokens"] == 33
    request = chat(max_completion_tokens=5, max_tokens=None)
    request.complete(33)
    assert 33 not in sent(plan(request, can)).values()


def test_a_chat_client_without_a_limit_needs_one_only_at_the_messages_api() -> None:
    request = chat(max_tokens=None)
    assert "max_tokens" not in sent(plan(request, LLAMA))
    assert sent(plan(request, HOSTED))["max_tokens"] == DEFAULT_MAX_TOKENS


def test_a_passed_call_is_sent_as_it_is() -> None:
    request = passing(model="m", input=["a"], max_tokens=None)
    before = plan(request, LLAMA).body
    request.complete(5)
    assert plan(request, LLAMA).body is before
    assert request.max_tokens == 0


@pytest.mark.parametrize(
    ("fields", "version"),
    [({}, b"2026-10-21"), ({"temperature": 0.5}, b"2023-06-01"), ({"top_p": 0.9}, b"2023-06-01")],
)
def test_a_chat_call_to_the_messages_api_says_its_version(fields: Any, version: bytes) -> None:
    assert plan(chat(**fields), HOSTED).version == version


@pytest.mark.parametrize("name", [name for name in WAYS if name != "chat, the Messages API"])
def test_no_other_call_needs_a_version(name: str) -> None:
    request, can, _, _ = WAYS[name]
    assert plan(request, can).version == b""


# ---------------------------------------------------------------- counts

COUNTS: dict[str, tuple[Request, Abilities, bytes]] = {
    "messages, llama-server": (messages(), LLAMA, b"/v1/messages/count_tokens"),
    "messages, an old llama-server": (messages(), OLD_LLAMA, b"/v1/chat/completions/input_tokens"),
    "messages, vLLM": (messages(), VLLM, b"/tokenize"),
    "messages, the Messages API": (messages(), HOSTED, b"/v1/messages/count_tokens"),
    "chat, llama-server": (chat(), LLAMA, b"/v1/chat/completions/input_tokens"),
    "chat, vLLM": (chat(), VLLM, b"/tokenize"),
    "chat, the Messages API": (chat(), HOSTED, b"/v1/messages/count_tokens"),
}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("model", [None, "theirs"])
def test_the_prompt_that_is_counted_is_the_one_that_would_be_sent(name: str, model: str | None) -> None:
    request, can, path = COUNTS[name]
    count = request.count(can, upstream_model=model)
    assert count is not None
    assert (count.path, count.body) == (path, plan(request, can, model=model).body)


def test_a_passed_call_is_not_counted() -> None:
    assert passing(model="m").count(LLAMA, upstream_model=None) is None


# ---------------------------------------------------------------- answers


def played(stream: AnswerStream, raw: bytes) -> bytes:
    said = stream.feed(raw) + stream.finish()
    assert (stream.ended, stream.error) == (True, None)
    return said


def chat_raw(reply: Reply) -> bytes:
    return b"".join(fake_chat.chat_frames(reply, include_usage=True))


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


@pytest.mark.parametrize("can", [LLAMA, VLLM, HOSTED])
@pytest.mark.parametrize("usage_asked", [False, True])
def test_a_chat_client_gets_a_legal_completion_whoever_answers(can: Abilities, usage_asked: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if usage_asked else {}
    made = plan(chat(stream=True, **options), can)
    raw = chat_raw(REPLY) if made.path == b"/v1/chat/completions" else b"".join(message_frames(REPLY))
    stream = made.stream(ABOUT)
    said = check_chat(played(stream, raw), usage_asked=usage_asked)
    assert (said.text, said.model, said.finish_reason) == ("ab", "asked", "stop")
    assert (stream.usage.output_tokens, stream.stop_reason) == (2, "end_turn")
    plain = fake_chat.chat_body(REPLY) if made.path == b"/v1/chat/completions" else message_body(REPLY)
    body, usage, _ = made.whole(compact(plain), ABOUT)
    assert json.loads(body)["choices"][0]["message"]["content"] == "ab"
    assert (json.loads(body)["model"], usage.output_tokens) == ("asked", 2)


def test_a_chat_client_of_the_messages_api_gets_an_id_of_its_kind() -> None:
    made = plan(chat(stream=True), HOSTED)
    said = check_chat(played(made.stream(ABOUT), b"".join(message_frames(REPLY))))
    body, _, _ = made.whole(compact(message_body(REPLY)), ABOUT)
    assert said.id == json.loads(body)["id"] == "chatcmpl-1"
    assert said.created == json.loads(body)["created"] == ABOUT.created_s


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


@pytest.mark.parametrize("name", WAYS)
def test_a_plain_answer_that_is_none_raises(name: str) -> None:
    request, can, _, _ = WAYS[name]
    with pytest.raises(msgspec.DecodeError):
        plan(request, can).whole(b"<html>", ABOUT)


# ---------------------------------------------------------------- what the relay knows of a call


def test_the_relay_knows_the_name_the_size_and_whether_it_streams() -> None:
    for request in (messages(stream=True), chat(stream=True), passing(model="asked", stream=True)):
        assert (request.model, request.streams) == ("asked", True)
    for request in (messages(), chat(), passing(model="asked")):
        assert request.streams is False
    assert messages().size_bytes == chat().size_bytes == len(body_of())
    assert passing(input="a").model is None


def test_a_conversation_opens_with_its_system_prompt_and_its_first_user_message() -> None:
    later = [*HI, {"role": "assistant", "content": "x"}, {"role": "user", "content": "more"}]
    assert messages(system="s").opening == messages(system="s", messages=later).opening == (b'"s"', b'"hi"')
    for role in ("system", "developer"):
        assert chat(messages=[{"role": role, "content": "s"}, *later]).opening == (b'"s"', b'"hi"')
    assert chat(messages=[{"role": "assistant", "content": "x"}]).opening == (b"", b"")
    assert passing(input="a" * 2000).opening[1].startswith(b'{"input": "aaa')
    assert len(passing(input="a" * 2000).opening[1]) == 512


def test_an_answer_to_a_call_without_a_name_gets_that_of_its_pool_once_it_is_known() -> None:
    for meant, told in (("", "theirs"), ("pool", "pool")):
        request = passing(input="a")
        if meant:
            request.means(meant)
        made = plan(request, LLAMA)
        assert sent(made) == {"input": "a"}
        assert json.loads(made.whole(b'{"model":"theirs"}', ABOUT)[0])["model"] == told


def test_what_was_left_out_is_told_once_it_is_known() -> None:
    request = messages(messages=[user(text("hi"), {"type": "container_upload", "file_id": "f"})])
    before = request.dropped
    plan(request, LLAMA)
    assert [before, request.dropped] == [(), ("container_upload",)]
    assert chat().dropped == passing().dropped == ()


def test_no_prompt_is_in_a_repr() -> None:
    for request in (messages(), chat(), passing(input="hi")):
        assert "hi" not in repr(request)


# ---------------------------------------------------------------- there and back

steady = settings(derandomize=True, max_examples=300, deadline=None)


def _without_thoughts(body: dict[str, Any]) -> dict[str, Any]:
    """Only signed thoughts may be sent to the Messages API, and chat completions know no signatures: they are lost."""
    kept = []
    for message in body["messages"]:
        content = message["content"]
        if message["role"] == "assistant" and isinstance(content, list):
            content = [block for block in content if block["type"] != "thinking"]
        kept.append({**message, "content": content})
    return {**body, "messages": kept}


def _words_of(turns: tuple[Turn, ...]) -> list[bytes]:
    found: list[bytes] = []
    for turn in turns:
        match turn:
            case UserTurn(parts):
                found += [part for part in parts if isinstance(part, bytes)]
            case AssistantTurn(text=said):
                found += [said] if said else []
            case ResultTurn(results):
                found += [part for result in results for part in result.parts if isinstance(part, bytes)]
    return found


def _turn(turn: Turn, names: dict[str, int], *, last: bool) -> object:
    """A turn as it may be compared. Ids are another dialect's: only which result is of which call must stay."""

    def part(it: bytes | Image) -> object:
        return json.loads(it) if isinstance(it, bytes) else json.loads(it.source)

    def result(it: Result) -> object:
        return names.setdefault(it.id, len(names)), [part(one) for one in it.parts]

    match turn:
        case UserTurn(parts):
            return "user", [part(it) for it in parts]
        case ResultTurn(results):
            return "results", [result(it) for it in results]
        case AssistantTurn(text=said, calls=calls):
            words = json.loads(said) if said else ""
            made = [
                (names.setdefault(it.id, len(names)), it.name, json.loads(it.input, object_pairs_hook=list))
                for it in calls
            ]
            return "assistant", words.rstrip() if last and not calls else words, made


def _kept(call: Canonical) -> dict[str, object]:
    """What must come back; the table of what does not is in the tests' names and comments here."""
    names: dict[str, int] = {}
    number = {name: float(value) for name, value in msgspec.structs.asdict(call.sampling).items() if value}
    if "temperature" in number:  # the range there ends at 1
        number["temperature"] = min(1.0, number["temperature"])
    choice = call.tool_choice if call.tools else None  # nothing to choose from: not sent
    return {
        "system": json.loads(call.system) if call.system is not None else None,
        "turns": [_turn(turn, names, last=turn is call.turns[-1]) for turn in call.turns],
        "tools": [(it.name, json.loads(it.description), json.loads(it.input_schema)) for it in call.tools],
        "choice": (choice.kind, choice.name, choice.parallel or choice.kind == "none") if choice else None,
        "max_tokens": max(1, call.max_tokens or 0),
        "sampling": number,
        "stop": tuple(word for word in call.stop if word.strip()),  # blanks alone are refused there
        "schema": json.loads(call.schema) if call.schema is not None else None,
        "stream": call.stream,
    }


whole_requests = st.builds(
    lambda body, more: _without_thoughts(body) | more,
    requests,
    st.fixed_dictionaries(
        {}, optional={"output_config": st.just(FORMAT), "top_p": st.floats(0, 1)}
    ),
)  # fmt: skip


@steady
@given(body=whole_requests, llama=st.booleans())
def test_a_request_that_goes_to_chat_completions_and_back_keeps_all_that_both_can_say(
    body: dict[str, Any], llama: bool
) -> None:
    """What is lost on purpose: thoughts, cache marks, effort and thinking (each server has its own levers), texts of
    blanks alone, blanks at the end of a prefill, ids. A forced call to a llama-server is another request, and so are
    images in results at strict servers.
    """
    try:
        call = canonical(decode_messages(json.dumps(body).encode()))
    except RequestInvalid:
        assume(False)
    results = [turn for turn in call.turns if isinstance(turn, ResultTurn)]
    in_results = [part for turn in results for it in turn.results for part in it.parts if isinstance(part, Image)]
    assume(llama or not in_results)
    assume(not (llama and call.tools and forced_tools(call)))
    words = [*_words_of(call.turns), *([call.system] if call.system is not None else [])]
    assume(all(json.loads(it).strip() for it in words if it != b'""'))
    there = chat_body(call, model="m", llama=llama)
    back = messages_body(there, model="m", default_max_tokens=7)
    assert _kept(call) == _kept(canonical(decode_messages(back)))
