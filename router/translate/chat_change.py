"""What becomes of one choice of a chunk, and its writing; what nobody changes stays as the server wrote it."""

from typing import Any, Literal

import msgspec

from router.translate.chat_chunk import NamedCall, NamedChoice, NamedChunk
from router.wire.reading import read

_Raws = dict[str, msgspec.Raw]
_object = msgspec.json.Decoder(_Raws)
_objects = msgspec.json.Decoder(list[_Raws])


class _Object(msgspec.Struct, frozen=True, gc=False):
    """Any."""


class _ExactChoice(msgspec.Struct, frozen=True, gc=False):
    index: int
    delta: _Object
    finish_reason: str | None


class _ExactChunk(msgspec.Struct, frozen=True, gc=False):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    choices: tuple[_ExactChoice, ...]


_exact = msgspec.json.Decoder(_ExactChunk)


class Change(msgspec.Struct):
    """What becomes of a choice.

    `finish`: what it says of its end. `parts`: of its calls, one for each that came, None for one that goes; None: all
    as they came. `more`: calls beside them. `mute`: its text is no text.
    """

    finish: str | None
    parts: list[dict[str, Any] | None] | None = None
    more: list[dict[str, Any]] = msgspec.field(default_factory=list)
    mute: bool = False

    def of(self, choice: NamedChoice) -> bool:
        """Whether anything changes."""
        return self.mute or self.parts is not None or bool(self.more) or self.finish != choice.finish_reason


def rewritten(data: bytes, chunk: NamedChunk, changes: list[Change], *, completion_id: str, created_s: int) -> bytes:
    """Write the chunk anew, with an id and a time if it has none; empty: nothing is left in it."""
    choices = chunk.choices or ()
    fields = read(_object, data)
    raws = read(_objects, fields["choices"]) if choices else []
    told = [_written(*it) for it in zip(raws, choices, changes, strict=True)]
    if choices and chunk.usage is None and not any(told):
        return b""
    fields["id"] = _or(fields.get("id"), completion_id)
    fields["object"] = _raw("chat.completion.chunk")
    if type(chunk.created) is not int:
        fields["created"] = _raw(int(chunk.created or created_s))
    fields["choices"] = _raw([raw for raw in told if raw])
    return msgspec.json.encode(fields)


def _written(raw: _Raws, choice: NamedChoice, change: Change) -> _Raws:
    """The choice as the client gets it; empty where a text was taken out of it, and nothing else is in it."""
    delta = read(_object, raw["delta"]) if choice.delta is not None else {}
    if change.mute:
        delta.pop("content")
    if change.parts is not None or change.more:
        came = read(_objects, delta["tool_calls"]) if choice.delta is not None and choice.delta.tool_calls else []
        parts: list[dict[str, Any]] = [*came]
        if change.parts is not None:
            parts = [_call(raw, part) for raw, part in zip(came, change.parts, strict=True) if part is not None]
        delta["tool_calls"] = _raw([*parts, *change.more])
        if not parts and not change.more:
            del delta["tool_calls"]
    if change.mute and not delta and change.finish is None:
        return {}
    return {
        **raw,
        "index": _raw(choice.index),
        "delta": _raw(delta),
        "finish_reason": _raw(change.finish),
    }


def _call(came: _Raws, part: dict[str, Any]) -> dict[str, Any]:
    """A piece of a call with what it has to have; what a server adds of its own stays."""
    function = {name: value for name, value in read(_object, came["function"]).items() if name != "name"}
    rest = {name: value for name, value in came.items() if name not in {"id", "type"}}
    return {**rest, **part, "function": {**function, **part["function"]}}


def is_part(piece: NamedCall, part: dict[str, Any] | None) -> bool:
    """Say whether a piece of a call came as it has to be."""
    if part is None or piece.function is None or piece.index != part["index"]:
        return False
    came = piece.function.arguments
    if ("" if came is None else came) != part["function"]["arguments"]:
        return False
    if "id" in part:
        return piece.id == part["id"] and bool(piece.function.name) and piece.type == "function"
    return not piece.id and not piece.function.name


def fits(data: bytes) -> bool:
    """Say whether a chunk has all the fields that clients look for; of its calls nothing is known."""
    try:
        return bool(read(_exact, data).id)
    except msgspec.ValidationError:
        return False


def _or(given: msgspec.Raw | None, ours: str) -> msgspec.Raw:
    return given if given is not None and bytes(given) not in {b"null", b'""'} else _raw(ours)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
