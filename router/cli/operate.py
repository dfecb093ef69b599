"""`llama-router drain`, `resume` and `reload`."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import TextIO

from router.cli.talk import NoAnswer, Talk
from router.edge.admin import FleetStatus, InstanceStatus, ReloadReport

EVERY_S = 0.5


def order(verb: str, name: str, router_url: str, *, key: str | None, out: TextIO, err: TextIO) -> int:
    """Drain or resume. A drain waits until nothing runs there and says so; Ctrl-C ends only the waiting.

    1: no such instance or host, or no router.
    """
    talk = Talk(router_url, key=key)
    try:
        fleet = talk.post(f"/admin/{verb}", FleetStatus, {"name": name})
        names = [instance.id for instance in fleet.instances]
        if verb == "resume":
            print(f"resumed: {', '.join(names)}", file=out)
            return 0
        return _wait_until_empty(talk, name, names, out)
    except NoAnswer as error:
        print(error, file=err)
        return 1
    except KeyboardInterrupt:
        print("\nstill draining; llama-router status shows how far it is", file=err)
        return 1


def reload(router_url: str, *, key: str | None, out: TextIO, err: TextIO) -> int:
    """Have the registry read again. 1: it is broken, and the router goes on with the old one."""
    try:
        report = Talk(router_url, key=key).post("/admin/reload", ReloadReport, {})
    except NoAnswer as error:
        print(error, file=err)
        return 1
    print(f"reloaded: added {_listed(report.added)}, removed {_listed(report.removed)}", file=out)
    for setting in report.needs_restart:
        print(f"{setting} has changed too; that takes a restart", file=out)
    return 0


def _wait_until_empty(talk: Talk, asked_for: str, names: list[str], out: TextIO) -> int:
    """Wait for the calls at these, also at those that a reload removes meanwhile; not at who serves again."""
    told = ""
    with _interruption() as interrupted:
        while True:
            fleet = talk.get("/admin/fleet", FleetStatus)
            left = [one for one in fleet.instances if one.id in names and one.state == "draining"]
            removed = [one for one in fleet.removed if one.id in names]
            running = sum(_running(instance) for instance in (*left, *removed))
            where = ", ".join([one.id for one in left] + [f"{one.id} (removed from the registry)" for one in removed])
            now = f"draining {where}: {running} running"
            if running and now != told:
                told = now
                print(now, file=out, flush=True)
            if not running:
                known = {one.id for one in fleet.instances}
                print("\n".join(_outcome(asked_for, names, {one.id for one in left}, known)), file=out, flush=True)
                return 0
            time.sleep(EVERY_S)
            if interrupted.is_set():
                raise KeyboardInterrupt


@contextlib.contextmanager
def _interruption() -> Iterator[threading.Event]:
    """Set by Ctrl-C, which is raised as ever too: an exception alone gets lost where Python drops it (a finalizer)."""
    interrupted = threading.Event()

    def on_interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _outcome(asked_for: str, names: list[str], left: set[str], known: set[str]) -> list[str]:
    """What became of those that were to be drained. `left`: they still are; `known`: all in the registry."""
    empty = [name for name in names if name in left]
    removed = [name for name in names if name not in known]
    again = [name for name in names if name in known - left]
    lines = []
    if empty:
        take = "they take" if len(empty) > 1 else "it takes"
        lines.append(f"{', '.join(empty)}: empty; {take} no calls until: llama-router resume {asked_for}")
    if removed:
        lines.append(f"{', '.join(removed)}: removed from the registry, and no call runs there")
    if again:
        lines.append(f"{', '.join(again)}: not draining any more; somebody resumed it, or the registry changed")
    return lines


def _running(instance: InstanceStatus) -> int:
    return instance.busy + instance.closing


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"
