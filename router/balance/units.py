"""A request in normal form as the units of its chain, in the order in which chat templates print them.

That is: system, tools, turns, as most templates have it. Two prompts that differ never give the same units, and what a
conversation adds comes last. Tool call ids are left out: few templates print them, and instances make them up anew.
"""

from collections.abc import Iterator, Sequence

import xxhash

from router.balance.chain import Chain, chain
from router.wire.canonical import Canonical
from router.wire.parts import Part
from router.wire.turns import AssistantTurn, ResultTurn

# The first byte of a unit: who speaks. A user's text is never equal to an assistant's.
SYSTEM, TOOL, USER, ASSISTANT, RESULT = b"s", b"t", b"u", b"a", b"r"
# Stands between the pieces of one unit. JSON has none, so no piece can look like two.
SEAM = b"\0"
# An image is some hundred to some thousand tokens, whatever it has in bytes; it counts as a text of this length.
IMAGE_BYTES = 4096
_DIGEST_BYTES = 16


def messages_chain(pool: str, call: Canonical) -> Chain:
    """Return the chain of a call of the Messages API."""
    return chain(seed(pool, tools=bool(call.tools), levers=_levers(call)), units(call))


def seed(pool: str, *, tools: bool, levers: bytes) -> int:
    """Return 64 bits of what changes a prompt from its beginning: the model, and what its template is told.

    `tools`: whether there are any; templates greet a model otherwise then. `levers`: the rest, in any form that is the
    same for the same wishes.
    """
    return xxhash.xxh3_64_intdigest(SEAM.join((pool.encode(), b"tools" if tools else b"", levers)))


def levers_of(*, switch: bytes = b"", effort: bytes = b"", kwargs: bytes = b"") -> bytes:
    """Join what the template is told of thinking, each part empty where the client says nothing."""
    return SEAM.join((switch, effort, kwargs))


def _levers(call: Canonical) -> bytes:
    switch = b"" if call.thinking is None else b"off" if call.thinking.kind == "disabled" else b"on"
    return levers_of(switch=switch, effort=(call.effort or "").encode(), kwargs=call.chat_template_kwargs)


def units(call: Canonical) -> Iterator[bytes]:
    """Give the units of a request; the last is the last turn, or its last result.

    One after the other, so that there is never a second copy of the whole prompt.
    """
    if call.system is not None:
        yield SYSTEM + call.system
    for tool in call.tools:
        yield TOOL + SEAM.join((tool.name.encode(), tool.description, tool.input_schema))
    for turn in call.turns:
        if isinstance(turn, AssistantTurn):
            yield _assistant(turn)
        elif isinstance(turn, ResultTurn):
            for result in turn.results:
                yield _said(RESULT, result.parts)
        else:
            yield _said(USER, turn.parts)


def _said(speaker: bytes, parts: Sequence[Part]) -> bytes:
    """One unit of all that is said at once. Literals end by themselves, so they need nothing between them."""
    first = parts[0]
    if len(parts) == 1 and isinstance(first, bytes):
        return speaker + first
    return speaker + b"".join([part if isinstance(part, bytes) else picture(part.source) for part in parts])


def picture(source: bytes) -> bytes:
    """An image, told by its content, at the length that it has as a text."""
    return xxhash.xxh3_128_digest(source) * (IMAGE_BYTES // _DIGEST_BYTES)


def _assistant(turn: AssistantTurn) -> bytes:
    if not turn.calls and not turn.thinking:
        return ASSISTANT + turn.text
    pieces = [ASSISTANT + turn.text, turn.thinking]
    for call in turn.calls:
        pieces += (call.name.encode(), call.input)
    return SEAM.join(pieces)
