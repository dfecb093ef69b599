"""Requests that have no normal form, as chains: chat completions, and prompts that no template prints.

They go to an instance as the client wrote them, so what the client repeats word for word is what is warm.
"""

from collections.abc import Iterator

import msgspec

from router.balance.chain import PIECE_BYTES, Chain, chain
from router.balance.units import ASSISTANT, RESULT, SEAM, SYSTEM, TOOL, USER, levers_of, picture, seed
from router.wire.reading import read

_NOTHING = msgspec.Raw(b"")
_EMPTY = (b"", b"null", b"[]")
_SPEAKERS = {"system": SYSTEM, "developer": b"d", "user": USER, "assistant": ASSISTANT, "tool": RESULT}
_FIRST = frozenset(("system", "developer"))
_QUOTE, _LIST = b'"', b"["


class ChatSaid(msgspec.Struct, frozen=True, gc=False):
    """What a template prints of one message."""

    role: str
    content: msgspec.Raw = _NOTHING
    reasoning_content: msgspec.Raw = _NOTHING
    tool_calls: msgspec.Raw = _NOTHING


class ChatPrompt(msgspec.Struct, frozen=True, gc=False):
    """What a template is given of a chat completions body."""

    messages: tuple[ChatSaid, ...]
    tools: msgspec.Raw = _NOTHING
    reasoning_effort: msgspec.Raw = _NOTHING
    chat_template_kwargs: msgspec.Raw = _NOTHING


class _Completion(msgspec.Struct, frozen=True, gc=False):
    prompt: msgspec.Raw = _NOTHING


_prompt = msgspec.json.Decoder(ChatPrompt)
_completion = msgspec.json.Decoder(_Completion)
_parts = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def chat_chain(pool: str, body: bytes) -> Chain | None:
    """Return the chain of a chat completions body; None: it has no prompt that can be read."""
    try:
        prompt = read(_prompt, body)
    except msgspec.DecodeError:
        return None
    if not prompt.messages:
        return None
    tools = _filled(prompt.tools)
    effort = _filled(prompt.reasoning_effort).strip(_QUOTE)
    levers = levers_of(effort=effort, kwargs=_filled(prompt.chat_template_kwargs))
    return chain(seed(pool, tools=bool(tools), levers=levers), chat_units(prompt))


def completion_chain(pool: str, body: bytes) -> Chain | None:
    """Return the chain of the text or the tokens under `prompt`; None: there is no such thing, or there are several."""
    try:
        prompt = bytes(read(_completion, body).prompt)
    except msgspec.DecodeError:
        return None
    if prompt[:1] == _LIST and not any(mark in prompt[1:] for mark in (_LIST, b"{", _QUOTE)):
        kind = b"tokens"
    elif prompt[:1] == _QUOTE:
        kind = b"text"
    else:
        return None
    text = prompt[1:-1]
    # Pieces from the start: what has grown still begins with those that it had.
    pieces = [text[start : start + PIECE_BYTES] for start in range(0, len(text), PIECE_BYTES)]
    return chain(seed(pool, tools=False, levers=kind), pieces) if pieces else None


def chat_units(prompt: ChatPrompt) -> Iterator[bytes]:
    """Give the units of a request, in template order: what the system says at the start, tools, messages."""
    tools = _filled(prompt.tools)
    for message in prompt.messages:
        if tools and message.role not in _FIRST:
            yield TOOL + tools
            tools = b""
        yield _unit(message)
    if tools:
        yield TOOL + tools


def _unit(message: ChatSaid) -> bytes:
    speaker = _SPEAKERS.get(message.role) or b"?%b\0" % message.role.encode()
    content = _filled(message.content)
    if content[:1] == _LIST:
        content = _joined(content)
    thoughts, calls = _filled(message.reasoning_content), _filled(message.tool_calls)
    if not thoughts and not calls:
        return speaker + content
    return SEAM.join((speaker + content, thoughts, calls))


def _joined(content: bytes) -> bytes:
    """Content that is an array of parts. One text is then as if it had been a string: clients write now so, now so."""
    try:
        parts = read(_parts, content)
    except msgspec.DecodeError:
        return content
    return b"".join([bytes(part["text"]) if "text" in part else _other(part) for part in parts])


def _other(part: dict[str, msgspec.Raw]) -> bytes:
    """An image, a sound, a file: by what it is, and whatever marks the client puts beside it."""
    kind = bytes(part.get("type", _NOTHING))
    return picture(bytes(part.get(kind[1:-1].decode(errors="replace"), kind)))


def _filled(raw: msgspec.Raw) -> bytes:
    data = bytes(raw)
    return b"" if data in _EMPTY else data
