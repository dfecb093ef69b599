"""One chunk of a chat completion: read as far as it must be, and put under the client's name for the model."""

import msgspec

from router.wire import openai
from router.wire.reading import check_utf8, read

_ABSENT = msgspec.Raw(b"null")
# An error field that holds one of these is none; some servers send it with every chunk.
_NO_ERROR = frozenset((b"null", b'""', b"{}", b"[]", b"false"))
_KEY = b'"model":'


class NamedCall(openai.ToolCallPart, frozen=True, gc=False):
    """A piece of a call, and its `type`: "function", or OpenAI's "custom"."""

    type: str | None = None


class NamedDelta(openai.Delta, frozen=True, gc=False):
    """What a chunk adds, for a client of the same API."""

    tool_calls: tuple[NamedCall, ...] | None = None


class NamedChoice(openai.ChunkChoice, frozen=True, gc=False):
    """One answer's part of a chunk, for a client of the same API."""

    delta: NamedDelta | None = None


class NamedChunk(openai.Chunk, frozen=True, gc=False, kw_only=True):
    """A chunk, and what has to be the same in all of them: the name of the model, and the time."""

    choices: tuple[NamedChoice, ...] | None = None
    model: str | None = None
    created: int | float | None = None
    error: msgspec.Raw = _ABSENT

    @property
    def failed(self) -> bool:
        """It says that the server gave up."""
        return self.error is not _ABSENT and bytes(self.error) not in _NO_ERROR


class _Spoken(msgspec.Struct, frozen=True, gc=False):
    role: str | None = None


class _SpokenChoice(msgspec.Struct, frozen=True, gc=False):
    delta: _Spoken | None = None


class _SpokenChunk(msgspec.Struct, frozen=True, gc=False):
    choices: tuple[_SpokenChoice, ...]


_chunk = msgspec.json.Decoder(NamedChunk)
_spoken = msgspec.json.Decoder(_SpokenChunk)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ROLE = msgspec.Raw(b'[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]')


def read_chunk(data: bytes) -> NamedChunk:
    """Read a chunk.

    Raises:
        msgspec.DecodeError: it is not JSON from end to end, or not a chunk.

    """
    check_utf8(data)
    return read(_chunk, data)


def is_token(delta: openai.Delta) -> bool:
    """It brings something of the answer, and not the role alone."""
    return bool(
        delta.content
        or delta.reasoning_content
        or delta.reasoning
        or delta.tool_calls
        or delta.refusal
        or delta.function_call
    )


def role_for(first: bytes) -> bytes | None:
    """Make the chunk that has to go before `first`; None: it says the role itself.

    llama-server leaves the role out when its first token is a part of a character (an emoji, say).
    """
    if any(choice.delta and choice.delta.role for choice in read(_spoken, first).choices):
        return None
    fields = read(_object, first)
    same = {name: fields[name] for name in ("id", "object", "created", "model") if name in fields}
    return msgspec.json.encode({**same, "choices": _ROLE})


class Naming:
    """Puts the client's name for the model where the server wrote its own, and one time into all chunks of an answer.

    llama-server writes the time at which it made each chunk; the API promises one, and the first is kept.
    """

    __slots__ = ("_created", "_first", "_ours", "_theirs", "ours", "theirs")

    def __init__(self, ours: str) -> None:
        """`ours`: the name that the client asked for."""
        self.ours = ours
        self.theirs: str | None = None
        self._ours = _named(ours)
        self._theirs = b""
        self._created: int | float | None = None
        self._first = b""

    def __repr__(self) -> str:
        return f"Naming({self.theirs!r} -> {self.ours!r})"

    def exact(self, data: bytes, chunk: NamedChunk, *, without: str = "") -> bytes:
        """Return the chunk's bytes as they go on, `data` itself if nothing changes; `without`: a field to leave out.

        A quote inside a string is escaped, so the bytes `"model":"x"` are a key, or the end of one, and its whole
        value: putting another string there leaves valid JSON, in nested objects too. What is written in another way
        (a space after the colon, no model at all) takes the long path, which sets the chunk's own fields.
        """
        if self._created is None:
            self._created, self._first = chunk.created, _timed(chunk.created)
        if chunk.model is not None:
            if chunk.model != self.theirs:
                self.theirs, self._theirs = chunk.model, _named(chunk.model)
            if not without and 0 < data.count(b'"model"') == data.count(self._theirs):
                out = data if chunk.model == self.ours else data.replace(self._theirs, self._ours)
                if chunk.created == self._created:
                    return out
                said = _timed(chunk.created)
                if out.count(b'"created"') == out.count(said) == 1:
                    return out.replace(said, self._first)
        fields = read(_object, data)
        fields["model"] = msgspec.Raw(self._ours[len(_KEY) :])
        if self._created is not None:
            fields["created"] = msgspec.Raw(msgspec.json.encode(self._created))
        if without:
            fields.pop(without, None)
        out = msgspec.json.encode(fields)
        return out if chunk.model is None else out.replace(self._theirs, self._ours)


def _timed(created: float | None) -> bytes:
    return b'"created":' + msgspec.json.encode(created) + b","


def _named(model: str) -> bytes:
    return _KEY + msgspec.json.encode(model)
