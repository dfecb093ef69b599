"""When to read the registry again: the file has changed. What then happens is `app`'s to do."""

import asyncio
from collections.abc import Callable
from pathlib import Path

EVERY_S = 1.0

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """What changes when a file is written or replaced; None while it is not there (an editor may be swapping it)."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


async def watch_files(
    paths: Callable[[], list[Path]], changed: Callable[[], None], known: dict[Path, Stamp | None] | None = None
) -> None:
    """Call `changed` after any of the files has changed and then stayed the same for one turn, for ever.

    `known`: their stamps from before they were read; None: as they are now.

    Half a file is not read: whoever writes it in pieces changes it again before the next turn.
    """
    known = known or {path: stamp(path) for path in paths()}
    moving = False
    while True:
        await asyncio.sleep(EVERY_S)
        seen = {path: stamp(path) for path in paths()}
        if seen != known:
            known, moving = seen, True
        elif moving:
            moving = False
            changed()
