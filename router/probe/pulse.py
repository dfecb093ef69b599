"""What goes on inside an instance, read from /metrics or /slots."""

import re

import msgspec

from router.wire.reading import read


class Pulse(msgspec.Struct, frozen=True):
    """`processing`: busy slots. `decodes`: llama_decode calls since the start; None where only /slots tells.

    `deferred`: calls that wait inside the server; None where it is not told. `restart_mark`: changes with every start.
    """

    processing: int
    decodes: int | None = None
    deferred: int | None = None
    restart_mark: str = ""

    @property
    def calls(self) -> int:
        """All calls in the server, running or deferred."""
        return self.processing + (self.deferred or 0)


class _Slot(msgspec.Struct, frozen=True):
    is_processing: bool = False


_slots = msgspec.json.Decoder(list[_Slot])
_LINE = re.compile(
    r"^llamacpp:(requests_processing|requests_deferred|n_decode_total)\s+(\d+(?:\.\d+)?(?:[eE]\+?\d{1,2})?)\s*$", re.M
)


def read_metrics(text: str, restart_mark: str) -> Pulse | None:
    """Read the exposition text; None when it does not say how many requests are processed."""
    values = {name: int(float(value)) for name, value in _LINE.findall(text)}
    if "requests_processing" not in values:
        return None
    return Pulse(
        processing=values["requests_processing"],
        decodes=values.get("n_decode_total"),
        deferred=values.get("requests_deferred"),
        restart_mark=restart_mark,
    )


def read_slots(body: bytes) -> Pulse | None:
    """Count the slots that process; None when it is not llama-server's /slots."""
    try:
        return Pulse(processing=sum(slot.is_processing for slot in read(_slots, body)))
    except msgspec.DecodeError:
        return None
