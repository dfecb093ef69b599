"""`llama-router drain`, `resume` and `reload`."""

import time
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
        return _wait_until_empty(talk, names, out)
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


def _wait_until_empty(talk: Talk, names: list[str], out: TextIO) -> int:
    told = -1
    while True:
        here = [one for one in talk.get("/admin/fleet", FleetStatus).instances if one.id in names]
        running = sum(_running(instance) for instance in here)
        if running != told:
            told = running
            print(f"draining {', '.join(names)}: {running} running" if running else _empty(names), file=out, flush=True)
        if not running:
            return 0
        time.sleep(EVERY_S)


def _empty(names: list[str]) -> str:
    return f"{', '.join(names)}: empty; it takes no calls until: llama-router resume {names[0]}"


def _running(instance: InstanceStatus) -> int:
    return instance.busy + instance.closing


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"
