"""Mooncake's traces (kvcache-ai/Mooncake, FAST'25): open arrivals, prompts as chained blocks of 512 tokens."""

from array import array
from collections.abc import Callable, Iterable

import msgspec

from router.sim.dice import Dice, mix
from router.sim.prompt import Prompt
from router.sim.talk import Step, Talk, Talks

BLOCK_TOKENS = 512
# Times in the file are multiples of three seconds.
_QUANTUM_S = 3.0
_TALK, _ALONE = 6, 7


class Line(msgspec.Struct, frozen=True):
    """One request. `timestamp` in milliseconds; `hash_ids` hold over the whole file, each for all before it too."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...]


_line = msgspec.json.Decoder(Line)


def read(lines: Iterable[bytes]) -> list[Line]:
    """Return the requests, in the file's order.

    Raises:
        ValueError: a line is no such request; the message tells which.

    """
    requests = []
    for number, line in enumerate(lines, 1):
        try:
            requests.append(_line.decode(line))
        except msgspec.DecodeError as error:
            raise ValueError(f"line {number}: {error}") from None
    return requests


def arrivals(requests: list[Line], load: float, seconds: float | None, dice: Dice) -> Talks:
    """Let the calls come at `load` times the rate of the trace, for so many seconds; None: all of them.

    Each comes somewhere within the three seconds that its time stands for. A call does not wait for another's answer.
    """
    starts = []
    for place, request in enumerate(requests):
        at_s = (request.timestamp / 1000.0 + dice.uniform() * _QUANTUM_S) / load
        if seconds is None or at_s < seconds:
            step = Step(think_s=0.0, prompt=_prompt(request), output_tokens=request.output_length)
            starts.append((at_s, Talk(session=_session(request, place), steps=(step,))))
    return Talks(starts)


def _prompt(request: Line) -> Callable[[], Prompt]:
    return lambda: Prompt(
        ids=array("Q", request.hash_ids), tokens=max(1, request.input_length), unit_tokens=BLOCK_TOKENS
    )


def _session(request: Line, place: int) -> int:
    """Conversations are not named in the file: two that have their first 1,024 tokens in common are taken for one.

    The router takes them so by their system prompt and first message.
    """
    ids = request.hash_ids
    return mix(_TALK, ids[0], ids[1]) if len(ids) > 1 else mix(_ALONE, place)
