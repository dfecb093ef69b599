"""Chaos: the router under load while its instances die, hang, lie and change, and its registry with them.

    python -m tests.system.chaos --seconds 60 --seed 7

The plan of troubles comes from the seed alone; what exactly each meets depends on the machine. Two real llama-servers
and three scripted instances (one of them never troubled, in a pool of its own) stand behind a router process;
callers check every answer. Everything is on the loopback, bounded in time, and ends with the run.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import msgspec

from tests.rig.router import MODEL, RouterProcess, registry
from tests.system.chaos_callers import SIDE_MODEL, Caller, Promises
from tests.system.chaos_fleet import NOTICED_S, Real, Scripted, Subject
from tests.system.chaos_report import Report, Window

CALLERS = 24
IN_TROUBLE = 2  # of the pool at a time, so that there is always somebody to go to
SLACK_S = 3.0
"""How long after a trouble an instance may take to be found well and used again."""
RELOAD_EVERY_S = 10.0
SETTLE_S = 12.0
QUICK: Mapping[str, object] = {
    "deadlines": {"head": "3s", "idle": "5s", "hold": "1s", "call": "60s", "shutdown_grace": "5s"},
    "poll": {"every": "500ms", "deadline": "300ms"},
    "queue": {"deadline": "40s"},
}
QUICK_PROMISES = Promises(call_s=65.0, silence_s=3.0)
DEFAULT_PROMISES = Promises(call_s=125.0, silence_s=12.5)


class Act(msgspec.Struct, frozen=True):
    """One entry of the plan: at this second of the run, this trouble for this long."""

    at_s: float
    subject: str
    trouble: str
    for_s: float


class Chaos:
    """One run."""

    def __init__(self, *, seconds: float, seed: int, rules: Mapping[str, object], promises: Promises) -> None:
        self._seconds = seconds
        self._dice = random.Random(seed)
        self._rules = rules
        self._promises = promises
        self.report = Report(seed=seed, seconds=seconds)
        self.log = ""  # the router's, once the run is over
        self._pool: list[Subject] = [
            Real("real-1", MODEL),
            Real("real-2", MODEL),
            Scripted("fake-1", MODEL, random.Random(f"{seed}/fake-1")),
            Scripted("fake-2", MODEL, random.Random(f"{seed}/fake-2")),
        ]
        self._side = Scripted("side-1", SIDE_MODEL, random.Random(f"{seed}/side-1"))
        self._spare = Scripted("spare-1", MODEL, random.Random(f"{seed}/spare-1"))
        self._spare.listed = False
        self._t0_s = time.monotonic()
        self._stopped = False
        self._file = asyncio.Lock()
        self._router: RouterProcess
        self._admin: httpx.AsyncClient

    def _now(self) -> float:
        return time.monotonic() - self._t0_s

    # ------------------------------------------------------------ the run

    def run(self) -> Report:
        """Start everything, let it happen, stop everything."""
        with ExitStack() as stack:
            for subject in (*self._pool, self._side, self._spare):
                stack.enter_context(subject)
            self._router = stack.enter_context(RouterProcess(self._registry()))
            self._router.wait_ready()
            asyncio.run(self._main())
            code = self._stop_router()
            self.log = self._router.log
            self._read_log(self.log)
            if code:
                self.report.faults.append(f"it ended with code {code}")
        self.report.excuse({MODEL: [it.name for it in self._pool], SIDE_MODEL: [self._side.name]}, SLACK_S)
        return self.report

    def _stop_router(self) -> int:
        self._router.send(signal.SIGTERM)
        return self._router.wait(20.0)

    async def _main(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self._router.url, timeout=10.0, trust_env=False, limits=limits) as admin:
            self._admin = admin
            await self._until(self._all_serve, 10.0)
            await asyncio.sleep(1.0)
            files = self._router.open_files
            self._t0_s = time.monotonic()
            rss_mib = await self._under_load()
            await self._settle(files)
            self.report.files = (files, self._router.open_files)
            self.report.rss_mib = (rss_mib, self._router.rss_bytes / 2**20)
            if self.report.rss_mib[1] > rss_mib * 1.3 + 20:
                self.report.leaked.append("memory: {:.0f} -> {:.0f} MiB".format(*self.report.rss_mib))

    async def _under_load(self) -> float:
        """Load and troubles, until both are over; returns the router's memory after its first seconds."""
        port = self._router.port
        callers = [
            Caller(number, port=port, report=self.report, promises=self._promises, clock=self._now)
            for number in range(CALLERS)
        ]
        async with self._watching(), asyncio.TaskGroup() as group:
            for caller in callers:
                group.create_task(caller.run(lambda: self._stopped))
            await asyncio.sleep(min(3.0, self._seconds / 5))
            rss_mib = self._router.rss_bytes / 2**20
            async with asyncio.TaskGroup() as acting:
                acting.create_task(self._reload_often())
                for act in self.plan():
                    await asyncio.sleep(max(0.0, act.at_s - self._now()))
                    acting.create_task(self._perform(act))
            await asyncio.sleep(max(0.0, self._seconds - self._now()))
            self._stopped = True
        return rss_mib

    # ------------------------------------------------------------ troubles

    def plan(self) -> list[Act]:
        """The troubles of the whole run, from the seed alone."""
        dice = self._dice
        acts: list[Act] = []
        until: dict[str, float] = {}
        at_s = min(3.0, self._seconds / 5)
        bags: dict[str, list[str]] = {}
        while True:
            at_s += dice.uniform(0.2, 1.2)
            well = [it for it in self._pool if until.get(it.name, 0.0) < at_s]
            if len(self._pool) - len(well) >= IN_TROUBLE:
                continue
            subject = dice.choice(well)
            # From a bag, so that each trouble comes before any comes again.
            bag = bags.setdefault(subject.name, [])
            if not bag:
                bag += ["drain", "rename", "remove", *subject.troubles]
                dice.shuffle(bag)
            act = Act(at_s, subject.name, bag.pop(), dice.uniform(0.5, 4.0))
            back_s = 2 * NOTICED_S if act.trouble == "another model" else 0.0
            until[subject.name] = at_s + act.for_s * 1.5 + back_s + 1.5
            if until[subject.name] > self._seconds - 1.0:
                return acts
            acts.append(act)

    async def _perform(self, act: Act) -> None:
        subject = next(it for it in self._pool if it.name == act.subject)
        trouble = act.trouble.strip()
        if subject.busy_with is not None or sum(it.busy_with is not None for it in self._pool) >= IN_TROUBLE:
            self.report.actions["skipped"] += 1
            return
        subject.busy_with = trouble
        self.report.actions[trouble] += 1
        start_s = self._now()
        operator = {"drain": self._drain, "rename": self._rename, "remove": self._remove}
        if trouble in operator:
            await operator[trouble](subject, act.for_s)
        else:
            await subject.troubles[act.trouble](act.for_s)
        self.report.windows.append(Window(subject.name, trouble, start_s, self._now()))
        await asyncio.sleep(1.0)
        subject.busy_with = None

    async def _drain(self, subject: Subject, for_s: float) -> None:
        await self._order("drain", subject.id, "draining")
        await asyncio.sleep(for_s)
        await self._order("resume", subject.id, "unknown")

    async def _order(self, verb: str, id_: str, state: str) -> None:
        answer = await self._admin.post(f"/admin/{verb}", json={"name": id_})
        said = answer.json()["instances"][0]["state"] if answer.status_code == 200 else answer.text
        if said != state:
            self.report.operator.append(f"{verb} {id_} at {self._now():.1f} s: {said}")

    async def _rename(self, subject: Subject, for_s: float) -> None:
        subject.id = f"{subject.name}-renamed"
        await self._reload()
        await asyncio.sleep(for_s)
        subject.id = subject.name
        await self._reload()

    async def _remove(self, subject: Subject, for_s: float) -> None:
        subject.listed = False
        await self._reload()
        await asyncio.sleep(for_s / 2)
        subject.listed = True
        await self._reload()

    # ------------------------------------------------------------ reloads

    def _registry(self) -> str:
        listed = [it.entry() for it in (*self._pool, self._spare) if it.listed]
        side = {SIDE_MODEL: {"instances": [dict(self._side.entry())]}}
        return registry(listed, models=side, **self._rules)

    async def _reload_often(self) -> None:
        """Add and remove the spare; in between a broken file, which must change nothing."""
        for turn in range(1000):
            every_s = min(RELOAD_EVERY_S, self._seconds / 6)
            await asyncio.sleep(every_s)
            if self._now() > self._seconds - every_s - SLACK_S:
                return
            if turn % 3 == 1:
                await self._break_file()
                continue
            self._spare.listed = turn % 3 == 0
            await self._reload()

    async def _reload(self) -> None:
        """Write the registry and have it followed: by order, by signal, or by being watched."""
        async with self._file:
            way = self._dice.choice(("order", "order", "signal", "watch"))
            self.report.actions[f"reload by {way}"] += 1
            self._router.write_config(self._registry())
            if way == "order":
                answer = await self._admin.post("/admin/reload", json={})
                if answer.status_code != 200:
                    self.report.operator.append(f"reload: {answer.status_code} {answer.text[:200]}")
            elif way == "signal":
                self._router.send(signal.SIGHUP)
            wanted = {it.id for it in (*self._pool, self._side, self._spare) if it.listed}
            if not await self._until(lambda: self._listed(wanted), 6.0):
                self.report.operator.append(f"reload by {way} at {self._now():.1f} s was not followed")

    async def _break_file(self) -> None:
        async with self._file:
            self.report.actions["broken registry"] += 1
            good = self._registry()
            before = await self._ids()
            broken = self._dice.choice(("models: [", f"{good}nonsense: 1\n", f"{good}- [\n", ""))
            self._router.write_config(broken)
            answer = await self._admin.post("/admin/reload", json={})
            if answer.status_code != 400 or "error" not in answer.json():
                self.report.operator.append(f"a broken registry: {answer.status_code} {answer.text[:200]}")
            await asyncio.sleep(2.5)  # it is watched, too
            if await self._ids() != before:
                self.report.operator.append("a broken registry changed something")
            self._router.write_config(good)

    async def _fleet(self) -> dict[str, Any]:
        fleet: dict[str, Any] = (await self._admin.get("/admin/fleet")).json()
        return fleet

    async def _ids(self) -> set[str]:
        return {it["id"] for it in (await self._fleet())["instances"]}

    async def _listed(self, wanted: set[str]) -> bool:
        return await self._ids() == wanted

    async def _all_serve(self) -> bool:
        return all(it["state"] == "serving" for it in (await self._fleet())["instances"])

    async def _idle(self) -> bool:
        fleet = await self._fleet()
        waiting = sum(it["waiting"] for it in fleet["models"])
        return not waiting and not any(it["busy"] or it["closing"] for it in fleet["instances"])

    async def _until(self, met: Any, within_s: float) -> bool:
        due_s = time.monotonic() + within_s
        while not await met():
            if time.monotonic() > due_s:
                return False
            await asyncio.sleep(0.1)
        return True

    # ------------------------------------------------------------ watching

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._watch_leases())]
            tasks += [group.create_task(self._watch_inside(it)) for it in self._pool if isinstance(it, Real)]
            yield
            for task in tasks:
                task.cancel()

    async def _watch_leases(self) -> None:
        while True:
            await asyncio.sleep(0.3)
            for it in (await self._fleet())["instances"]:
                if it["slots"] and it["busy"] + it["closing"] > it["slots"]:
                    self.report.overbooked.append(f"{it} at {self._now():.1f} s")

    async def _watch_inside(self, real: Real) -> None:
        """Nothing may ever wait inside a llama-server: there nobody can move it."""
        async with httpx.AsyncClient(timeout=1.0, trust_env=False) as client:
            while True:
                await asyncio.sleep(0.2)
                if not real.answering:
                    continue
                at_s = self._now()
                try:
                    text = (await client.get(f"{real.url}/metrics")).text
                except httpx.HTTPError:
                    continue
                deferred = text.partition("\nllamacpp:requests_deferred ")[2].partition("\n")[0]
                if float(deferred or 0.0) > 0:
                    doing = f"in trouble: {real.busy_with}" if real.busy_with else "well"
                    self.report.deferred.append(f"{deferred} in {real.id} at {at_s:.1f} s, {doing}")

    # ------------------------------------------------------------ afterwards

    async def _settle(self, files: int) -> None:
        """Everything that was taken must come back."""
        report = self.report
        if not await self._until(self._idle, 5.0):
            fleet = await self._fleet()
            report.leaked.append(f"leases or tickets: {json.dumps(fleet)}")

        async def closed() -> bool:
            return self._router.open_files <= files + 4

        if not await self._until(closed, SETTLE_S):
            left = ", ".join(sorted(sockets_of(self._router.pid)))
            report.leaked.append(f"open files: {files} before, {self._router.open_files} after: {left}")
        report.states = {it["id"]: it["state"] for it in (await self._fleet())["instances"]}
        metrics = (await self._admin.get("/metrics")).text
        for line in metrics.splitlines():
            if line.startswith("llama_router_loop_failures_total{") and not line.endswith(" 0.0"):
                report.faults.append(line)

    def _read_log(self, log: str) -> None:
        """Failovers come from the records of the calls, faults from everything else."""
        lines = log.splitlines()
        for number, line in enumerate(lines):
            if line.startswith("{"):
                self._read_record(line)
            elif line.startswith("Traceback"):
                frames = [*takewhile(lambda it: it.startswith(" "), lines[number + 1 :])]
                end = number + 1 + len(frames)
                self.report.faults.append("\n".join([lines[number - 1], *frames[-4:], *lines[end : end + 1]]))
            elif ("ERROR" in line or "CRITICAL" in line) and "the registry was not reloaded" not in line:
                self.report.faults.append(line)

    def _read_record(self, line: str) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            return
        failed = record.get("failed_on", [])
        self.report.attempts_failed += len(failed)
        self.report.causes.update(record.get("causes", []))
        self.report.failed_over += bool(failed) and record["outcome"] == "ok"
        if record.get("cause") == "router_error":
            self.report.faults.append(line)


def sockets_of(pid: int) -> list[str]:
    """The TCP sockets of a process: state and ports, as the kernel has them (proc(5); 01 established, 08 close wait)."""
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(file.readlink().name.removeprefix("socket:[").rstrip("]"))
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if rest[5] in inodes:
            ports = [int(address.rpartition(":")[2], 16) for address in (local, remote)]
            found.append(f"{ports[0]}->{ports[1]} state {state}")
    return found


def run(*, seconds: float, seed: int, defaults: bool = False) -> Report:
    """One run; `defaults`: with the registry's own deadlines instead of short ones."""
    rules: Mapping[str, object] = {} if defaults else QUICK
    promises = DEFAULT_PROMISES if defaults else QUICK_PROMISES
    return Chaos(seconds=seconds, seed=seed, rules=rules, promises=promises).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos", description="The router under chaos.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the load lasts (default 60)")
    parser.add_argument("--seed", type=int, default=7, help="which troubles come, and when (default 7)")
    parser.add_argument("--defaults", action="store_true", help="with the registry's own deadlines")
    parser.add_argument("--plan", action="store_true", help="only print the plan of troubles")
    parser.add_argument("--log", help="write the router's log to this file")
    args = parser.parse_args()
    rules: Mapping[str, object] = {} if args.defaults else QUICK
    promises = DEFAULT_PROMISES if args.defaults else QUICK_PROMISES
    chaos = Chaos(seconds=args.seconds, seed=args.seed, rules=rules, promises=promises)
    if args.plan:
        for act in chaos.plan():
            print(f"{act.at_s:7.1f} s  {act.subject:8} {act.trouble} for {act.for_s:.1f} s")
        return 0
    report = chaos.run()
    if args.log:
        Path(args.log).write_text(chaos.log)
    print(report)
    return 1 if report.violations() else 0


if __name__ == "__main__":
    sys.exit(main())
