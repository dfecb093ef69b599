"""The traps that other translators fell into, one by one. The numbers are those under which they were collected."""

import hashlib
import json
from typing import Any

import msgspec
import pytest

from router.config.keys import KeyEntry
from router.edge.auth import Keys
from router.translate.chat_request import anthropic_version, messages_body
from router.translate.chat_response import completion_of
from router.translate.faults import Fault, to_error
from router.translate.fidelity import Abilities
from router.translate.messages_plan import MessagesRequest
from router.translate.passing import PassStream
from router.translate.repair import repair_message
from router.translate.request import chat_body, native_body
from router.translate.response import message_of
from router.translate.thinking import levers
from router.wire.anthropic import decode_messages
from router.wire.canonical import Canonical
from tests.rig.legality import Message, Tool
from tests.translate import native
from tests.translate.chunks import DONE, broken, call, chunk, event, part, said, text, thought, usage
from tests.wire.canonical_samples import IMAGE, assistant, form, system, user
from tests.wire.canonical_samples import call as tool_use
from tests.wire.canonical_samples import result as tool_result
from tests.wire.canonical_samples import text as block
from tests.wire.canonical_samples import thinking as thinking_block
from tests.wire.canonical_samples import tool as tool_of

END = chunk("tool_calls") + DONE
STOP = chunk("stop") + DONE


def chat(c: Canonical, *, llama: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(chat_body(c, model="m", llama=llama))
    return found


def local(c: Canonical) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(native_body(c, model="m"))
    return found


def both_texts(c: Canonical) -> list[str]:
    """Both bodies as they would be sent."""
    return [json.dumps(chat(c), ensure_ascii=False), json.dumps(local(c), ensure_ascii=False)]


def inputs(of: Message) -> list[dict[str, Any]]:
    return [it.input for it in of.tools]


def plain_message(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    body = {"choices": [{"index": 0, "finish_reason": finish, "message": message}], **more}
    found: dict[str, Any] = json.loads(message_of(json.dumps(body).encode(), model="m", message_id="msg_1")[0])
    return found


def kinds(of: Message) -> list[str]:
    return [it.data["content_block"]["type"] for it in of.events if it.name == "content_block_start"]


# ---------------------------------------------------------------- 1 to 7: blocks and tool calls


@pytest.mark.parametrize(
    "pieces",
    [
        [call(0, "c", "Bash", '{"a":1}')],
        [call(0, "c", "Bash", '{"a"'), call(0, arguments=":1}")],
        [call(0, "c", "Bash"), call(0, arguments='{"a":1}')],
        [call(0, "c", "Bash", '{"a"'), chunk("tool_calls", tool_calls=[part(0, arguments=":1}")])],
        [chunk("tool_calls", tool_calls=[part(0, "c", "Bash", '{"a":1}')])],
    ],
    ids=["with the name", "begun with the name", "after the name", "ended with the finish", "all with the finish"],
)
def test_01_arguments_reach_the_client_wherever_a_server_puts_them(pieces: list[bytes]) -> None:
    """Clients got calls with an empty input, because pieces beside the name or the finish reason were skipped."""
    finish = [] if b'"finish_reason":"tool_calls"' in pieces[-1] else [chunk("tool_calls")]
    answer = said(*pieces, *finish, DONE)
    assert answer.tools == (Tool("toolu_c", "Bash", {"a": 1}),)
    assert answer.stop_reason == "tool_use"


def test_01_arguments_in_the_start_of_a_native_block_are_said_as_deltas() -> None:
    """The same: an input that stands in content_block_start already is not thrown away with it."""
    answer = native.message(
        native.start(), native.calls(0, input={"a": 1}), native.stops(0), native.ends("tool_use"), native.STOP
    )
    assert inputs(answer) == [{"a": 1}]


@pytest.mark.parametrize("cut", range(1, 9))
def test_02_the_first_characters_of_the_arguments_are_not_lost(cut: int) -> None:
    """A server lost the opening brace and quote: what came with the first piece was taken for the empty input."""
    whole = '{"a":"b"}'
    assert inputs(said(call(0, "c", "Bash", whole[:cut]), call(0, arguments=whole[cut:]), END)) == [{"a": "b"}]
    pieces = (native.argues(0, whole[:cut]), native.argues(0, whole[cut:]))
    answer = native.message(
        native.start(), native.calls(0), *pieces, native.stops(0), native.ends("tool_use"), native.STOP
    )
    assert inputs(answer) == [{"a": "b"}]


def test_03_an_empty_list_of_calls_beside_text_is_no_call() -> None:
    """Text vanished behind an empty input_json_delta, since `tool_calls: []` was taken for a call."""
    answer = said(chunk(content="a", tool_calls=[]), chunk(content="b", tool_calls=[]), STOP)
    assert (answer.text, kinds(answer), answer.stop_reason) == ("ab", ["text"], "end_turn")


def test_04_the_chunk_that_opens_a_block_keeps_its_own_text_and_name() -> None:
    """The first token was lost when it shared a chunk with the role, the name when it shared one with text."""
    answer = said(chunk(role="assistant", content="He", tool_calls=None), text("llo"), STOP)
    assert answer.text == "Hello"
    answer = said(chunk(role="assistant", content="Hm.", tool_calls=[part(0, "c", "Bash", "{}")]), END)
    assert (answer.text, [it.name for it in answer.tools]) == ("Hm.", ["Bash"])


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call"])
@pytest.mark.parametrize("first", [(), (text("Let me see."),)], ids=["call alone", "text before"])
def test_05_an_answer_with_a_call_stops_for_it_whatever_the_server_says(first: tuple[bytes, ...], finish: str) -> None:
    """Agents stopped in the middle of their work: a call that ended with "stop" was told as the end of the turn."""
    answer = said(*first, call(0, "c", "Bash", "{}"), chunk(finish), DONE)
    assert answer.stop_reason == "tool_use"
    calls = [{"id": "c", "type": "function", "function": {"name": "Bash", "arguments": "{}"}}]
    assert plain_message({"content": None, "tool_calls": calls}, finish)["stop_reason"] == "tool_use"


def test_06_an_empty_text_never_becomes_a_block() -> None:
    """An empty text block stood before each call; the hosted API refuses it when the conversation comes back."""
    answer = said(chunk(role="assistant", content=""), chunk(content=None), call(0, "c", "Bash", "{}"), END)
    assert kinds(answer) == ["tool_use"]
    calls = [{"id": "c", "type": "function", "function": {"name": "Bash", "arguments": "{}"}}]
    assert [it["type"] for it in plain_message({"content": "", "tool_calls": calls})["content"]] == ["tool_use"]
    ending = (native.stops(0, 1), native.ends("tool_use"), native.STOP)
    assert kinds(native.message(native.start(), native.opens(0, "text"), native.calls(1), *ending)) == ["tool_use"]


def test_06_an_empty_text_in_the_history_goes_to_no_instance() -> None:
    """The same, where a client brings one back from somebody else."""
    c = form(user(block("hi")), assistant(block(""), tool_use("a")), user(tool_result("a")))
    assert all('"text": ""' not in it and '"content": ""' not in it for it in both_texts(c))


def test_07_no_event_speaks_of_a_block_that_is_not_open() -> None:
    """Claude Code gave up streaming on "content block not found", after late, double or overlapping block events."""
    doubled = (native.calls(1), native.argues(1, "{}"), native.calls(1))
    answer = native.message(
        native.start(),
        native.opens(0, "text"),
        native.text(0, "a"),
        *doubled,
        native.stops(0, 1, 1),
        native.ends("tool_use"),
        native.STOP,
    )
    assert kinds(answer) == ["text", "tool_use"]
    assert len(answer.tools) == 1


# ---------------------------------------------------------------- 8 and 9: what is counted

PROGRESS = {"prompt_progress": {"total": 500, "cache": 400, "processed": 0, "time_ms": 1}}


def start_usage(of: Message) -> dict[str, Any]:
    found: dict[str, Any] = of.events[0].data["message"]["usage"]
    return found


def end_usage(of: Message) -> dict[str, Any]:
    found: dict[str, Any] = next(it.data["usage"] for it in of.events if it.name == "message_delta")
    return found


def test_08_message_start_tells_the_size_of_the_prompt() -> None:
    """With 0 there the context meter stays dead and nobody compacts; llama-server's progress tells it in time."""
    counted = usage(500, 3, cached_tokens=400)
    answer = said(chunk(more=PROGRESS, role="assistant", content=None), text("a"), chunk("stop"), counted, DONE)
    assert start_usage(answer) == {
        "input_tokens": 100, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 400, "output_tokens": 0
    }  # fmt: skip
    guessed = said(text("a"), STOP, guess_tokens=321)
    assert start_usage(guessed)["input_tokens"] == 321


def test_08_what_is_not_known_is_left_out_at_the_end() -> None:
    """The other half: SDKs let message_delta overrule message_start, so a 0 for "unknown" wipes out what was right."""
    assert "input_tokens" not in end_usage(said(text("a"), STOP, guess_tokens=321))


def test_09_cached_tokens_are_taken_out_of_the_prompt_once() -> None:
    """There they are inside of prompt_tokens, here beside input_tokens: counted twice, or never subtracted."""
    answer = said(text("a"), chunk("stop"), usage(500, 3, cached_tokens=400), DONE)
    assert end_usage(answer) == {
        "input_tokens": 100, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 400, "output_tokens": 3
    }  # fmt: skip
    counted = {"prompt_tokens": 500, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 400}}
    assert plain_message({"content": "a"}, usage=counted)["usage"] == end_usage(answer)
    # llama-server's own route has subtracted them already.
    told = native.message(
        native.start(input_tokens=100, cache_read_input_tokens=400, output_tokens=0),
        native.opens(0, "text"), native.text(0, "a"), native.stops(0), native.ends(), native.STOP,
    )  # fmt: skip
    assert end_usage(told) == end_usage(answer)


def test_09_the_same_numbers_come_back_to_a_chat_client() -> None:
    """And in the other direction they are put back, once."""
    counted = {"input_tokens": 100, "cache_read_input_tokens": 400, "output_tokens": 3}
    body = {"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn", "usage": counted}
    raw, _, _ = completion_of(json.dumps(body).encode(), model="m", completion_id="c", created_s=1)
    told = json.loads(raw)["usage"]
    assert (told["prompt_tokens"], told["prompt_tokens_details"]["cached_tokens"]) == (500, 400)


# ---------------------------------------------------------------- 10: broken answers


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (text("a"),),
        (text("a"), DONE),
        (text("a"), event({"error": {"message": "out of memory", "type": "server_error", "code": 500}})),
        (text("a"), b'error: {"message":"out of memory"}\n\n'),
        (call(0, "c", "Bash", '{"a":'), chunk("tool_calls"), DONE),
        (text("a"), chunk("error"), DONE),
    ],
    ids=["nothing", "cut", "done without a reason", "error in band", "old error line", "half a call", "gave up"],
)
def test_10_a_broken_answer_never_looks_whole(pieces: tuple[bytes, ...]) -> None:
    """Failures in mid-stream were told as short, well-formed answers, and agents took them for the truth."""
    assert broken(*pieces)


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (native.start(), native.opens(0, "text"), native.text(0, "a")),
        (native.start(), native.opens(0, "text"), native.text(0, "a"), native.stops(0), native.STOP),
        (native.start(), native.event("error", code=500, message="Context size has been exceeded.")),
    ],
    ids=["nothing", "cut", "stop without a reason", "flat error"],
)
def test_10_nor_does_one_of_the_native_route(pieces: tuple[bytes, ...]) -> None:
    """The same for llama-server's own stream."""
    stream = native.stream()
    out = stream.feed(b"".join(pieces)) + stream.finish()
    assert (stream.ended, stream.error is None) == (False, False)
    assert b"message_stop" not in out


# ---------------------------------------------------------------- 11 to 15: histories


def test_11_a_thinking_block_always_has_a_signature_key() -> None:
    """Typed clients break where `signature` is missing; an empty text is right where nobody has signed."""
    answer = said(thought("hm"), text("a"), STOP)
    assert answer.events[1].data["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    plain = plain_message({"content": "a", "reasoning_content": "hm"})
    assert plain["content"][0] == {"type": "thinking", "thinking": "hm", "signature": ""}


def test_11_thoughts_stay_thoughts_whoever_signed_them() -> None:
    """Thinking without a signature, or with a foreign one, was put into the visible text of the history, or lost."""
    c = form(user(block("q")), assistant(thinking_block("hm", "foreign=="), block("a")), user(block("r")))
    (turn,) = [it for it in chat(c)["messages"] if it["role"] == "assistant"]
    assert (turn["reasoning_content"], turn["content"]) == ("hm", "a")
    (turn,) = [it for it in local(c)["messages"] if it["role"] == "assistant"]
    assert [it["type"] for it in turn["content"]] == ["thinking", "text"]


def test_11_thoughts_of_a_chat_client_do_not_go_to_the_hosted_api() -> None:
    """It refuses thinking that it has not signed, and an OpenAI client cannot have a signature."""
    turns = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a", "reasoning_content": "hm"},
        {"role": "user", "content": "r"},
    ]
    body = messages_body(json.dumps({"model": "m", "messages": turns}).encode(), model="m", default_max_tokens=9)
    assert b"hm" not in body
    assert b"thinking" not in body


def test_11_thoughts_that_the_hosted_api_has_not_signed_do_not_go_there() -> None:
    """It answers 400 to `signature: ""`, so a pool with both kinds of instances breaks such a conversation."""
    history = [user(block("q")), assistant(thinking_block("hm"), block("a")), user(block("r"))]
    assert b"hm" not in plan_body(Abilities(exact=True), messages=history)


def plan_body(can: Abilities, **fields: Any) -> bytes:
    body = json.dumps({"model": "m", "max_tokens": 9, **fields}).encode()
    return MessagesRequest(decode_messages(body), body).plan(can, upstream_model=None, pass_tools=False).body


def test_12_pictures_in_a_result_stay_pictures() -> None:
    """Screenshots were dropped, or sent as a megabyte of text."""
    c = form(user(block("look")), assistant(tool_use("toolu_a")), user(tool_result("toolu_a", [block("seen"), IMAGE])))
    url = "data:image/png;base64,aGk="
    result_ = chat(c)["messages"][-1]
    assert (result_["role"], result_["content"][1]) == ("tool", {"type": "image_url", "image_url": {"url": url}})
    (sent,) = local(c)["messages"][-1]["content"]
    assert sent["content"][1] == IMAGE
    # Strict servers take only text from a tool: there the user shows it.
    *_, told, shown = chat(c, llama=False)["messages"]
    assert told["role"] == "tool"
    assert isinstance(told["content"], str | list)
    assert "aGk=" not in json.dumps(told)
    assert {"type": "image_url", "image_url": {"url": url}} in shown["content"]


def test_13_a_system_message_in_mid_conversation_stays_in_its_place() -> None:
    """Strict templates refuse one that is not first; moved to the front it changes the prompt from its start."""
    c = form(user(block("one")), system("Hurry."), assistant(block("ok")), user(block("two")), system=("Be kind."))
    for body in (chat(c), local(c)):
        turns = [it for it in body["messages"] if it["role"] != "system" or it["content"] != "Be kind."]
        assert [it["role"] for it in turns] == ["user", "assistant", "user"]
        assert "<system-reminder>\\nHurry.\\n</system-reminder>" in json.dumps(turns[0])


@pytest.mark.parametrize("cch", ["aaaaa", "bbbbb"])
def test_14_the_billing_header_does_not_reach_the_prompt(cch: str) -> None:
    """It stands before everything and changes with each call: one line of it, and no cache is ever used again."""
    header = f"x-anthropic-billing-header: cc_version=2.1.330.abc; cc_entrypoint=cli; cch={cch};"
    c = form(user(block("hi")), system=[block(header), block("You are a coder.")])
    assert json.loads(c.system or b"") == "You are a coder."
    assert all("billing" not in it and cch not in it for it in both_texts(c))


def test_15_results_come_right_after_their_calls_and_before_anything_else() -> None:
    """User text between a call and its result is refused by every strict server and template."""
    c = form(
        user(block("go")),
        assistant(tool_use("toolu_a"), tool_use("toolu_b")),
        user(block("be quick"), tool_result("toolu_b", "B"), block("thanks"), tool_result("toolu_a", "A")),
    )
    roles = [(it["role"], it.get("tool_call_id", "")) for it in chat(c)["messages"]]
    assert roles == [("user", ""), ("assistant", ""), ("tool", "a"), ("tool", "b"), ("user", "")]
    _, _, results, rest = local(c)["messages"]
    assert [it["tool_use_id"] for it in results["content"]] == ["a", "b"]
    assert "be quick" in json.dumps(rest)


def test_15_a_call_that_was_never_answered_gets_a_result() -> None:
    """The same: a call without one breaks the conversation for good."""
    c = form(user(block("go")), assistant(tool_use("toolu_a")), user(block("never mind")))
    assert [it["role"] for it in chat(c)["messages"]] == ["user", "assistant", "tool", "user"]


# ---------------------------------------------------------------- 16 to 20: calls side by side, counts, levers


def test_16_parallel_calls_do_not_mix() -> None:
    """Pieces of two calls came in turns, or both in one chunk, and ended in one another's arguments."""
    mixed = (
        chunk(tool_calls=[part(0, "a", "Read", '{"p":'), part(1, "b", "Grep", '{"q":')]),
        call(1, arguments='"two"}'),
        call(0, arguments='"one"}'),
    )
    answer = said(*mixed, END)
    assert [(it.name, it.input) for it in answer.tools] == [("Read", {"p": "one"}), ("Grep", {"q": "two"})]
    assert kinds(answer) == ["tool_use", "tool_use"]


def test_16_calls_are_serial_only_when_the_client_says_so() -> None:
    """Others switched parallel calls off for everybody."""
    tools = [tool_of("Read")]
    assert "parallel_tool_calls" not in chat(form(user(block("go")), tools=tools, tool_choice={"type": "auto"}))
    alone = {"type": "auto", "disable_parallel_tool_use": True}
    assert chat(form(user(block("go")), tools=tools, tool_choice=alone))["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("can", "path"),
    [
        (Abilities(), b"/v1/messages/count_tokens"),
        (Abilities(messages=False), b"/v1/chat/completions/input_tokens"),
        (Abilities(messages=False, llama=False), b"/tokenize"),
    ],
    ids=["native", "llama's chat", "another server"],
)
def test_17_tokens_are_counted_of_the_very_prompt_that_is_sent(can: Abilities, path: bytes) -> None:
    """Without a count, or with one that is far too low, clients compact too late and run into the limit."""
    body = json.dumps(
        {"model": "m", "max_tokens": 9, "system": "Be kind.", "messages": [user(block("hi"))], "tools": [tool_of("T")]}
    ).encode()
    request = MessagesRequest(decode_messages(body), body)
    count = request.count(can, upstream_model=None)
    sent = request.plan(can, upstream_model=None, pass_tools=False)
    assert count.path == path
    prompt = ("messages", "system", "tools")
    counted, asked = json.loads(count.body), json.loads(sent.body)
    assert {name: counted.get(name) for name in prompt} == {name: asked.get(name) for name in prompt}


@pytest.mark.parametrize(
    ("fields", "kwargs"),
    [
        ({"thinking": {"type": "disabled"}}, {"enable_thinking": False}),
        ({"thinking": {"type": "adaptive"}}, {"enable_thinking": True}),
        ({"thinking": {"type": "between_tools"}}, {"enable_thinking": True}),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"output_config": {"effort": "max"}}, {"reasoning_effort": "high"}),
    ],
)
def test_18_thinking_and_effort_reach_the_template(fields: dict[str, Any], kwargs: dict[str, Any]) -> None:
    """They were dropped, or turned round: a client that switched thinking off waited for pages of it."""
    c = form(user(block("hi")), **fields)
    can = Abilities(switch=True, effort=True)
    for body in (
        chat_body(c, model="m", llama=True, extra=levers(c, can)),
        native_body(c, model="m", extra=levers(c, can)),
    ):
        assert json.loads(body)["chat_template_kwargs"] == kwargs


def test_18_thinking_in_an_answer_is_not_lost() -> None:
    """The other half: thoughts came under a name that nobody read."""
    assert said(chunk(reasoning="hm"), text("a"), STOP).thinking == "hm"
    assert said(thought("hm"), text("a"), STOP).thinking == "hm"


@pytest.mark.parametrize(
    "pieces",
    [
        [call(0, "a", "Read", '{"n":1}'), call(0, "b", "Read", '{"n":2}')],
        [call(0, None, "Read", '{"n":1}'), call(1, None, "Read", '{"n":2}')],
        [call(0, "a", "Read", '{"n"'), call(0, "x", None, ":1}"), call(1, "b", "Read", '{"n":2}')],
        [call(0, "0", "Read", '{"n":1}'), call(1, "0", "Read", '{"n":2}')],
        [chunk(tool_calls=[part(None, "a", "Read", '{"n":1}'), part(None, "b", "Read", '{"n":2}')])],
    ],
    ids=["one index for all", "no ids", "a new id with every piece", "one id for all", "no index"],
)
def test_19_calls_are_told_apart_where_a_server_repeats_or_omits_ids(pieces: list[bytes]) -> None:
    """Two calls became one, or each piece a call of its own, wherever the id alone decided."""
    answer = said(*pieces, END)
    assert inputs(answer) == [{"n": 1}, {"n": 2}]
    assert len({it.id for it in answer.tools}) == 2


def test_20_arguments_that_come_only_when_they_are_done_are_passed_on() -> None:
    """On the responses route some servers send arguments in the last event alone; others wait for deltas in vain."""
    stream = PassStream(model="m", instance_id="i")
    done = {"type": "response.function_call_arguments.done", "item_id": "f", "arguments": '{"a":1}'}
    last = {"type": "response.completed", "response": {"model": "x", "output": []}}
    raw = b"".join(
        b"event: %b\ndata: %b\n\n" % (str(it["type"]).encode(), json.dumps(it).encode()) for it in (done, last)
    )
    out = stream.feed(raw)
    assert json.dumps(done).encode() in out
    assert stream.ended


def test_20_so_are_those_that_come_whole_again_at_the_end() -> None:
    """The same in chat completions: the finish chunk repeats the whole, and is not added to it."""
    whole = '{"a":1}'
    again = chunk("tool_calls", tool_calls=[part(0, "c", "Bash", whole)])
    assert inputs(said(call(0, "c", "Bash", whole), again, DONE)) == [{"a": 1}]


# ---------------------------------------------------------------- 21: versions


@pytest.mark.parametrize(
    "header",
    [(b"x-api-key", b"sk-1"), (b"authorization", b"Bearer sk-1"), (b"authorization", b"bearer sk-1")],
    ids=["x-api-key", "bearer", "in small letters"],
)
def test_21_a_key_is_found_in_either_header(header: tuple[bytes, bytes]) -> None:
    """The SDKs of autumn 2026 send Bearer; who reads x-api-key alone turns them all away."""
    keys = Keys([KeyEntry(id="one", sha256=hashlib.sha256(b"sk-1").hexdigest())])
    assert keys.caller([header]).key_id == "one"


def test_21_the_version_that_is_sent_allows_what_is_in_the_body() -> None:
    """Since then the newest version refuses sampling fields, so one version for everything is wrong either way."""
    assert anthropic_version(b'{"temperature":0.5}') == "2023-06-01"
    assert anthropic_version(b'{"max_tokens":1}') == "2026-10-21"


def test_17_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_look_for() -> None:
    """The hard 400 at the end of late compaction: Claude Code compacts when it reads these words."""
    fault = Fault(message="too big", type="exceed_context_size_error", n_prompt_tokens=9000, n_ctx=8192)
    assert to_error(400, fault, instance_id="i").message == "prompt is too long: 9000 tokens > 8192 maximum"


def test_05_06_11_a_plain_native_answer_falls_into_none_of_them_either() -> None:
    """What holds for streams holds for llama-server's plain answers: no empty text, a signature, stop for a call."""
    content = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "c", "name": "Bash", "input": {"a": 1}},
    ]
    counted = {"input_tokens": 100, "cache_read_input_tokens": 400, "output_tokens": 3}
    body = {"content": content, "stop_reason": "end_turn", "stop_sequence": None, "usage": counted}
    told = msgspec.json.decode(repair_message(json.dumps(body).encode(), model="m", message_id="msg_1")[0])
    assert told["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "tool_use", "id": "toolu_c", "name": "Bash", "input": {"a": 1}},
    ]
    assert told["stop_reason"] == "tool_use"
