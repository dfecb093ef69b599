"""What placing a call costs in CPU: `python -m benchmarks.decision`.

The prompt is a coding agent's: 400 KB, 300 messages, 40 tools. Each step is run many times; the table has the median
and the fastest of them, in milliseconds of this thread's CPU time. Decoding the body is not part of a decision and is
there to compare.
"""

import argparse
import json
import statistics
import time
from collections import deque
from collections.abc import Callable

import msgspec

from benchmarks import measure
from benchmarks.bodies import Prose
from router.balance.affinity import session_key, session_of
from router.balance.chain import Chain, common
from router.balance.chat_units import chat_chain
from router.balance.units import messages_chain, units
from router.wire.anthropic import decode_messages
from router.wire.canonical import Canonical, canonical
from router.wire.chat import decode_chat

PROMPT_BYTES = 400_000
MESSAGES = 300
TOOLS = 40
POOL = "qwen3-coder"

Json = dict[str, object]


class Step(msgspec.Struct, frozen=True):
    """One step of the decision; `bar_ms`: what its median may cost, None where nothing is promised."""

    name: str
    run: Callable[[], object]
    bar_ms: float | None = None


def main() -> int:
    """Measure every step and print the table; 1 when one of them is over its bar."""
    parser = argparse.ArgumentParser(prog="decision")
    parser.add_argument("--runs", type=int, default=500)
    asked = parser.parse_args()
    print(measure.machine())
    print(f"{'step':<44}{'median ms':>11}{'best ms':>9}{'bar':>7}")
    over = False
    for step in steps():
        median_ms, best_ms = cost_ms(step.run, asked.runs)
        over |= step.bar_ms is not None and median_ms > step.bar_ms
        print(f"{step.name:<44}{median_ms:>11.3f}{best_ms:>9.3f}{step.bar_ms or '':>7}")
    return 1 if over else 0


def steps() -> list[Step]:
    """All that is measured, in the order in which a call goes through it."""
    body, chat = messages_body(), chat_body()
    head = decode_messages(body)
    call = canonical(head)
    whole = messages_chain(POOL, call)
    other = _forked(call)
    headers = [(b"x-stainless-%d" % number, b"x") for number in range(24)] + [
        (b"x-claude-code-session-id", b"e7b76833")
    ]
    size = f"{len(body) // 1000} KB, {len(whole)} units"
    return [
        Step(f"decode ({size})", lambda: decode_messages(body)),
        Step("normal form", lambda: canonical(head)),
        Step("chain of the normal form", lambda: messages_chain(POOL, call), bar_ms=0.25),
        Step("  of it the units", lambda: deque(units(call), maxlen=0)),
        Step("decode (chat completions)", lambda: decode_chat(chat)),
        Step("chain of chat completions, with its own decode", lambda: chat_chain(POOL, chat)),
        Step("common units of two chains, 1000 times", lambda: _compare(whole, other)),
        Step("session", lambda: session_key(POOL, session_of(headers), b"", b"")),
    ]


def cost_ms(run: Callable[[], object], runs: int) -> tuple[float, float]:
    """CPU milliseconds of this thread: the median of `runs` runs, and the fastest."""
    spent = []
    for _ in range(runs):
        start_ns = time.thread_time_ns()
        run()
        spent.append((time.thread_time_ns() - start_ns) / 1e6)
    return statistics.median(spent), min(spent)


def messages_body() -> bytes:
    """A body of the Messages API, as long as a long session's."""
    said: list[Json] = []
    for number, (asked, result) in enumerate(_turns()):
        id_ = f"toolu_{number:024d}"
        use = {"type": "tool_use", "id": id_, "name": "tool_1", "input": {"path": f"/srv/{number}.py"}}
        said.append({"role": "assistant", "content": [{"type": "text", "text": asked}, use]})
        said.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id_, "content": result}]})
    tools = [{"name": name, "description": about, "input_schema": schema} for name, about, schema in _tools()]
    said.insert(0, {"role": "user", "content": Prose(2).piece(3000)})
    body = {"model": POOL, "max_tokens": 32_000, "system": Prose(3).piece(7000), "messages": said, "tools": tools}
    return json.dumps(body).encode()


def chat_body() -> bytes:
    """The same words as chat completions."""
    said: list[Json] = [
        {"role": "system", "content": Prose(3).piece(7000)},
        {"role": "user", "content": Prose(2).piece(3000)},
    ]
    for number, (asked, result) in enumerate(_turns()):
        function = {"name": "tool_1", "arguments": json.dumps({"path": f"/srv/{number}.py"})}
        calls = [{"id": f"call_{number}", "type": "function", "function": function}]
        said.append({"role": "assistant", "content": asked, "tool_calls": calls})
        said.append({"role": "tool", "tool_call_id": f"call_{number}", "content": result})
    functions = [{"name": name, "description": about, "parameters": schema} for name, about, schema in _tools()]
    tools = [{"type": "function", "function": function} for function in functions]
    return json.dumps({"model": POOL, "messages": said, "tools": tools}).encode()


def _turns() -> list[tuple[str, str]]:
    prose = Prose(1)
    size = (PROMPT_BYTES - 60_000) // (MESSAGES // 2) - 350
    return [(prose.line(), prose.piece(size)) for _ in range(MESSAGES // 2)]


def _tools() -> list[tuple[str, str, Json]]:
    prose = Prose(4)
    schema: Json = {"type": "object", "properties": {"path": {"type": "string", "description": prose.line()}}}
    return [(f"tool_{number}", prose.piece(1000), schema) for number in range(TOOLS)]


def _forked(call: Canonical) -> Chain:
    """The chain of a conversation that went another way after two thirds."""
    turns = list(call.turns)
    turns[len(turns) * 2 // 3] = turns[0]
    return messages_chain(POOL, msgspec.structs.replace(call, turns=tuple(turns)))


def _compare(one: Chain, other: Chain) -> int:
    return sum(common(one, other, hint) for hint in range(1000))


if __name__ == "__main__":
    raise SystemExit(main())
