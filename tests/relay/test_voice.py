"""Errors and pings, as each dialect's clients know them."""

import json

import pytest

from router.edge.rescue import tell
from router.errors import (
    ModelNotFound,
    NotSupported,
    Overloaded,
    PromptTooLong,
    RequestInvalid,
    RouterError,
    Unauthorized,
    UpstreamBroke,
)
from router.relay.voice import CHAT_VOICE, MESSAGES_VOICE
from tests.rig.legality import check
from tests.rig.legality_chat import check_chat

ERRORS: list[tuple[RouterError, str, str | None]] = [
    (RequestInvalid("messages: bad"), "invalid_request_error", None),
    (PromptTooLong("9 tokens > 8 maximum"), "invalid_request_error", "context_length_exceeded"),
    (Unauthorized("who?"), "invalid_request_error", "invalid_api_key"),
    (ModelNotFound("no such model"), "invalid_request_error", "model_not_found"),
    (Overloaded("full", retry_after_s=1), "server_error", "overloaded"),
    (NotSupported("/infill is not offered"), "server_error", None),
    (UpstreamBroke('cut "short"\nä', instance_id="one"), "server_error", None),
]
IDS = [type(error).__name__ for error, *_ in ERRORS]


@pytest.mark.parametrize(("error", "type_", "code"), ERRORS, ids=IDS)
def test_an_error_is_the_same_words_in_either_dialect(error: RouterError, type_: str, code: str | None) -> None:
    told = tell(error)
    ours, openai = (json.loads(voice.error_body(told, "req_1")) for voice in (MESSAGES_VOICE, CHAT_VOICE))
    assert {
        "type": "error",
        "error": {"type": told.type, "message": error.message},
        "request_id": "req_1",
    } == ours
    assert {"error"} == set(openai)
    assert {"message", "type", "param", "code"} == set(openai["error"])
    assert (error.message, None) == (openai["error"]["message"], openai["error"]["param"])
    assert (type_, code) == (openai["error"]["type"], openai["error"]["code"])


@pytest.mark.parametrize("error", [error for error, *_ in ERRORS], ids=IDS)
def test_the_event_of_an_error_holds_its_body_and_is_a_legal_end(error: RouterError) -> None:
    told = tell(error)
    ours, openai = (voice.error_event(told, "req_1") for voice in (MESSAGES_VOICE, CHAT_VOICE))
    assert b"event: error\ndata: " + MESSAGES_VOICE.error_body(told, "req_1") + b"\n\n" == ours
    assert b"data: " + CHAT_VOICE.error_body(told, "req_1") + b"\n\n" == openai
    for said in (check(ours).error, check_chat(openai).error):
        assert said is not None
        assert error.message == said["message"]


def test_pings_stand_before_an_answer_and_mean_nothing() -> None:
    told = tell(RequestInvalid("no"))
    said = check(2 * MESSAGES_VOICE.ping + MESSAGES_VOICE.error_event(told, "req_1"))
    assert (2, ()) == (said.pings, said.comments)
    completion = check_chat(2 * CHAT_VOICE.ping + CHAT_VOICE.error_event(told, "req_1"))
    assert 2 == len(completion.comments)
