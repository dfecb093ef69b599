"""Turns and tools in the words of chat completions. Writes pieces into a list, to be joined once."""

from collections.abc import Iterable, Sequence

import msgspec

from router.wire.parts import Call, Image, Part, Result, settled
from router.wire.tools import Tool
from router.wire.turns import AssistantTurn, ResultTurn, Turn, UserTurn

_encode = msgspec.json.Encoder().encode
_SEE_BELOW = b'"[the image is in the next message]"'
_SHOWN = b'"[images from the tools]"'


def chat_messages(system: bytes | None, turns: Sequence[Turn], out: list[bytes], *, images_in_results: bool) -> None:
    """Write the system text and the turns, with commas between them.

    `images_in_results` False: strict servers take only text from a tool, so the user shows its images right after.
    """
    comma = b""
    if system is not None:
        out += (b'{"role":"system","content":', system, b"}")
        comma = b","
    for turn in turns if images_in_results else _images_moved(turns):
        match turn:
            case UserTurn(parts):
                out += (comma, b'{"role":"user","content":', content(parts), b"}")
            case ResultTurn(results):
                out.append(comma)
                _results(results, out)
            case AssistantTurn():
                out += (comma, b'{"role":"assistant","content":')
                _assistant(turn, out)
        comma = b","


def chat_tools(tools: Iterable[Tool], out: list[bytes]) -> None:
    """Write the tools, with commas between them."""
    comma = b""
    for tool in tools:
        out += (comma, b'{"type":"function","function":{"name":', _encode(tool.name), b',"description":')
        out += (tool.description, b',"parameters":', tool.input_schema, b"}}")
        comma = b","


def content(parts: Sequence[Part]) -> bytes:
    """A lone text as a string, anything else as parts."""
    if len(parts) == 1 and isinstance(parts[0], bytes):
        return parts[0]
    return b"[" + b",".join([_part(it) for it in parts]) + b"]"


def _part(part: Part) -> bytes:
    if isinstance(part, bytes):
        return b'{"type":"text","text":%b}' % part
    return b'{"type":"image_url","image_url":{"url":%b}}' % part.url


def _assistant(turn: AssistantTurn, out: list[bytes]) -> None:
    """`content` is null beside calls, as the API has it, and an empty text where there were thoughts alone."""
    out.append(turn.text or (b"null" if turn.calls else b'""'))
    if turn.thinking:
        out += (b',"reasoning_content":', turn.thinking)
    if turn.calls:
        out += (b',"tool_calls":[', b",".join([_call(it) for it in turn.calls]), b"]")
    out.append(b"}")


def _call(call: Call) -> bytes:
    return b'{"id":%b,"type":"function","function":{"name":%b,"arguments":%b}}' % (
        _encode(call.id),
        _encode(call.name),
        call.arguments,
    )


def _results(results: Iterable[Result], out: list[bytes]) -> None:
    """In pieces: results are most of what a coding client sends, and each copy costs."""
    comma = b""
    for it in results:
        out += (comma, b'{"role":"tool","tool_call_id":', _encode(it.id), b',"content":', content(it.parts), b"}")
        comma = b","


def _images_moved(turns: Iterable[Turn]) -> Iterable[Turn]:
    """Each image of a result goes into the user's turn after it, which is made where there is none."""
    waiting: list[Part] = []
    for turn in turns:
        if waiting:
            parts = turn.parts if isinstance(turn, UserTurn) else ()
            yield UserTurn(settled([_SHOWN, *waiting, *parts]))
            waiting = []
            if parts:
                continue
        if isinstance(turn, ResultTurn):
            waiting = [part for result in turn.results for part in result.parts if isinstance(part, Image)]
            yield ResultTurn(tuple(_without_images(result) for result in turn.results)) if waiting else turn
        else:
            yield turn
    if waiting:
        yield UserTurn((_SHOWN, *waiting))


def _without_images(result: Result) -> Result:
    return Result(result.id, settled([_SEE_BELOW if isinstance(it, Image) else it for it in result.parts]))
