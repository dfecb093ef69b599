"""What clients' libraries look for in a chunk, put there where a server leaves it out or writes it otherwise.

| a server sends                                     | the client gets                                                |
|----------------------------------------------------|----------------------------------------------------------------|
| no `id`, `object`, `created`, `index` or `delta`   | ours                                                           |
| no `finish_reason`, or an empty one                | null                                                           |
| a `finish_reason` that is not OpenAI's             | the nearest (`stops.finish_word`)                              |
| a call without `type` or `id`                      | `function`, an id of ours                                      |
| an index that is missing or another call's         | calls counted from 0                                           |
| an id or a name for the second time                | none: clients join what comes in pieces                        |
| arguments that are an object, and no string        | its text                                                       |
| a call without arguments that is over              | `{}`: clients parse them                                       |
| arguments that are no JSON                         | the same: the API has its clients look, and the answer to a    |
|                                                    | call that was begun lacks its beginning                        |

A text that is to be a call (`chat_forced`) is made one. What fits already goes on byte for byte.
"""

from typing import Any

import msgspec

from router.translate.calls import Call, Calls
from router.translate.chat_change import Change, fits, is_part, rewritten
from router.translate.chat_chunk import NamedCall, NamedChoice, NamedChunk, NamedDelta
from router.translate.chat_forced import ForcedChat
from router.translate.forced import ANY
from router.translate.stops import GAVE_UP, finish_word
from router.wire.openai import Delta

CUT = frozenset({"length", "content_filter"})
"""The finish reasons of answers that may end inside the arguments of a call."""
_NO_DELTA = NamedDelta()


class _Said:
    """What one choice has said so far: its calls, each with its place, and the text that is to be one of several.

    `open`: the last call, if its server counts as we do; `pieces`: what came for it and is not looked at yet.
    """

    __slots__ = ("called", "calls", "ids", "open", "over", "pieces", "places", "text")

    def __init__(self) -> None:
        self.called = False  # in whatever way
        self.calls = Calls("")
        self.ids: set[str] = set()
        self.places: dict[Call, int] = {}
        self.text: list[str] = []
        self.over = False
        self.open: Call | None = None
        self.pieces: list[str] = []

    def settle(self) -> None:
        """Look at the pieces."""
        if self.open is not None:
            self.open.arguments.add("".join(self.pieces))
            self.open = None
        self.pieces.clear()


class Mender:
    """Mends one streamed answer, chunk by chunk. `broken`: why the answer is none; empty: it is one so far."""

    __slots__ = ("_completion_id", "_created_s", "_forced", "_said", "broken")

    def __init__(self, completion_id: str, created_s: int, forced: ForcedChat | None = None) -> None:
        """`completion_id`, `created_s`: for a server that says none. `forced`: the call that the text is to be."""
        self._completion_id, self._created_s, self._forced = completion_id, created_s, forced
        self._said: dict[int, _Said] = {}
        self.broken = ""

    def __repr__(self) -> str:
        return f"Mender({self._completion_id!r}, {len(self._said)} choices)"

    def mend(self, data: bytes, chunk: NamedChunk) -> bytes:
        """Return the chunk as it must be, `data` itself where it is so already; empty: it has nothing more to say."""
        choices = chunk.choices or ()
        whole = fits(data)
        if whole and len(choices) == 1 and self._is_common(choices[0]):
            return data
        changes = [self._change(choice) for choice in choices]
        changed = any(change.of(choice) for change, choice in zip(changes, choices, strict=True))
        if whole and not changed:
            return data
        return rewritten(data, chunk, changes, completion_id=self._completion_id, created_s=self._created_s)

    def _is_common(self, choice: NamedChoice) -> bool:
        """Text that is text, or one more piece of the call that is open. To look at it can wait."""
        delta = choice.delta
        if self._forced is not None or choice.finish_reason is not None or delta is None:
            return False
        if delta.tool_calls is None:
            return True
        said = self._said.get(choice.index)
        if said is None or said.open is None or said.over or len(delta.tool_calls) != 1:
            return False
        (piece,) = delta.tool_calls
        function = piece.function
        if piece.id or function is None or function.name or type(function.arguments) is not str:
            return False
        if piece.index != said.places[said.open]:
            return False
        said.pieces.append(function.arguments)
        return True

    # ---------------------------------------------------------------- one choice

    def _change(self, choice: NamedChoice) -> Change:
        said = self._said.get(choice.index)
        if said is None:
            said = self._said[choice.index] = _Said()
        delta, finish = choice.delta or _NO_DELTA, choice.finish_reason or None
        change = Change(finish)
        if said.over:
            return change
        said.settle()
        if self._forced is not None and delta.content:
            change.mute = True
            said.text.append(delta.content)
            if self._forced.name != ANY:
                self._add(said, choice.index, change, self._forced.name, delta.content)
        elif delta.tool_calls is not None:
            self._place(said, choice.index, change, delta.tool_calls)
        if finish and finish not in GAVE_UP:
            said.over = True
            self._end(said, choice, change, finish)
        return change

    def _place(self, said: _Said, index: int, change: Change, pieces: tuple[NamedCall, ...]) -> None:
        """Say whose piece each is; see `calls`. What is no function call is not looked at."""
        said.called = said.called or bool(pieces)
        if any(piece.function is None for piece in pieces):
            return
        parts = [self._part(said, index, position, piece) for position, piece in enumerate(pieces)]
        if len(pieces) == 1 and parts[0] is not None and pieces[0].index == parts[0]["index"]:
            said.open = next(call for call, place in said.places.items() if place == parts[0]["index"])
        if not parts or any(not is_part(piece, part) for piece, part in zip(pieces, parts, strict=True)):
            change.parts = parts

    def _part(self, said: _Said, index: int, position: int, piece: NamedCall) -> dict[str, Any] | None:
        if piece.index is None:
            piece = msgspec.structs.replace(piece, index=position)
        for call, added in said.calls.pieces(Delta(tool_calls=(piece,))):
            return self._told(said, index, call, added)
        return None

    def _told(self, said: _Said, index: int, call: Call, added: str) -> dict[str, Any]:
        call.arguments.add(added)
        place = said.places.get(call)
        if place is not None:
            return {"index": place, "function": {"arguments": added}}
        place = said.places[call] = len(said.places)
        ours = call_id(self._completion_id, index, place)
        given = ours if call.id in said.ids else call.id or ours
        said.ids.add(given)
        said.called = True
        function = {"name": call.name, "arguments": added}
        return {"index": place, "id": given, "type": "function", "function": function}

    def _add(self, said: _Said, index: int, change: Change, name: str, arguments: str) -> None:
        """A piece of the call that the text is."""
        call = next(iter(said.places), None)
        if call is None:
            call = Call("")
            call.name = name
        change.more.append(self._told(said, index, call, arguments))

    def _end(self, said: _Said, choice: NamedChoice, change: Change, finish: str) -> None:
        if self._forced is not None and self._forced.name == ANY and said.text:
            called = self._forced.call("".join(said.text))
            if called is not None:
                self._add(said, choice.index, change, *called)
        whole = finish not in CUT
        if self._forced is not None and whole:
            whole = bool(said.places) and all(call.arguments.is_object() for call in said.places)
            if not whole and not self._forced.may_break:
                self.broken = "sent a tool call that cannot be read"
        if whole:
            empty = [call for call in said.places if not call.arguments.begun]
            change.more += [self._told(said, choice.index, call, "{}") for call in empty]
        change.finish = finish_word(finish, calls=said.called)
        if self._forced is not None and whole and change.finish == "stop":
            change.finish = "tool_calls"


def call_id(completion_id: str, index: int, place: int) -> str:
    """An id for the call at this place of this choice."""
    return f"call_{completion_id.removeprefix('chatcmpl-')}_{index}_{place}"
