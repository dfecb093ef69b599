"""How a client is spoken to beside its answer: pings against silence, and errors, in the dialect that it called in."""

from typing import Protocol

import msgspec

from router.wire.anthropic import PING_EVENT, error_body, error_event
from router.wire.chat import CONTEXT_EXCEEDED, chat_error_body, chat_error_event, chat_words


class Telling(msgspec.Struct, frozen=True):
    """How an error is told to a client: status, the Messages API's type for it, the sentence; `cause`: its own name."""

    status: int
    type: str
    message: str
    cause: str = ""


class Voice(Protocol):
    """One dialect's way."""

    @property
    def ping(self) -> bytes:
        """What may stand anywhere between two events of a stream and means nothing."""

    def error_body(self, told: Telling, request_id: str) -> bytes:
        """The body of a plain answer that is an error."""

    def error_event(self, told: Telling, request_id: str) -> bytes:
        """The one event that ends a stream which cannot go on."""


class MessagesVoice:
    """The Messages API's."""

    ping = PING_EVENT

    def error_body(self, told: Telling, request_id: str) -> bytes:
        """Type, sentence and request id in an envelope."""
        return error_body(told.type, told.message, request_id)

    def error_event(self, told: Telling, request_id: str) -> bytes:
        """The same envelope, as `event: error`."""
        return error_event(told.type, told.message, request_id)


class ChatVoice:
    """OpenAI's. It knows no ping: a comment does it, which its SDKs skip."""

    ping = b": ping\n\n"

    def error_body(self, told: Telling, request_id: str) -> bytes:
        """Type and code go by the status; the request id travels in a header alone."""
        type_, code = self._words(told)
        return chat_error_body(type_, told.message, code)

    def error_event(self, told: Telling, request_id: str) -> bytes:
        """The same object, as data without a name; no `[DONE]` follows."""
        type_, code = self._words(told)
        return chat_error_event(type_, told.message, code)

    def _words(self, told: Telling) -> tuple[str, str | None]:
        if told.cause == "prompt_too_long":
            return "invalid_request_error", CONTEXT_EXCEEDED
        type_, code = chat_words(told.status)
        return type_, (None if told.status == 404 and told.cause != "model_not_found" else code)


MESSAGES_VOICE = MessagesVoice()
CHAT_VOICE = ChatVoice()
