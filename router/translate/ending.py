"""How llama-server's answers end, told as the hosted API tells it: the stop reason, and what was used."""

from typing import Annotated

import msgspec

from router.translate.answer import Usage
from router.translate.blocks import BrokenAnswerError
from router.wire.reading import read

_Count = Annotated[int, msgspec.Meta(ge=0)] | None
_Fields = dict[str, msgspec.Raw]
# In the hosted API's order.
_NAMES = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


class _Counts(msgspec.Struct, frozen=True):
    input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None
    cache_read_input_tokens: _Count = None
    output_tokens: _Count = None


_fields = msgspec.json.Decoder(_Fields | None)
_counts = msgspec.json.Decoder(_Counts | None)


class Tally:
    """What an answer has said so far that it used. What a server counts besides is kept as it is."""

    __slots__ = ("_known", "_others")

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._others: _Fields = {}

    def __repr__(self) -> str:
        return f"Tally({self._known})"

    def add(self, usage: bytes | msgspec.Raw) -> None:
        """Learn from a usage object, or from null; a later number takes the place of an earlier one.

        Raises:
            msgspec.DecodeError: it is neither, or counts something below 0.

        """
        counts = read(_counts, usage)
        if counts is not None:
            said = msgspec.structs.asdict(counts)
            self._known |= {name: count for name, count in said.items() if count is not None}
            others = read(_fields, usage) or {}
            self._others |= {name: value for name, value in others.items() if name not in _NAMES}
        if "input_tokens" in self._known:
            # llama-server has no word for it, since it writes its cache in passing.
            self._known.setdefault("cache_creation_input_tokens", 0)

    def at_start(self) -> dict[str, object]:
        """For message_start, where no field may be missing: what is not known yet is 0, as the output is."""
        return self._ordered(dict.fromkeys(_NAMES, 0) | self._known)

    def at_end(self, *, events: int = 0) -> dict[str, object]:
        """For the end, cumulative: SDKs take each count in it for the true one, so an unknown one is left out.

        `events`: what is known of the output if nobody has counted it.
        """
        return self._ordered({"output_tokens": events} | self._known)

    def silence(self) -> None:
        """Nothing was to be generated; what was, nobody sees."""
        self._known["output_tokens"] = 0

    def for_record(self) -> Usage:
        """What is known, without guesses."""
        known = self._known
        return Usage(known.get("input_tokens"), known.get("cache_read_input_tokens"), known.get("output_tokens"))

    def _ordered(self, counts: dict[str, int]) -> dict[str, object]:
        return {**{name: counts[name] for name in _NAMES if name in counts}, **self._others}


def asked_for(sequence: str | None, stop: tuple[str, ...] | None) -> str | None:
    """Return the stop sequence if it is one of the client's; llama-server names its template's own, too.

    `stop`: the client's; None: the instance is the Messages API itself, which knows no others.
    """
    return sequence if stop is None or sequence in stop else None


def stop_reason(said: str, sequence: str | None, *, tools: bool, whole: bool) -> tuple[str, str | None]:
    """Return `stop_reason` and `stop_sequence`; `sequence`: one that the client has asked for.

    llama-server says "end_turn" for a stop sequence, and "tool_use" for one inside of a call's arguments. `tools`: the
    answer has a tool call; `whole`: the last one's arguments are. A client runs whole calls only at "tool_use". Words
    that nobody knows pass.

    Raises:
        BrokenAnswerError: it says nothing, speaks of a call that is not there, or ends in the middle of one.

    """
    if not said:
        raise BrokenAnswerError("ended without saying why")
    if said == "stop_sequence":
        said = "stop_sequence" if sequence is not None else "end_turn"
    elif said in {"end_turn", "tool_use"} and sequence is not None and not (tools and whole):
        said = "stop_sequence"
    if said in {"end_turn", "tool_use"} and tools:
        said = "tool_use"
    if said == "tool_use" and not tools:
        raise BrokenAnswerError("spoke of a tool call that it did not send")
    if said in {"end_turn", "tool_use"} and not whole:
        raise BrokenAnswerError("ended in the middle of a tool call")
    return said, sequence if said == "stop_sequence" else None
