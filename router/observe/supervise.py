"""Loops that run beside the calls: each one named, counted, and started again when it fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from router.clock import monotonic_s
from router.observe.tally import Counter

_log = logging.getLogger("llama_router")

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class Supervisor:
    """Owner of the background tasks. Use as an async context manager: leaving it ends them all."""

    def __init__(self, failures: Counter) -> None:
        """`failures` is labelled with the loop's name."""
        self._failures = failures
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"Supervisor[{', '.join(self._tasks)}]"

    async def __aenter__(self) -> "Supervisor":
        """Nothing runs yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End every loop and wait for it."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start(self, name: str, loop: Callable[[], Awaitable[None]], *, kind: str = "") -> None:
        """Run `loop()`, for as long as it takes; when it raises, again after a pause that grows.

        `kind` is the label under which failures are counted; by default the name.
        """
        self.stop(name)
        task = asyncio.get_running_loop().create_task(self._keep(name, loop, kind or name))
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._forget(name, done))

    def stop(self, name: str) -> None:
        """End one loop; nothing happens when there is none."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    def running(self, name: str) -> bool:
        """It has been started and has not ended."""
        task = self._tasks.get(name)
        return task is not None and not task.done()

    def _forget(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]

    async def _keep(self, name: str, loop: Callable[[], Awaitable[None]], kind: str) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            began_s = monotonic_s()
            try:
                await loop()
            except Exception:  # noqa: BLE001  # the top of every background loop: it outlives its bugs, and says so
                self._failures.series((kind,)).inc()
                _log.exception("the loop %s failed and starts again in %.1f s", name, pause_s)
                if monotonic_s() - began_s > LONGEST_PAUSE_S:
                    pause_s = FIRST_PAUSE_S  # it had been well for long
                await asyncio.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
            else:
                return
