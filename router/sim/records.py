"""Our own log as a trace, to see what another fleet would have done with the calls that came.

A CallRecord holds no prompt and so not how far two prompts are alike. It is guessed: a call goes on with the talk of
the same key and pool whose last prompt and answer, together, come nearest below its own length; where none does, a new
talk begins. In a talk each prompt holds all of the one before it; between talks only what the log saw come out of a
cache at a talk's first call is shared. Guesses err towards warm: compare fleets by it, do not quote its seconds.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial

import msgspec
from xxhash import xxh3_64_intdigest

from router.sim.dice import mix
from router.sim.prompt import Prompt, chained
from router.sim.speed import Speed
from router.sim.talk import Step, Talk, Talks
from router.wire.record import CallRecord

BLOCK_TOKENS = 64
# A talk that has been silent for so long is over: another one has begun.
TALK_ENDS_S = 3600.0
_HEAD, _OWN = 4, 5
# Shorter ones tell more of the way there than of the server.
_LEAST_READ_TOKENS, _LEAST_WRITTEN_TOKENS = 512, 16


class Line(CallRecord, frozen=True, kw_only=True, gc=False):
    """A line of the log: a record, and when it was written, which is when the call was over."""

    at: str = ""


class _Turn(msgspec.Struct, frozen=True):
    """A call as far as it matters here; times in seconds since some moment."""

    began_s: float
    ended_s: float
    tokens: int
    output_tokens: int
    cached_tokens: int


class _Strand:
    """A talk that is being put together. `who`: its key and pool."""

    def __init__(self, who: tuple[str, str], turn: _Turn) -> None:
        self.who = who
        self.turns = [turn]

    @property
    def ended_s(self) -> float:
        return self.turns[-1].ended_s

    @property
    def tokens(self) -> int:
        return self.turns[-1].tokens + self.turns[-1].output_tokens


_decoder = msgspec.json.Decoder(Line)


def read(lines: Iterable[bytes]) -> list[Line]:
    """Return the calls of a log that an instance has answered, by the time at which they came.

    Raises:
        ValueError: a line is no call's record; the message tells which.

    """
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = _decoder.decode(line)
            datetime.fromisoformat(record.at)
        except (msgspec.DecodeError, ValueError) as error:
            raise ValueError(f"line {number}: {error}") from None
        if record.outcome == "ok" and record.input_tokens is not None and record.output_tokens:
            records.append(record)
    return sorted(records, key=_came_s)


def arrivals(records: list[Line], load: float, seconds: float | None) -> Talks:
    """The log's talks, starting at `load` times their rate, those of so many seconds; None: all of them.

    Within a talk the pauses stay as they were.
    """
    if not records:
        return Talks([])
    zero_s = _came_s(records[0])
    strands = _strands(records, zero_s)
    starts = [(strand.turns[0].began_s / load, _talk(strand, number)) for number, strand in enumerate(strands)]
    return Talks(start for start in starts if seconds is None or start[0] < seconds)


def speed(records: list[Line]) -> Speed:
    """How fast the servers were, from the log: the usual prefill and decode times, each scaled until it fits.

    By the quarter of the calls that were quickest for their size, since the others waited for one another. Where the
    log does not tell, the usual times stay.
    """
    usual = Speed()
    read, written = [], []
    for record in records:
        prompt = (record.input_tokens or 0) + (record.cached_tokens or 0)
        cached = record.cached_tokens or 0
        if record.ttft_s is not None and prompt - cached >= _LEAST_READ_TOKENS:
            read.append((record.ttft_s - (record.queue_s or 0.0)) / usual.prefill_s(cached, prompt))
        if record.itl_s and (record.output_tokens or 0) >= _LEAST_WRITTEN_TOKENS:
            written.append(record.itl_s / usual.decode_s(1, prompt))
    slower_read, slower_written = _quick(read), _quick(written)
    return Speed(
        token_s=usual.token_s * slower_read,
        token_s_per_token=usual.token_s_per_token * slower_read,
        step_s=usual.step_s * slower_written,
        sequence_s=usual.sequence_s * slower_written,
        context_s=usual.context_s * slower_written,
    )


def _quick(ratios: list[float]) -> float:
    seen = sorted(ratio for ratio in ratios if ratio > 0)
    return seen[len(seen) // 4] if seen else 1.0


def _came_s(record: Line) -> float:
    return datetime.fromisoformat(record.at).timestamp() - record.duration_s


def _strands(records: list[Line], zero_s: float) -> list[_Strand]:
    strands: list[_Strand] = []
    open_: dict[tuple[str, str], list[_Strand]] = {}
    for record in records:
        turn = _turn(record, zero_s)
        who = record.key_id, record.pool
        mine = [strand for strand in open_.get(who, ()) if turn.began_s - strand.ended_s < TALK_ENDS_S]
        fits = [strand for strand in mine if strand.ended_s <= turn.began_s and strand.tokens <= turn.tokens]
        if fits:
            max(fits, key=lambda strand: strand.tokens).turns.append(turn)
        else:
            mine.append(_Strand(who, turn))
            strands.append(mine[-1])
        open_[who] = mine
    return strands


def _turn(record: Line, zero_s: float) -> _Turn:
    began_s = _came_s(record) - zero_s
    cached = record.cached_tokens or 0
    return _Turn(
        began_s=began_s,
        ended_s=began_s + record.duration_s,
        tokens=max(1, (record.input_tokens or 0) + cached),
        output_tokens=record.output_tokens or 1,
        cached_tokens=cached,
    )


def _talk(strand: _Strand, number: int) -> Talk:
    steps = []
    before_s = strand.turns[0].began_s
    head = strand.turns[0].cached_tokens
    for turn in strand.turns:
        steps.append(
            Step(
                think_s=max(0.0, turn.began_s - before_s),
                prompt=_prompt(
                    turn.tokens,
                    head,
                    mix(_HEAD, *(xxh3_64_intdigest(name.encode()) for name in strand.who)),
                    mix(_OWN, number),
                ),
                output_tokens=turn.output_tokens,
            )
        )
        before_s = turn.ended_s
    return Talk(session=mix(_OWN, number), steps=tuple(steps))


def _prompt(tokens: int, head: int, head_key: int, own_key: int) -> Callable[[], Prompt]:
    return partial(_made, tokens, head, head_key, own_key)


def _made(tokens: int, head: int, head_key: int, own_key: int) -> Prompt:
    blocks, shared = tokens // BLOCK_TOKENS, min(head, tokens) // BLOCK_TOKENS
    ids = chained([(0, shared)], head_key)
    ids.extend(chained([(shared, blocks - shared)], own_key))
    return Prompt(ids=ids, tokens=tokens, unit_tokens=BLOCK_TOKENS)
