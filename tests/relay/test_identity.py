"""What a call is placed by: whose conversation it is, from what its client says, and its prompt as a chain."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.affinity import Session, session_key
from router.balance.call import Call
from router.balance.chain import common, opaque
from router.balance.chat_units import chat_chain, completion_chain
from router.balance.units import messages_chain
from router.fleet.registry import Pool
from router.relay.headers import Header
from router.relay.identity import call_of
from router.translate.messages_plan import MessagesRequest
from router.translate.plan import Request
from router.wire.anthropic import decode_messages
from tests.captures.reading import Captured, captured, consecutive_turns
from tests.translate.asking import chat, messages, passing

steady = settings(derandomize=True, max_examples=100, deadline=None)
Json = dict[str, Any]
SESSION = b"x-claude-code-session-id"


def of(request: Request, *headers: Header, pool: str = "m", number: int = 1, **more: Any) -> Call:
    named = Pool(name=pool, aliases=(), display_name=pool, instance_ids=())
    return call_of(request, named, headers, number=number, now_s=7.0, **more)


def of_captured(it: Captured) -> Call:
    request = MessagesRequest(decode_messages(it.body), it.body)
    return of(request, *((name.encode(), value.encode()) for name, value in it.headers.items()))


def named(session_id: bytes, agent_id: bytes = b"", pool: str = "m") -> int:
    return session_key(pool, Session(session_id=session_id, agent_id=agent_id), b"", b"")


# ---------------------------------------------------------------- whose it is


@pytest.mark.parametrize("request_", [messages(), chat(), passing(input="x")], ids=["messages", "chat", "passing"])
def test_who_names_a_session_is_known_by_it_whatever_is_asked(request_: Request) -> None:
    assert named(b"s") == of(request_, (SESSION, b"s")).session
    assert named(b"s", b"a") == of(request_, (SESSION, b"s"), (b"x-claude-code-agent-id", b"a")).session
    assert named(b"s", pool="n") == of(request_, (SESSION, b"s"), pool="n").session


@pytest.mark.parametrize(
    ("user_id", "known"),
    [
        ('{"device_id":"d","session_id":"s"}', True),
        ("user_0a_account_1b_session_s", True),
        ("anna", False),
        (None, False),
    ],
)
def test_a_session_may_stand_in_the_metadata_of_a_message(user_id: str | None, known: bool) -> None:
    call = of(messages(metadata={"user_id": user_id}))
    assert known is (call.session == named(b"s"))
    assert known is not (call.session == of(messages()).session)


def test_the_metadata_may_be_empty_or_null() -> None:
    assert of(messages()).session == of(messages(metadata={})).session


def test_a_cache_key_tells_conversations_apart_only_together_with_what_they_begin_with() -> None:
    plain, keyed, other = (
        of(chat(**fields)).session for fields in ({}, {"prompt_cache_key": "k"}, {"prompt_cache_key": "l"})
    )
    assert 3 == len({plain, keyed, other})
    elsewhere = chat(prompt_cache_key="k", messages=[{"role": "user", "content": "else"}])
    assert keyed != of(elsewhere).session
    assert of(chat(), (SESSION, b"s")).session == of(chat(prompt_cache_key="k"), (SESSION, b"s")).session


@given(st.text(max_size=20), st.text(max_size=20), st.lists(st.text(min_size=1, max_size=20), max_size=4))
@steady
def test_without_any_of_these_it_is_what_the_conversation_begins_with(system: str, first: str, more: list[str]) -> None:
    def said(*texts: str) -> Json:
        return {
            "system": system,
            "messages": [
                {"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)
            ],
        }

    assert of(messages(**said(first))).session == of(messages(**said(first, *more))).session
    assert of(messages(**said(first))).session != of(messages(**said(first + "!", *more))).session


@pytest.mark.parametrize(
    ("headers", "begins", "ends"),
    [
        ((), False, False),
        (((b"x-claude-code-context-compacted", b"1"),), True, False),
        (((b"x-claude-code-context-compacted", b"false"),), False, False),
        (((b"x-claude-code-compaction", b"true"),), False, True),
        (((b"x-claude-code-request-class", b"compaction"),), False, True),
    ],
)
def test_a_conversation_that_is_summed_up_is_told(headers: tuple[Header, ...], begins: bool, ends: bool) -> None:
    call = of(messages(), (SESSION, b"s"), *headers)
    assert (begins, ends) == (call.begins, call.ends)


# ---------------------------------------------------------------- its prompt


def test_each_kind_of_request_has_the_chain_of_its_kind() -> None:
    message, completion, complete = messages(), chat(), passing(b"/v1/completions", model="m", prompt="once")
    assert messages_chain("m", message.canonical) == of(message).chain
    assert chat_chain("m", completion.body) == of(completion).chain
    assert completion_chain("m", complete.body) == of(complete).chain
    assert of(message).chain != of(message, pool="n").chain


@pytest.mark.parametrize(
    "request_",
    [
        passing(input="no prompt in it"),
        passing(b"/tokenize", content="x"),
        messages(messages=[{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "x"}}]}]),
    ],
    ids=["embeddings", "tokenize", "a document that no local model can read"],
)
def test_a_prompt_that_cannot_be_seen_is_like_no_other(request_: Request) -> None:
    assert opaque(5) == of(request_, number=5).chain
    assert of(request_, number=5).chain != of(request_, number=6).chain


def test_where_no_cache_could_be_known_the_prompt_is_not_looked_at() -> None:
    class Unseen(MessagesRequest):
        @property
        def canonical(self) -> Any:
            raise AssertionError

    seen = messages()
    call = of(Unseen(seen.head, seen.body), number=3, mirrored=False)
    assert opaque(3) == call.chain
    assert of(seen).session == call.session


# A tool that is loaded meanwhile changes a prompt from the middle on.
TURNS = [
    (earlier, later)
    for earlier, later in consecutive_turns()
    if len(earlier.fields["tools"]) == len(later.fields["tools"])
]


@pytest.mark.parametrize(("earlier", "later"), TURNS, ids=[later.name for _, later in TURNS])
def test_a_turn_that_was_recorded_continues_the_one_before_it(earlier: Captured, later: Captured) -> None:
    before, after = of_captured(earlier), of_captured(later)
    assert before.session == after.session
    assert before.chain is not None
    assert after.chain is not None
    shared = common(before.chain, after.chain)
    assert before.chain.ends[shared - 1] >= 0.95 * before.chain.size_bytes
    assert after.chain.size_bytes > before.chain.size_bytes


def test_what_was_recorded_of_different_sessions_is_told_apart() -> None:
    sessions: dict[int, set[tuple[str, str]]] = {}
    for it in captured():
        who = it.headers.get("x-claude-code-session-id"), it.headers.get("x-claude-code-agent-id", "")
        if who[0] is not None:
            sessions.setdefault(of_captured(it).session, set()).add((who[0], who[1]))
    assert len(sessions) > 5
    assert {1} == {len(names) for names in sessions.values()}


# ---------------------------------------------------------------- what else


@pytest.mark.parametrize("stream", [False, True, None])
def test_the_rest_is_taken_as_it_is(stream: bool | None) -> None:
    call = of(messages(stream=stream), unfit=frozenset(("gpu7",)))
    assert ("m", 7.0, frozenset(("gpu7",)), bool(stream)) == (call.pool, call.arrived_s, call.excluded, call.streams)
