import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.affinity import Session, affinity
from router.errors import RequestInvalid
from router.translate.plan import MessagesRequest
from router.wire.anthropic import decode_messages

steady = settings(derandomize=True, max_examples=200, deadline=None)

NOBODY = Session()
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
    return affinity(pool, session, *MessagesRequest(decode_messages(body), body).opening)


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
    ],
)
def test_other_conversations_differ(name: str, one: int, other: int) -> None:
    assert one != other, name


def test_a_session_is_known_by_its_ids_whatever_it_says() -> None:
    session = Session(b"s", b"a")
    assert of(user("hi"), session=session) == of(user("ho"), system="t", session=session)


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
    plain = affinity("m", NOBODY, b"", b'"hi"')
    assert affinity("m", NOBODY, b"", raw) == affinity("m", NOBODY, b"", raw) != plain
    assert affinity("m", NOBODY, raw, b'"hi"') == affinity("m", NOBODY, raw, b'"hi"')


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
    assert 0 <= affinity("m", NOBODY, system, first_user) < 2**64
