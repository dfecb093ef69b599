"""What holds for each kind of call alike: where it goes, how it is counted. And there and back."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid
from router.translate.chat_request import messages_body
from router.translate.fidelity import Abilities
from router.translate.forced import forced_tools
from router.translate.plan import Request
from router.translate.request import chat_body
from router.wire.anthropic import decode_messages
from router.wire.canonical import Canonical, canonical
from router.wire.parts import Image, Result
from router.wire.turns import AssistantTurn, ResultTurn, Turn, UserTurn
from tests.translate.asking import (
    ABOUT,
    FORMAT,
    HI,
    HOSTED,
    LLAMA,
    OLD_LLAMA,
    VLLM,
    chat,
    messages,
    passing,
    plan,
    sent,
)
from tests.wire.canonical_samples import requests

# ---------------------------------------------------------------- where it goes
# ---------------------------------------------------------------- exact
# ---------------------------------------------------------------- what is refused
# ---------------------------------------------------------------- bodies
# ---------------------------------------------------------------- counts
# ---------------------------------------------------------------- answers
# ---------------------------------------------------------------- what the relay knows of a call


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


@pytest.mark.parametrize("name", [name for name in WAYS if name != "chat, the Messages API"])
def test_no_other_call_needs_a_version(name: str) -> None:
    request, can, _, _ = WAYS[name]
    assert plan(request, can).version == b""


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


@pytest.mark.parametrize("name", WAYS)
def test_a_plain_answer_that_is_none_raises(name: str) -> None:
    request, can, _, _ = WAYS[name]
    with pytest.raises(msgspec.DecodeError):
        plan(request, can).whole(b"<html>", ABOUT)


def test_a_conversation_opens_with_its_system_prompt_and_its_first_user_message() -> None:
    later = [*HI, {"role": "assistant", "content": "x"}, {"role": "user", "content": "more"}]
    assert messages(system="s").opening == messages(system="s", messages=later).opening == (b'"s"', b'"hi"')
    for role in ("system", "developer"):
        assert chat(messages=[{"role": role, "content": "s"}, *later]).opening == (b'"s"', b'"hi"')
    assert chat(messages=[{"role": "assistant", "content": "x"}]).opening == (b"", b"")
    assert passing(input="a" * 2000).opening[1].startswith(b'{"input": "aaa')
    assert len(passing(input="a" * 2000).opening[1]) == 512


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
