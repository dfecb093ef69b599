"""Puts the messages of a request into the turns that a chat template can print: one role at a time, results in order.

Everything here follows from the messages alone; what is added at the end of a conversation changes nothing before it.
"""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from router.wire.parts import NO_RESULT, Call, Literal, Message, Part, Result, joined, settled


class UserTurn(msgspec.Struct, frozen=True, gc=False):
    """What the user says; one part at least."""

    parts: tuple[Part, ...]


class ResultTurn(msgspec.Struct, frozen=True, gc=False):
    """The results of the calls in the turn before, in the order of these calls."""

    results: tuple[Result, ...]


class AssistantTurn(msgspec.Struct, frozen=True, gc=False):
    """What the model thought, said and called, one of them at least; `thinking` and `text` are literals, or empty."""

    thinking: Literal
    text: Literal
    calls: tuple[Call, ...]


Turn: TypeAlias = UserTurn | ResultTurn | AssistantTurn
_REMINDER, _END = b"<system-reminder>", b"</system-reminder>"
_PARAGRAPH = b"\\n\\n"


def turns(messages: Sequence[Message]) -> tuple[list[bytes], list[Turn]]:
    """Give the system texts that stand before everything else, as literals, and the turns after them."""
    system: list[bytes] = []
    out: list[Turn] = []
    group: list[Message] = []
    calls: tuple[Call, ...] = ()
    assistants = False
    for message in messages:
        role = message.role
        if role == "system" and not group and not out:
            system += [part for part in message.parts if isinstance(part, bytes)]
        elif message.parts or message.results or message.calls or message.thinking:
            if group and (role == "assistant") is not assistants:
                calls = _add(out, group, calls)
                group = []
            assistants = role == "assistant"
            group.append(message)
    if group:
        _add(out, group, calls)
    return system, out


def _add(out: list[Turn], group: Sequence[Message], calls: tuple[Call, ...]) -> tuple[Call, ...]:
    """Add the turns of one side; returns the calls that wait for results after it."""
    if group[0].role == "assistant":
        turn = _assistant(group)
        out.append(turn)
        return turn.calls
    out += _user(group, calls)
    return ()


def _assistant(group: Sequence[Message]) -> AssistantTurn:
    """Text that came after a call joins the text before it: prompts know no other order."""
    if len(group) == 1:
        (message,) = group
        parts, thinking = message.parts, message.thinking
        return AssistantTurn(_one(thinking) if thinking else b"", _one(parts) if parts else b"", message.calls)
    return AssistantTurn(
        _one([it for message in group for it in message.thinking]),
        _one([it for message in group for it in message.parts]),
        tuple(call for message in group for call in message.calls),
    )


def _one(parts: Sequence[Part]) -> Literal:
    texts = [part for part in parts if isinstance(part, bytes)]
    return joined(texts) if texts else b""


def _user(group: Sequence[Message], calls: Sequence[Call]) -> list[Turn]:
    if len(group) == 1 and group[0].role == "user":
        parts, results = group[0].parts, group[0].results
    else:
        parts = settled([part for message in group for part in _said(message)])
        results = tuple(result for message in group for result in message.results)
    out: list[Turn] = []
    if results or calls:
        out.append(ResultTurn(_ordered(results, calls)))
    if parts:
        out.append(UserTurn(parts))
    return out


def _said(message: Message) -> tuple[Part, ...]:
    """In mid-conversation a system message is said by the user: templates refuse it; hoisted, it moves the prompt."""
    if message.role != "system":
        return message.parts
    text = joined([part for part in message.parts if isinstance(part, bytes)], _PARAGRAPH)[1:-1]
    if text.startswith(_REMINDER):
        return (b'"' + text + b'"',)
    return (b'"' + _REMINDER + b"\\n" + text + b"\\n" + _END + b'"',)


def _ordered(results: Sequence[Result], calls: Sequence[Call]) -> tuple[Result, ...]:
    """In the order of the calls, though clients send them as tools end; each call has one, and strangers come last."""
    if len(results) == 1 and len(calls) == 1 and results[0].id == calls[0].id:
        return tuple(results)
    place = {call.id: number for number, call in reversed(list(enumerate(calls)))}
    missing = place.keys() - {result.id for result in results}
    every = [*results, *(Result(call.id, NO_RESULT.parts) for call in calls if call.id in missing)]
    return tuple(sorted(every, key=lambda result: place.get(result.id, len(calls))))
