"""Small traces and prompts, made up."""

from array import array
from collections.abc import Sequence

import msgspec

from router.sim.prompt import Prompt, chained
from router.sim.talk import Ask
from router.wire.record import CallRecord

UNIT = 64


def prompt(key: int, tokens: int, *, head: int = 0, head_key: int = 999) -> Prompt:
    """A conversation's prompt of so many tokens; those of one key are beginnings of one another.

    The first `head` tokens are the head that all prompts with `head_key` share.
    """
    shared = chained([(0, head // UNIT)], head_key)
    own = chained([(0, tokens // UNIT - len(shared))], key)
    return Prompt(ids=array("Q", shared + own), tokens=tokens, unit_tokens=UNIT)


def ask(number: int, key: int, tokens: int, *, output_tokens: int = 10, at_s: float = 0.0, head: int = 0) -> Ask:
    made = prompt(key, tokens, head=head)
    return Ask(number=number, session=key, prompt=made, output_tokens=output_tokens, arrived_s=at_s)


def sessions(count: int, *, turns: int = 6, first: int = 4096, more: int = 1024, think_s: float = 2.0) -> list[bytes]:
    """Lines of the Claude Code format: sessions that grow by `more` tokens each turn, with equal tools."""
    lines = []
    for number in range(count):
        requests = [
            {
                "type": "n",
                "in": first + turn * more + 17,
                "out": 100,
                "think_time": think_s,
                "runs": [[1, (first + turn * more) // UNIT]],
            }
            for turn in range(turns)
        ]
        session = {"id": f"s{number}", "block_size": UNIT, "tool_tokens": 1024, "system_tokens": 512}
        lines.append(msgspec.json.encode({**session, "requests": requests}))
    return lines


def requests(count: int, *, every_ms: int = 3000) -> list[bytes]:
    """Lines of Mooncake's format: prompts that share one block."""
    return [
        msgspec.json.encode(
            {
                "timestamp": number * every_ms,
                "input_length": 1300,
                "output_length": 50,
                "hash_ids": [0, 2 * number + 1, 2 * number + 2],
            }
        )
        for number in range(count)
    ]


def log(turns: Sequence[tuple[str, float, int, int]], *, cached: int = 0, pool: str = "qwen") -> list[bytes]:
    """Lines of our own log, one for each (key, seconds past noon at which it was over, prompt tokens, output)."""
    lines = []
    for number, (key, at_s, tokens, output) in enumerate(turns):
        hours, minutes, seconds = int(at_s // 3600), int(at_s // 60 % 60), at_s % 60
        record = CallRecord(
            request_id=f"r{number}",
            endpoint="messages",
            outcome="ok",
            key_id=key,
            pool=pool,
            duration_s=5.0,
            ttft_s=1.0,
            itl_s=0.01,
            input_tokens=tokens - cached,
            cached_tokens=cached,
            output_tokens=output,
        )
        at = f"2026-11-02T{12 + hours}:{minutes:02}:{seconds:06.3f}+00:00"
        lines.append(b'{"at":"' + at.encode() + b'",' + msgspec.json.encode(record)[1:])
    return lines
