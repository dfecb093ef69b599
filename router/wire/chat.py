"""/v1/chat/completions as far as the router reads it: what a call is routed on, and OpenAI's error object.

As in `wire.anthropic` everything else stays raw, and what is unknown is tolerated. Refusals speak as the OpenAI API
does: `Missing required parameter: 'messages[0].role'.`
"""

import re
from typing import TypeVar

import msgspec

from router.errors import RequestInvalid
from router.wire.reading import bad_utf8_at, read

T = TypeVar("T")


class ChatMessage(msgspec.Struct, frozen=True, gc=False):
    """One message: its role, and its content unread. Empty bytes: it has none, as beside tool calls."""

    role: str
    content: msgspec.Raw = msgspec.Raw(b"")


class StreamOptions(msgspec.Struct, frozen=True, gc=False):
    """How a stream is wanted."""

    include_usage: bool | None = None


class ChatHead(msgspec.Struct, frozen=True, gc=False):
    """A chat completions body, read as far as routing needs.

    `n_predict` is llama-server's older name for `max_tokens`. `prompt_cache_key` and `user` name a conversation and a
    person; they serve affinity and are never logged.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n_predict: int | None = None
    prompt_cache_key: str | None = None
    user: str | None = None
    tools: msgspec.Raw = msgspec.Raw(b"")

    @property
    def usage_asked(self) -> bool:
        """The client wants to be told at the end of its stream what it used."""
        return bool(self.stream and self.stream_options and self.stream_options.include_usage)

    @property
    def answer_tokens(self) -> int | None:
        """How many tokens the answer may have; None: the client does not say."""
        named = (self.max_completion_tokens, self.max_tokens, self.n_predict)
        return next((limit for limit in named if limit is not None), None)


_decoder = msgspec.json.Decoder(ChatHead)


def decode_chat(body: bytes) -> ChatHead:
    """Read a request body.

    Raises:
        RequestInvalid: it is not JSON, a field that routing reads is missing or of another type, or nothing is asked.

    """
    if not body:
        raise RequestInvalid("The request has no body; send a JSON object with 'model' and 'messages'.")
    at = bad_utf8_at(body)
    if at is not None:
        raise RequestInvalid(f"The body is not valid UTF-8 at byte {at}; encode the JSON as UTF-8.")
    head = read_part(_decoder, body)
    if not head.model:
        raise RequestInvalid("Invalid 'model': empty string. Name a model; GET /v1/models lists them.")
    if not head.messages:
        raise RequestInvalid("Invalid 'messages': empty array. Expected at least one message.")
    for index, message in enumerate(head.messages):
        if bytes(memoryview(message.content)[:1]) not in {b"", b'"', b"[", b"n"}:
            raise RequestInvalid(
                f"Invalid type for 'messages[{index}].content': expected a string or an array of content parts."
            )
    for name, limit in (("max_completion_tokens", head.max_completion_tokens), ("max_tokens", head.max_tokens)):
        if limit is not None and limit < 0:
            raise RequestInvalid(f"Invalid '{name}': expected 0 or more tokens, but got {limit}.")
    return head


def read_part(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw, *, path: str = "") -> T:
    """Decode the part of a request that lies at `path`, such as `messages[3]`; empty: the whole body.

    Raises:
        RequestInvalid: in the OpenAI API's words, with the whole path of the field.

    """
    try:
        return read(decoder, data)
    except msgspec.ValidationError as error:
        raise RequestInvalid(_explain(str(error), path)) from None
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        raise RequestInvalid(f"We could not parse the JSON body of your request: {reason}.") from None


MAX_REASON_CHARS = 300
_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `\$(.*)`)?", re.DOTALL)
_WRONG = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)


def _explain(text: str, path: str) -> str:
    """Turn msgspec's words into OpenAI's: the path in brackets and dots, then what was expected."""
    if len(text) > MAX_REASON_CHARS:  # a wrong value is repeated in it
        text = text[: MAX_REASON_CHARS // 2] + "..." + text[-MAX_REASON_CHARS // 2 :]
    if missing := _MISSING.fullmatch(text):
        field, parent = missing.groups()
        whole = f"{path}{parent or ''}.{field}".strip(".")
        return f"Missing required parameter: '{whole}'."
    wrong = _WRONG.fullmatch(text)
    reason, below = wrong.groups() if wrong else (text, None)
    whole = f"{path}{below or ''}".strip(".")
    reason = reason[:1].lower() + reason[1:].replace("`", "")
    if not whole:
        return f"The body must be a JSON object: {reason}."
    kind = "Invalid type for" if reason.startswith("expected") else "Invalid value for"
    return f"{kind} '{whole}': {reason}."


# ---------------------------------------------------------------- what is sent

DONE_EVENT = b"data: [DONE]\n\n"

# Status -> OpenAI's type and code. What the SDK retries it knows by the status: 408, 409, 429 and all from 500 on.
_WORDS: dict[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "permission_denied"),
    404: ("invalid_request_error", "model_not_found"),
    408: ("invalid_request_error", "request_timeout"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "overloaded"),
    504: ("server_error", "timeout"),
    529: ("server_error", "overloaded"),
}
CONTEXT_EXCEEDED = "context_length_exceeded"
"""The code, with type `invalid_request_error`, of a prompt that is longer than the model's context."""


def chat_words(status: int) -> tuple[str, str | None]:
    """Say by which type and code a client of the OpenAI API knows this status."""
    return _WORDS.get(status, ("invalid_request_error" if status < 500 else "server_error", None))


def chat_error_body(type_: str, message: str, code: str | None = None, param: str | None = None) -> bytes:
    """The error object of the OpenAI API, for a plain answer and for the data of the event that ends a stream."""
    return msgspec.json.encode({"error": {"message": message, "type": type_, "param": param, "code": code}})


def chat_error_event(type_: str, message: str, code: str | None = None, param: str | None = None) -> bytes:
    """The one event that ends a stream which cannot go on; no `[DONE]` follows it."""
    return b"data: " + chat_error_body(type_, message, code, param) + b"\n\n"
