import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.affinity import Session, session_key, session_of
from router.errors import RequestInvalid
from router.translate.messages_plan import MessagesRequest
from router.wire.anthropic import decode_messages
from tests.captures.reading import captured

steady = settings(derandomize=True, max_examples=200, deadline=None)

NOBODY = Session()
KEYED = Session(cache_key=b"k")
MARK = {"cache_control": {"type": "ephemeral"}}


def block(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


ASSISTANT = {"role": "assistant", "content": "yes?"}


def of(*messages: Any, session: Session = NOBODY, pool: str = "m", **fields: Any) -> int:
    body = {"model": "m", "max_tokens": 1, "messages": list(messages), **fields}
    return number(json.dumps(body).encode(), session=session, pool=pool)


def number(body: bytes, *, session: Session = NOBODY, pool: str = "m") -> int:
    """As for a call: by the opening that the Messages API's requests tell."""
    return session_key(pool, session, *MessagesRequest(decode_messages(body), body).opening)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("a string and its one block", of(user("hi")), of(user([block("hi")]))),
        ("a mark that comes", of(user([block("hi")])), of(user([block("hi", **MARK)]))),
        ("a mark that moves", of(user([block("a", **MARK), block("b")])), of(user([block("a"), block("b", **MARK)]))),
        ("the turns that follow", of(user("hi")), of(user("hi"), ASSISTANT, user("go on"))),
        ("what comes before the user", of(user("hi")), of(ASSISTANT, user("hi"))),
        (
            "an image that is not text",
            of(user([block("hi")])),
            of(user([block("hi"), {"type": "image", "source": {}}])),
        ),
        ("another limit", of(user("hi")), of(user("hi"), max_tokens=99, stream=True, temperature=0.5)),
        ("no system and null", of(user("hi")), of(user("hi"), system=None)),
        ("a system string and its one block", of(user("hi"), system="s"), of(user("hi"), system=[block("s")])),
        (
            "a mark that comes in the system prompt",
            of(user("hi"), system=[block("s")]),
            of(user("hi"), system=[block("s", **MARK)]),
        ),
        (
            "a mark that moves in the system prompt",
            of(user("hi"), system=[block("s", **MARK), block("t")]),
            of(user("hi"), system=[block("s"), block("t", **MARK)]),
        ),
        (
            "the attribution line, which changes with every request of some releases",
            of(user("hi"), system=[block("x-anthropic-billing-header: cch=12345;"), block("s")]),
            of(user("hi"), system=[block("x-anthropic-billing-header: cch=54321;"), block("s")]),
        ),
    ],
)
def test_turns_of_one_conversation_agree(name: str, one: int, other: int) -> None:
    assert one == other, name


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("the first words", of(user("hi")), of(user("ho"))),
        ("the system prompt", of(user("hi"), system="s"), of(user("hi"), system="t")),
        ("no system prompt", of(user("hi"), system="s"), of(user("hi"))),
        ("the pool", of(user("hi")), of(user("hi"), pool="n")),
        ("where system ends and user begins", of(user("b"), system="a"), of(user(""), system="ab")),
        ("a session", of(user("hi")), of(user("hi"), session=Session(b"s"))),
        ("another session", of(user("hi"), session=Session(b"s")), of(user("hi"), session=Session(b"t"))),
        ("a subagent", of(user("hi"), session=Session(b"s")), of(user("hi"), session=Session(b"s", b"a"))),
        (
            "another subagent",
            of(user("hi"), session=Session(b"s", b"a")),
            of(user("hi"), session=Session(b"s", b"b")),
        ),
        (
            "where session ends and agent begins",
            of(user("hi"), session=Session(b"sa")),
            of(user("hi"), session=Session(b"s", b"a")),
        ),
        (
            "the pool of a session",
            of(user("hi"), session=Session(b"s")),
            of(user("hi"), session=Session(b"s"), pool="n"),
        ),
        ("a cache key", of(user("hi")), of(user("hi"), session=KEYED)),
        ("another cache key", of(user("hi"), session=KEYED), of(user("hi"), session=Session(cache_key=b"l"))),
        ("the words under one cache key", of(user("hi"), session=KEYED), of(user("ho"), session=KEYED)),
        ("a cache key that is a session's name", of(user("hi"), session=Session(b"k")), of(user("hi"), session=KEYED)),
    ],
)
def test_other_conversations_differ(name: str, one: int, other: int) -> None:
    assert one != other, name


def test_a_session_is_known_by_its_ids_whatever_it_says() -> None:
    session = Session(b"s", b"a")
    assert of(user("hi"), session=session) == of(user("ho"), system="t", session=session)


def test_a_conversation_that_is_summed_up_keeps_its_number() -> None:
    session = Session(b"s", b"a")
    for other in (Session(b"s", b"a", compacting=True), Session(b"s", b"a", compacted=True)):
        assert of(user("hi"), session=session) == of(user("hi"), session=other)


# As for the rendezvous numbers: replicas and the next release must agree.
@pytest.mark.parametrize(
    ("expected", "session"),
    [(124687784648765890, Session(b"s1", b"a1")), (12252685085827488295, Session(b"s1"))],
)
def test_the_number_of_a_session_is_the_same_everywhere_and_for_ever(expected: int, session: Session) -> None:
    assert expected == of(user("hi"), session=session, pool="qwen3-coder")


@pytest.mark.parametrize(
    "content",
    [[], ["hi"], [1], [{"type": "text"}], [{"type": "text", "text": 5}], [{"type": "text", "text": None}], [[]], ""],
)
def test_content_that_is_odd_still_has_a_number(content: Any) -> None:
    """Whoever reads the request may find it wrong; the number does not depend on that."""
    raw = json.dumps(content).encode()
    plain = session_key("m", NOBODY, b"", b'"hi"')
    assert session_key("m", NOBODY, b"", raw) == session_key("m", NOBODY, b"", raw) != plain
    assert session_key("m", NOBODY, raw, b'"hi"') == session_key("m", NOBODY, raw, b'"hi"')


@steady
@given(content=st.binary(max_size=40))
def test_content_of_any_bytes_has_a_number_or_was_refused(content: bytes) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":[%b]}]}' % content
    try:
        of_any = number(body)
    except RequestInvalid:
        return
    assert 0 <= of_any < 2**64


@steady
@given(system=st.binary(max_size=40), first_user=st.binary(max_size=40))
def test_an_opening_of_any_bytes_has_a_number(system: bytes, first_user: bytes) -> None:
    assert 0 <= session_key("m", NOBODY, system, first_user) < 2**64


ID = "e7b76833-f355-4f2a-b2d6-5d0ebddcaf08"
NEW = json.dumps({"device_id": "f" * 64, "account_uuid": "", "session_id": ID}).encode()
OLD = b"user_" + b"f" * 64 + b"_account_11111111-2222-3333-4444-555555555555_session_" + ID.encode()


def headers(**named: str) -> list[tuple[bytes, bytes]]:
    """With some that say nothing around them."""
    own = [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()]
    return [(b"user-agent", b"x"), *own, (b"x-session-token", b"secret"), (b"content-type", b"application/json")]


def test_a_client_that_says_nothing_is_nobody() -> None:
    assert session_of(headers()) == NOBODY
    assert session_of([]) == NOBODY


@pytest.mark.parametrize(
    "name",
    [
        "x-claude-code-session-id",
        "session-id",
        "x-session-id",
        "x-session-affinity",
        "x-litellm-session-id",
        "x-olla-session-id",
        "x-smg-routing-key",
        "x-dynamo-session-id",
        "x-bf-session-id",
    ],
)
def test_a_session_is_named_by_any_of_these_headers(name: str) -> None:
    assert session_of(headers(**{name: ID}), b"u-1", b"k") == Session(ID.encode())
    assert session_of(headers(**{name: ""})) == NOBODY


def test_the_older_spelling_of_codex_is_known() -> None:
    assert session_of([(b"session_id", b"s")]) == Session(b"s")


def test_claude_codes_own_header_comes_first() -> None:
    both = headers(x_session_id="other", x_claude_code_session_id=ID)
    assert session_of(both) == session_of(both[::-1]) == Session(ID.encode())


def test_a_session_is_the_same_by_header_and_by_either_form_of_the_user_id() -> None:
    by_header = session_of(headers(x_claude_code_session_id=ID))
    assert by_header == session_of(headers(), NEW) == session_of(headers(), OLD) == Session(ID.encode())


def test_a_header_comes_before_the_user_id_and_that_before_the_cache_key() -> None:
    assert session_of(headers(x_session_id="s"), NEW, b"k") == Session(b"s")
    assert session_of(headers(), NEW, b"k") == Session(ID.encode())
    assert session_of(headers(), b"u-1", b"k") == KEYED


@pytest.mark.parametrize(
    "user_id",
    [
        b"", b"u-1", b"{", b"{}", b"[]", b'{"session_id":5}', b'{"session_id":""}', b'{"session_id":null}', b"\xff",
        b'{"device_id":"x"}', b"user_1", b"user_1_session_", b"user_1_session_a b", b"my_session_x", b"{" * 100_000,
    ],
)  # fmt: skip
def test_a_user_id_that_names_no_session_names_nobody(user_id: bytes) -> None:
    assert session_of(headers(), user_id) == NOBODY


def test_each_agent_of_a_session_is_another() -> None:
    main = session_of(headers(x_claude_code_session_id=ID))
    agent = session_of(headers(x_claude_code_session_id=ID, x_claude_code_agent_id="a1"))
    assert (b"", b"a1") == (main.agent_id, agent.agent_id)
    assert of(user("hi"), session=main) != of(user("hi"), session=agent)


@pytest.mark.parametrize(
    ("kind", "agent_id"), [("main", b""), ("compaction", b""), ("subagent", b""), ("auxiliary", b"auxiliary")]
)
def test_a_side_call_does_not_pass_for_the_main_one(kind: str, agent_id: bytes) -> None:
    named = {"x-claude-code-session-id": ID, "x-claude-code-request-class": kind}
    assert session_of(headers(**named)).agent_id == agent_id
    assert session_of(headers(**named, x_claude_code_agent_id="a1")).agent_id == b"a1"


@pytest.mark.parametrize(
    ("named", "compacting", "compacted"),
    [
        ({}, False, False),
        ({"x-claude-code-request-class": "main"}, False, False),
        ({"x-claude-code-request-class": "compaction"}, True, False),
        ({"x-claude-code-compaction": "auto"}, True, False),
        ({"x-claude-code-compaction": "manual"}, True, False),
        ({"x-claude-code-compaction": "False"}, False, False),
        ({"x-claude-code-context-compacted": "reactive"}, False, True),
        ({"x-claude-code-context-compacted": "true"}, False, True),
        ({"x-claude-code-context-compacted": "0"}, False, False),
    ],
)
def test_a_summary_on_its_way_and_one_that_was_made_are_told_apart(
    named: dict[str, str], compacting: bool, compacted: bool
) -> None:
    session = session_of(headers(**named))
    assert (compacting, compacted) == (session.compacting, session.compacted)


def test_real_clients_are_known_by_header_and_body_alike() -> None:
    """Who is who in the recorded sessions; the count is of those that name a session both ways."""
    both = 0
    for it in captured():
        sent = [(name.encode(), value.encode()) for name, value in it.headers.items()]
        head = decode_messages(it.body)
        user_id = ((head.metadata and head.metadata.user_id) or "").encode()
        named = session_of(sent, user_id)
        assert named.session_id.decode() == it.headers.get("x-claude-code-session-id", "")
        assert named.agent_id.decode() == it.headers.get("x-claude-code-agent-id", "")
        if named.session_id and user_id:
            assert session_of([], user_id).session_id == named.session_id
            both += 1
    assert both > 20
