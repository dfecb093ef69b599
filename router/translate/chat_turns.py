"""The messages of a chat completions request as the Messages API wants them: system apart, turns that alternate.

A tool's result belongs to the user there and comes first in its turn; every call needs one. Same messages, same bytes:
nothing here depends on what came before.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from router.errors import RequestInvalid

Block = dict[str, Any]
SYSTEM_ROLES = frozenset({"system", "developer"})


class _Function(msgspec.Struct, frozen=True, gc=False):
    name: str
    arguments: str = ""


class _Call(msgspec.Struct, frozen=True, gc=False):
    id: str
    function: _Function | None = None
    type: str = "function"


class _ImageUrl(msgspec.Struct, frozen=True, gc=False):
    url: str


class _File(msgspec.Struct, frozen=True, gc=False):
    file_data: str | None = None
    filename: str | None = None


class _Part(msgspec.Struct, frozen=True, gc=False):
    type: str
    text: str = ""
    refusal: str = ""
    image_url: _ImageUrl | None = None
    file: _File | None = None


class ChatTurn(msgspec.Struct, frozen=True, gc=False):
    """One message of the request, read whole. `reasoning_content` is not read: only signed thoughts may be sent."""

    role: str
    content: str | tuple[_Part, ...] | None = None
    tool_calls: tuple[_Call, ...] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    audio: msgspec.Raw = msgspec.Raw(b"null")
    function_call: msgspec.Raw = msgspec.Raw(b"null")


class Turns(msgspec.Struct, frozen=True, gc=False):
    """`system`: joined, empty when there is none. `messages`: as the Messages API has them."""

    system: str
    messages: list[dict[str, Any]]


NO_RESULT = "No result."
_data_url = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.ASCII).match
_legal_id = re.compile(r"[a-zA-Z0-9_-]+").fullmatch
_HEX = "hex_"
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
# Parts that the Messages API has no block for, each with what to do instead.
_REFUSED_PARTS = {
    "input_audio": "the backend of this model takes no audio; send a transcript",
    "input_video": "the backend of this model takes no video; send single images",
}


def turns_of(messages: Sequence[ChatTurn]) -> Turns:
    """Translate.

    Raises:
        RequestInvalid: a part that has no counterpart, arguments that are no object, or nothing that is said.

    """
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if message.role in SYSTEM_ROLES and not turns:
            system += [block["text"] for block in _texts_only(message, path)]
            continue
        role, blocks = _turn(message, path)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    if not turns:
        raise RequestInvalid("Invalid 'messages': there is no message of a user with content.")
    _answer_calls(turns)
    _trim_prefill(turns[-1])
    return Turns("\n\n".join(system), [_compact(turn) for turn in turns])


def _turn(message: ChatTurn, path: str) -> tuple[str, list[Block]]:
    match message.role:
        case "user":
            return "user", _blocks(message, path)
        case "assistant":
            return "assistant", _said(message, path)
        case "tool":
            return "user", [_result(message, path)]
        case "system" | "developer":
            # Among the turns: moved to the top it would change the prompt from its start, and the cache with it.
            return "user", [_text(_reminder(block["text"])) for block in _texts_only(message, path)]
        case "function":
            raise RequestInvalid(f"Invalid value for '{path}.role': 'function' messages are gone; use 'tool'.")
        case role:
            raise RequestInvalid(
                f"Invalid value for '{path}.role': {role[:40]!r}. Supported values are: 'system', 'developer', 'user', "
                "'assistant' and 'tool'."
            )


def _said(message: ChatTurn, path: str) -> list[Block]:
    for name in ("audio", "function_call"):
        if bytes(getattr(message, name)) != b"null":
            raise RequestInvalid(f"Invalid value for '{path}.{name}': the backend of this model does not support it.")
    blocks = _texts_only(message, path)
    if message.refusal:
        blocks.append(_text(message.refusal))
    return blocks + [_use(call, f"{path}.tool_calls[{at}]") for at, call in enumerate(message.tool_calls or ())]


def _use(call: _Call, path: str) -> Block:
    if call.type != "function" or call.function is None:
        raise RequestInvalid(f"Invalid value for '{path}.type': only calls of type 'function' are supported.")
    where = f"{path}.function.arguments"
    arguments = call.function.arguments.strip() or "{}"
    try:
        encoded = arguments.encode()
        msgspec.json.decode(encoded, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise RequestInvalid(f"Invalid value for '{where}': expected a JSON object in a string.") from None
    compact = msgspec.Raw(msgspec.json.format(encoded, indent=-1))
    return {"type": "tool_use", "id": _id(call.id, f"{path}.id"), "name": call.function.name, "input": compact}


def _result(message: ChatTurn, path: str) -> Block:
    if message.tool_call_id is None:
        raise RequestInvalid(f"Missing required parameter: '{path}.tool_call_id'.")
    blocks = _blocks(message, path)
    plain = [block["text"] for block in blocks if block["type"] == "text"]
    content = "".join(plain) if len(plain) == len(blocks) and len(plain) < 2 else blocks
    return _answer(_id(message.tool_call_id, f"{path}.tool_call_id"), content)


def _answer(id_: str, content: str | list[Block]) -> Block:
    return {"type": "tool_result", "tool_use_id": id_, "content": content}


def _id(given: str, path: str) -> str:
    """The Messages API takes letters, digits, `_` and `-`; anything else is sent as its bytes, and no two ids meet."""
    if not given:
        raise RequestInvalid(f"Invalid '{path}': empty string.")
    if _legal_id(given) and not given.startswith(_HEX):
        return given
    return _HEX + given.encode("utf-8", "surrogatepass").hex()


def _texts_only(message: ChatTurn, path: str) -> list[Block]:
    blocks = _blocks(message, path)
    if any(block["type"] != "text" for block in blocks):
        raise RequestInvalid(f"Invalid value for '{path}.content': a message of the {message.role} takes only text.")
    return blocks


def _blocks(message: ChatTurn, path: str) -> list[Block]:
    """The content as blocks; texts of blanks alone are left out, since the hosted API refuses them."""
    content = message.content
    if content is None or isinstance(content, str):
        return [_text(content)] if content and content.strip() else []
    return [block for at, part in enumerate(content) if (block := _block(part, f"{path}.content[{at}]"))]


def _block(part: _Part, path: str) -> Block | None:
    match part.type:
        case "text":
            return _text(part.text) if part.text.strip() else None
        case "refusal":
            return _text(part.refusal) if part.refusal.strip() else None
        case "image_url" if part.image_url is not None:
            return {"type": "image", "source": _image(part.image_url.url, f"{path}.image_url.url")}
        case "file" if part.file is not None:
            return _document(part.file, path)
        case kind:
            why = _REFUSED_PARTS.get(kind, "there is no such part, or it is not complete")
            raise RequestInvalid(f"Invalid value for '{path}.type': {kind[:40]!r}; {why}.")


def _image(url: str, path: str) -> Block:
    found = _data_url(url)
    if found is None:
        if not url.startswith(("http://", "https://")):
            raise RequestInvalid(f"Invalid '{path}': expected an http(s) URL or a data URL with base64.")
        return {"type": "url", "url": url}
    kind = "image/jpeg" if found[1] == "image/jpg" else found[1]
    if kind not in _IMAGES:
        raise RequestInvalid(f"Invalid '{path}': {kind[:40]!r} is none of jpeg, png, gif, webp.")
    return {"type": "base64", "media_type": kind, "data": url[found.end() :]}


def _document(file: _File, path: str) -> Block:
    data = file.file_data or ""
    found = _data_url(data)
    if found is None or found[1] != "application/pdf":
        raise RequestInvalid(f"Invalid '{path}.file': expected 'file_data', a PDF as a data URL with base64.")
    source = {"type": "base64", "media_type": "application/pdf", "data": data[found.end() :]}
    return {"type": "document", "source": source, **({"title": file.filename} if file.filename else {})}


def _answer_calls(turns: list[dict[str, Any]]) -> None:
    """Put the results first in their turns, and make one for each call that has none; not for the last turn's."""
    for number, turn in enumerate(turns):
        if turn["role"] == "user":
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")  # stable: only results move
        elif number + 1 < len(turns):
            following = turns[number + 1]["content"]
            answered = {block.get("tool_use_id") for block in following}
            called = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
            following[:0] = [_answer(id_, NO_RESULT) for id_ in called if id_ not in answered]


def _trim_prefill(last: dict[str, Any]) -> None:
    """The hosted API refuses an answer to go on from that ends in blanks."""
    if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
        last["content"][-1] = _text(last["content"][-1]["text"].rstrip())


def _compact(turn: dict[str, Any]) -> dict[str, Any]:
    """One text alone is written as a string, however the client wrote it."""
    blocks = turn["content"]
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return {"role": turn["role"], "content": blocks[0]["text"]}
    return turn


def _reminder(text: str) -> str:
    if text.startswith("<system-reminder>"):
        return text
    return f"<system-reminder>\n{text}\n</system-reminder>"


def _text(text: str) -> Block:
    return {"type": "text", "text": text}
