"""Turns and tools in the words of the Messages API. Writes pieces into a list, to be joined once."""

from collections.abc import Iterable, Sequence

import msgspec

from router.wire.parts import Call, Part, Result
from router.wire.tools import Tool
from router.wire.turns import AssistantTurn, ResultTurn, Turn, UserTurn

_encode = msgspec.json.Encoder().encode


def native_messages(turns: Iterable[Turn], out: list[bytes]) -> None:
    """Write the turns, with commas between them."""
    comma = b""
    for turn in turns:
        match turn:
            case UserTurn(parts):
                out += (comma, b'{"role":"user","content":', content(parts), b"}")
            case ResultTurn(results):
                out += (comma, b'{"role":"user","content":[')
                _results(results, out)
                out.append(b"]}")
            case AssistantTurn():
                out += (comma, b'{"role":"assistant","content":', _assistant(turn), b"}")
        comma = b","


def native_tools(tools: Iterable[Tool], out: list[bytes]) -> None:
    """Write the tools, with commas between them."""
    comma = b""
    for tool in tools:
        out += (comma, b'{"name":', _encode(tool.name), b',"description":', tool.description)
        out += (b',"input_schema":', tool.input_schema, b"}")
        comma = b","


def content(parts: Sequence[Part]) -> bytes:
    """A lone text as a string, anything else as blocks."""
    if len(parts) == 1 and isinstance(parts[0], bytes):
        return parts[0]
    blocks = [_text(it) if isinstance(it, bytes) else b'{"type":"image","source":%b}' % it.source for it in parts]
    return b"[" + b",".join(blocks) + b"]"


def _assistant(turn: AssistantTurn) -> bytes:
    if turn.text and not turn.thinking and not turn.calls:
        return turn.text
    blocks: list[bytes] = []
    if turn.thinking:
        blocks.append(b'{"type":"thinking","thinking":%b,"signature":""}' % turn.thinking)
    if turn.text:
        blocks.append(_text(turn.text))
    blocks += [_call(it) for it in turn.calls]
    return b"[" + b",".join(blocks) + b"]"


def _text(literal: bytes) -> bytes:
    return b'{"type":"text","text":%b}' % literal


def _call(call: Call) -> bytes:
    return b'{"type":"tool_use","id":%b,"name":%b,"input":%b}' % (_encode(call.id), _encode(call.name), call.input)


def _results(results: Iterable[Result], out: list[bytes]) -> None:
    """In pieces: results are most of what a coding client sends, and each copy costs."""
    comma = b""
    for it in results:
        out += (comma, b'{"type":"tool_result","tool_use_id":', _encode(it.id), b',"content":', content(it.parts), b"}")
        comma = b","
