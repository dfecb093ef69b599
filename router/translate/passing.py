"""Answers of routes that are only passed on: completions, responses, embeddings and their kin.

They go through as they came, but for the name of the model, and a stream that was cut is not taken for a whole one.
What ends one differs: `[DONE]` (completions), `response.completed` and its kin (responses), `"stop":true` (llama.cpp's
own completion and infill).
"""

import msgspec

from router.errors import RouterError
from router.translate.answer import Usage
from router.translate.faults import read_fault, to_error
from router.wire.reading import read
from router.wire.sse import EventSplitter, event_data, event_name

_LAST_EVENTS = frozenset((b"response.completed", b"response.incomplete", b"response.failed"))


class _Counted(msgspec.Struct, frozen=True, gc=False):
    """The names of both kinds of routes; None: not said."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Inner(msgspec.Struct, frozen=True, gc=False):
    model: str | None = None
    usage: _Counted | None = None


class _Said(msgspec.Struct, frozen=True, gc=False):
    """What is read of a chunk or a whole answer; `response` is where the responses route keeps it."""

    model: str | None = None
    usage: _Counted | None = None
    stop: bool | None = None
    response: _Inner | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_said = msgspec.json.Decoder(_Said)
_any = msgspec.json.Decoder()


class PassStream:
    """One streamed answer; see `AnswerStream`. The first event commits it: nobody knows what it means."""

    __slots__ = ("_instance_id", "_model", "_splitter", "committed", "ended", "error", "events", "stop_reason", "usage")

    def __init__(self, *, model: str, instance_id: str) -> None:
        """`model`: the name that the client asked for; empty: it named none, and reads the instance's."""
        self._model = model
        self._instance_id = instance_id
        self._splitter = EventSplitter()
        self.committed = False
        self.ended = False
        self.error: RouterError | None = None
        self.events = 0
        self.usage = Usage()
        self.stop_reason = ""

    def through(self, frame: bytes, start: int) -> bytes | None:
        """Nothing goes the short way: the model's name stands in nearly every event."""
        return None

    def feed(self, data: bytes) -> bytes:
        """See `AnswerStream`."""
        return b"".join([self._event(event) for event in self._splitter.feed(data)])

    def finish(self) -> bytes:
        """Whole only if the last event said so."""
        return b""

    def _event(self, event: bytes) -> bytes:
        if self.ended or self.error:
            return b""
        name, data = event_name(event), event_data(event)
        if not data:
            return b""  # a comment against silence: the router sends its own
        if data.strip() == b"[DONE]":
            self.ended = self.committed
            return event if self.committed else b""
        said = read(_said, data)
        if name == b"error" or bytes(said.error) not in {b"null", b""}:
            self.error = to_error(200, read_fault(data), instance_id=self._instance_id)
            return b""
        self.committed = True
        self.events += 1
        self.usage = _usage(said) or self.usage
        self.ended = name in _LAST_EVENTS or said.stop is True
        return _renamed(event, said, self._model)


def passed(body: bytes, *, model: str) -> tuple[bytes, Usage, str]:
    """Put the client's name for the model into a plain answer; an empty one leaves the instance's.

    Raises:
        msgspec.DecodeError: it is not JSON. A list (some servers rank and embed so) is JSON.

    """
    if not body.lstrip().startswith(b"{"):
        read(_any, body)
        return body, Usage(), ""
    said = read(_said, body)
    return _renamed(body, said, model), _usage(said) or Usage(), ""


def _usage(said: _Said) -> Usage | None:
    counted = said.usage or (said.response.usage if said.response else None)
    if counted is None:
        return None
    prompt = counted.prompt_tokens if counted.prompt_tokens is not None else counted.input_tokens
    output = counted.completion_tokens if counted.completion_tokens is not None else counted.output_tokens
    return Usage(input_tokens=prompt, output_tokens=output)


def _renamed(data: bytes, said: _Said, model: str) -> bytes:
    """A quote inside a string is escaped, so these bytes are a key and its whole value, wherever they stand."""
    ours = msgspec.json.encode(model)
    if not model:
        return data
    for theirs in {said.model, said.response.model if said.response else None} - {None, model}:
        old = msgspec.json.encode(theirs)
        for colon in (b'"model":', b'"model": '):
            data = data.replace(colon + old, colon + ours)
    return data
