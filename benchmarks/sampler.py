"""Runs our router and notes, at each tick of its CPU time, where it is.

`python -m benchmarks.sampler OUT serve --config FILE ...` writes one stack a line, innermost frame first, with
its count. Time in C is noted at the line that called it. The kernel's tick (1 to 4 ms) is the finest it gets.
cProfile, which pays for each call, would make many small functions look dearer than few large ones.
"""

import atexit
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from router.cli import main

INTERVAL_S = 0.001
DEPTH = 40

_stacks: Counter[tuple[str, ...]] = Counter()


def _note(_signal: int, frame: FrameType | None) -> None:
    stack: list[str] = []
    while frame is not None and len(stack) < DEPTH:
        code = frame.f_code
        stack.append(f"{code.co_filename}:{frame.f_lineno}:{code.co_qualname}")
        frame = frame.f_back
    _stacks[tuple(stack)] += 1


def _write(path: Path) -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    path.write_text("".join(f"{count}\t{';'.join(stack)}\n" for stack, count in _stacks.items()))


if __name__ == "__main__":
    atexit.register(_write, Path(sys.argv[1]))
    signal.signal(signal.SIGPROF, _note)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)
    sys.exit(main(sys.argv[2:]))
