"""Which tool call a piece of a chat completion's stream belongs to.

By OpenAI's rules that is its `index`. Not every server keeps them; each exception names who needs it.
"""

from collections.abc import Iterator

from router.translate.arguments import Arguments
from router.wire.ids import for_client
from router.wire.openai import Delta, FunctionPart, ToolCallPart, arguments_text

_LEGACY_INDEX = -1


class Call:
    """One tool call. `id`: as the server said it, empty for none. `begun`: its block was opened."""

    __slots__ = ("arguments", "begun", "id", "name")

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.name = ""
        self.arguments = Arguments()
        self.begun = False

    def __repr__(self) -> str:
        state = "begun" if self.begun else "waiting"
        return f"Call({self.id!r}, {self.name!r}, {state}, {self.arguments!r})"


class Calls:
    """The calls of one answer."""

    __slots__ = ("_at", "_message_id", "_used")

    def __init__(self, message_id: str) -> None:
        self._message_id = message_id
        self._at: dict[int, Call] = {}
        self._used: set[str] = set()

    def __repr__(self) -> str:
        return f"Calls({self._at})"

    def pieces(self, delta: Delta) -> Iterator[tuple[Call, str]]:
        """Yield each call that a delta adds to, and the arguments that it adds. The call is new if its name is."""
        for position, part in enumerate(delta.tool_calls or ()):
            index = position if part.index is None else part.index
            yield from self._piece(index, part, part.function or FunctionPart())
        if delta.function_call is not None:
            yield from self._piece(_LEGACY_INDEX, ToolCallPart(), delta.function_call)

    def whole(self, message: Delta) -> Iterator[tuple[Call, str]]:
        """Yield the calls of a message that is not streamed: each part is one."""
        parts = message.tool_calls or ()
        if message.function_call is not None:
            parts = (*parts, ToolCallPart(function=message.function_call))
        for part in parts:
            function = part.function or FunctionPart()
            call = Call(part.id or "")
            call.name = function.name or ""
            yield call, arguments_text(function)

    def client_id(self, call: Call) -> str:
        """Give its id for the client. An id that a call before it has had (always "0", say) is replaced."""
        fallback = f"toolu_{self._message_id.removeprefix('msg_')}_{len(self._used)}"
        given = for_client(call.id, fallback)
        if given in self._used:
            given = fallback
        self._used.add(given)
        return given

    def _piece(self, index: int, part: ToolCallPart, function: FunctionPart) -> Iterator[tuple[Call, str]]:
        id_, name, added = part.id or "", function.name or "", arguments_text(function)
        call = self._at.get(index)
        if call is None or _is_another(call, id_, name, added):
            if not (id_ or name or added):
                return  # an empty part, from servers that send one beside text
            call = self._at[index] = Call(id_)
        elif call.arguments.done and added == call.arguments.text:
            # The whole again, with the finish (older vLLM). A snapshot that has grown cannot be told from a
            # fragment, and makes the arguments no object.
            added = ""
        call.id = call.id or id_
        call.name = call.name or name
        yield call, added


def _is_another(call: Call, id_: str, name: str, added: str) -> bool:
    """Whether a piece on a used index begins another call."""
    if not name:
        return False  # a fresh id with every fragment: older vLLM
    if id_ and call.id and id_ != call.id:
        # Index 0 for every call: lmdeploy, older sglang and vLLM. In the middle of an object it is the same call still.
        in_the_middle = call.arguments.text and not call.arguments.done
        return not (in_the_middle and name == call.name)
    # No ids, and every call at index 0: after a whole object the next name is the next call's.
    return not id_ and call.arguments.done and added != call.arguments.text
