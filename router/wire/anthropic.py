"""The Messages API as far as the router reads it: what a call is routed on, and the error envelope.

Everything else in a body stays `msgspec.Raw` and travels as the client wrote it. Unknown fields are tolerated, since
clients add some with every release; wrong types in the fields that we do read are refused with the field's name.
"""

import re
from typing import Annotated, Any, Literal

import msgspec

from router.errors import RequestInvalid
from router.wire.reading import bad_utf8_at, read

Role = Literal["user", "assistant", "system"]


NOTHING = msgspec.Raw(b"")


class BlockHead(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One content block of any type: the fields that any of them has, unread; empty where the client sent none.

    One pass over the body finds them all, and most of a body is then only copied. What is not here means nothing to a
    local model (`cache_control`, `citations`, `caller`).
    """

    type: str
    text: msgspec.Raw = NOTHING
    content: msgspec.Raw = NOTHING
    tool_use_id: msgspec.Raw = NOTHING
    is_error: msgspec.Raw = NOTHING
    id: msgspec.Raw = NOTHING
    name: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
    source: msgspec.Raw = NOTHING
    title: msgspec.Raw = NOTHING
    context: msgspec.Raw = NOTHING
    thinking: msgspec.Raw = NOTHING
    signature: msgspec.Raw = NOTHING
    tool_name: msgspec.Raw = NOTHING


class MessageHead(msgspec.Struct, frozen=True, gc=False):
    """One turn: its role, and its content as a text or as blocks unread."""

    role: Role
    content: str | tuple[BlockHead, ...]


class MetadataHead(msgspec.Struct, frozen=True, gc=False):
    """`metadata.user_id` names a person or a session; it is never logged and never forwarded to a log."""

    user_id: str | None = None


class MessagesHead(msgspec.Struct, frozen=True, gc=False):
    """A /v1/messages body, read as far as routing needs. `max_tokens` None: the client sent none.

    The fields that are `Raw` are read by `wire.canonical`; empty bytes: the client did not send it.
    """

    model: str
    messages: tuple[MessageHead, ...]
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    stream: bool | None = False
    system: msgspec.Raw = msgspec.Raw(b"null")
    metadata: MetadataHead | None = None
    tools: msgspec.Raw = msgspec.Raw(b"")
    tool_choice: msgspec.Raw = msgspec.Raw(b"")
    thinking: msgspec.Raw = msgspec.Raw(b"")
    output_config: msgspec.Raw = msgspec.Raw(b"")
    stop_sequences: msgspec.Raw = msgspec.Raw(b"")
    temperature: msgspec.Raw = msgspec.Raw(b"")
    top_p: msgspec.Raw = msgspec.Raw(b"")
    top_k: msgspec.Raw = msgspec.Raw(b"")
    chat_template_kwargs: msgspec.Raw = msgspec.Raw(b"")
    mcp_servers: msgspec.Raw = msgspec.Raw(b"")
    container: msgspec.Raw = msgspec.Raw(b"")


_decoder = msgspec.json.Decoder(MessagesHead)
_STRING, _ARRAY, _OBJECT = b'"', b"[", b"{"


def decode_messages(body: bytes, decoder: msgspec.json.Decoder[Any] = _decoder) -> MessagesHead:
    """Read a request body; `decoder` may be of a kind of MessagesHead that is stricter, or has more fields.

    Raises:
        RequestInvalid: with a message that names the field as the hosted API does (`messages.0.role: ...`).

    """
    if not body:
        raise RequestInvalid("the request has no body; send a JSON object with model, max_tokens and messages")
    at = bad_utf8_at(body)
    if at is not None:
        raise RequestInvalid(f"the body is not valid UTF-8 at byte {at}; encode the JSON as UTF-8")
    try:
        head: MessagesHead = read(decoder, body)
    except msgspec.ValidationError as error:
        raise RequestInvalid(explain(error)) from None
    except msgspec.DecodeError as error:
        raise RequestInvalid(f"the body is not valid JSON: {_where(error)}") from None
    if not head.model:
        raise RequestInvalid("model: must not be empty; name a model, GET /v1/models lists them")
    if not head.messages:
        raise RequestInvalid("messages: at least one message is required")
    first = bytes(memoryview(head.system)[:1])
    if first not in (_STRING, _ARRAY, b"n"):
        raise RequestInvalid(f"system: must be a string or an array of text blocks, not {_kind(first)}")
    return head


MAX_REASON_CHARS = 300
_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `\$(.*)`)?")
_WRONG = re.compile(r"(.*?)(?: - at `\$(.*)`)?$")
_EXPECTED = re.compile(r"Expected `([^`]*)`(?: (>=|<=) (\S+))?(?:, got `([^`]*)`)?$")
_NOT_OF_THEM = "Invalid enum value "
_BOUNDS = {">=": "or more", "<=": "or less"}
# msgspec names the types of Python; a client writes JSON.
_TYPES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
}
_GIVEN = {"bool": "a boolean", "float": "a number with a fraction"}
_FIXES = {
    "model": "name a model, GET /v1/models lists them",
    "messages": "send at least one message",
    "max_tokens": "say how many tokens the answer may have, for example 1024",
    "role": 'one of "user", "assistant", "system"',
    "content": "a string, or an array of content blocks",
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
    reason = _reason(reason)
    if not dotted:
        return f"the body {reason.replace('an object', 'a JSON object')}"
    field = dotted.rsplit(".", 1)[-1]
    if field == "content":  # its type is its fix
        return f"{dotted}: {reason.replace('an array', 'an array of content blocks', 1)}"
    fix = _FIXES.get(field)
    return f"{dotted}: {reason}" + (f"; {fix}" if fix else "")


def _reason(text: str) -> str:
    """What msgspec says of a value, in the words of JSON: `must be an integer, not a string`."""
    expected = _EXPECTED.match(text)
    if text.startswith(_NOT_OF_THEM):
        return f"must not be {text.removeprefix(_NOT_OF_THEM)}"
    if expected is None:
        return text[:1].lower() + text[1:].replace("`", "")
    kinds, bound, limit, given = expected.groups()
    # That null will do as well is of no use to somebody who sent something else.
    wanted = " or ".join([_TYPES.get(kind, kind) for kind in kinds.split(" | ") if kind != "null"])
    within = f" of {limit} {_BOUNDS[bound]}" if bound else ""
    return f"must be {wanted}{within}" + (f", not {_GIVEN.get(given, _TYPES.get(given, given))}" if given else "")


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
