"""The Messages API as far as the router reads it: what a call is routed on, and the error envelope.

Everything else in a body stays `msgspec.Raw` and travels as the client wrote it. Unknown fields are tolerated, since
clients add some with every release; wrong types in the fields that we do read are refused with the field's name.
"""

import re
from typing import Annotated, Any, Literal

import msgspec

from router.errors import RequestInvalid
from router.wire.reading import read

Role = Literal["user", "assistant", "system"]


class MessageHead(msgspec.Struct, frozen=True, gc=False):
    """One turn: its role, and its content unread."""

    role: Role
    content: msgspec.Raw


class MetadataHead(msgspec.Struct, frozen=True, gc=False):
    """`metadata.user_id` names a person or a session; it is never logged and never forwarded to a log."""

    user_id: str | None = None


class MessagesHead(msgspec.Struct, frozen=True, gc=False):
    """A /v1/messages body, read as far as routing needs. `max_tokens` None: the client sent none."""

    model: str
    messages: tuple[MessageHead, ...]
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    stream: bool | None = False
    system: msgspec.Raw = msgspec.Raw(b"null")
    metadata: MetadataHead | None = None


_decoder = msgspec.json.Decoder(MessagesHead)
_STRING, _ARRAY, _OBJECT = b'"', b"[", b"{"


def decode_messages(body: bytes) -> MessagesHead:
    """Read a request body.

    Raises:
        RequestInvalid: with a message that names the field as the hosted API does (`messages.0.role: ...`).

    """
    if not body:
        raise RequestInvalid("the request has no body; send a JSON object with model, max_tokens and messages")
    _check_utf8(body)
    try:
        head = read(_decoder, body)
    except msgspec.ValidationError as error:
        raise RequestInvalid(explain(error)) from None
    except msgspec.DecodeError as error:
        raise RequestInvalid(f"the body is not valid JSON: {_where(error)}") from None
    if not head.model:
        raise RequestInvalid("model: must not be empty; name a model, GET /v1/models lists them")
    if not head.messages:
        raise RequestInvalid("messages: at least one message is required")
    for index, message in enumerate(head.messages):
        first = bytes(memoryview(message.content)[:1])
        if first not in (_STRING, _ARRAY):
            raise RequestInvalid(
                f"messages.{index}.content: must be a string or an array of content blocks, not {_kind(first)}"
            )
    first = bytes(memoryview(head.system)[:1])
    if first not in (_STRING, _ARRAY, b"n"):
        raise RequestInvalid(f"system: must be a string or an array of text blocks, not {_kind(first)}")
    return head


def _check_utf8(body: bytes) -> None:
    """JSON is UTF-8 (RFC 8259, 8.1); the decoder does not look inside the strings that it skips."""
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise RequestInvalid(f"the body is not valid UTF-8 at byte {error.start}; encode the JSON as UTF-8") from None


MAX_REASON_CHARS = 300
_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `\$(.*)`)?")
_WRONG = re.compile(r"(.*?)(?: - at `\$(.*)`)?$")
_FIXES = {
    "model": "name a model, GET /v1/models lists them",
    "messages": "send at least one message",
    "max_tokens": "say how many tokens the answer may have, for example 1024",
    "role": 'one of "user", "assistant", "system"',
    "content": "a string, or an array of content blocks",
    "stream": "true or false",
}


def explain(error: msgspec.ValidationError) -> str:
    """Turn msgspec's words into the hosted API's: dotted path, reason, and what to write."""
    text = str(error)
    if len(text) > MAX_REASON_CHARS:  # a wrong value is repeated in it
        text = text[: MAX_REASON_CHARS // 2] + "..." + text[-MAX_REASON_CHARS // 2 :]
    if missing := _MISSING.match(text):
        field, parent = missing.groups()
        return f"{_dotted(parent, field)}: field required; {_FIXES.get(field, 'add it')}"
    wrong = _WRONG.match(text)
    reason, path = wrong.groups() if wrong else (text, None)
    dotted = _dotted(path)
    reason = reason[:1].lower() + reason[1:].replace("`", "")
    if not dotted:
        return f"the body must be a JSON object: {reason}"
    fix = _FIXES.get(dotted.rsplit(".", 1)[-1])
    return f"{dotted}: {reason}" + (f"; {fix}" if fix else "")


def _dotted(path: str | None, field: str = "") -> str:
    """`.messages[3]` and `role` become `messages.3.role`."""
    dotted = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path or "").strip(".")
    return f"{dotted}.{field}".strip(".") if field else dotted


def _where(error: msgspec.DecodeError) -> str:
    return str(error).removeprefix("JSON is malformed: ").strip() or "it ends too early"


def _kind(first: bytes) -> str:
    kinds = {
        _STRING: "a string",
        _ARRAY: "an array",
        _OBJECT: "an object",
        b"n": "null",
        b"t": "true",
        b"f": "false",
    }
    return kinds.get(first, "a number")


# ---------------------------------------------------------------- what is sent


def error_body(type_: str, message: str, request_id: str) -> bytes:
    """The error envelope of the Messages API, for a plain answer and for the data of an `error` event."""
    envelope: dict[str, Any] = {
        "type": "error",
        "error": {"type": type_, "message": message},
        "request_id": request_id,
    }
    return msgspec.json.encode(envelope)


def error_event(type_: str, message: str, request_id: str) -> bytes:
    """The one event that ends a stream which cannot go on."""
    return b"event: error\ndata: " + error_body(type_, message, request_id) + b"\n\n"


PING_EVENT = b'event: ping\ndata: {"type": "ping"}\n\n'
