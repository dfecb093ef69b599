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
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.rig.router import MODEL, RouterProcess, registry
from tests.system.chaos_callers import Caller, Promises
from tests.system.chaos_fleet import SIDE_MODEL, Real, Scripted, Subject
from tests.system.chaos_log import read_log, sockets_of
from tests.system.chaos_plan import IN_TROUBLE, OPERATOR, Act, plan
from tests.system.chaos_report import RENAMED, Report, Window

CALLERS = 24
SLACK_S = 3.0
"""How long after a trouble an instance may take to be found well and used again."""
RELOAD_EVERY_S = 10.0
SETTLE_S = 12.0
AFTER_S = 240.0
"""No run takes longer than this beyond its load, whatever happens."""
QUICK: Mapping[str, object] = {
    "deadlines": {"head": "3s", "idle": "5s", "hold": "1s", "call": "60s", "shutdown_grace": "5s"},
    "poll": {"every": "500ms", "deadline": "300ms"},
    "queue": {"deadline": "40s"},
}
QUICK_PROMISES = Promises(call_s=65.0, silence_s=3.0)
DEFAULT_PROMISES = Promises(call_s=125.0, silence_s=12.5)


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
            module = "tests.rig.impatient" if self._rules else "router"
            self._router = stack.enter_context(RouterProcess(self._registry(), module=module))
            self._router.wait_ready()
            asyncio.run(asyncio.wait_for(self._main(), self._seconds + AFTER_S))
            code = self._stop_router()
            self.log = self._router.log
            if code:
                self.report.faults.append(f"it ended with code {code}")
        pools = {MODEL: [it.name for it in self._pool], SIDE_MODEL: [self._side.name]}
        self.report.excuse(pools, SLACK_S, read_log(self.log, self.report))
        return self.report

    def _stop_router(self) -> int:
        self._router.send(signal.SIGTERM)
        return self._router.wait(20.0)

    async def _main(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self._router.url, timeout=10.0, trust_env=False, limits=limits) as admin:
            self._admin = admin
            assert await self._until(self._all_serve, 20.0), "the fleet did not come up"
            await asyncio.sleep(1.0)
            files, tasks = self._router.open_files, await self._tasks()
            self._t0_s = time.monotonic()
            rss_mib = await self._under_load()
            await self._settle(files, tasks)
            self.report.files = (files, self._router.open_files)
            self.report.tasks = (tasks, await self._tasks())
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
            await asyncio.sleep(1.0)
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
        return plan(self._pool, self._seconds, self._dice)

    async def _perform(self, act: Act) -> None:
        """Get into trouble and out of it; not while too many others are still in theirs."""
        blackout = act.trouble == "blackout"
        subjects = self._pool if blackout else [it for it in self._pool if it.name == act.subject]
        in_trouble = sum(it.busy_with is not None for it in self._pool)
        if in_trouble and (blackout or in_trouble >= IN_TROUBLE or subjects[0].busy_with):
            self.report.actions["skipped"] += 1
            return
        self.report.actions[act.trouble] += 1
        await asyncio.gather(*(self._trouble(it, "kill" if blackout else act.trouble, act.for_s) for it in subjects))

    async def _trouble(self, subject: Subject, trouble: str, for_s: float) -> None:
        subject.busy_with = trouble
        start_s = self._now()
        operator = (self._drain, self._rename, self._remove, self._move)
        if trouble in OPERATOR:
            await operator[OPERATOR.index(trouble)](subject, for_s)
        else:
            await subject.troubles[trouble](for_s)
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
        subject.id = f"{subject.name}{RENAMED}"
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

    async def _move(self, subject: Subject, for_s: float) -> None:
        """Give its id a new address; the old process goes on until its calls are over."""
        try:
            async with subject.moving():
                # By order: the list of ids is the same, and so cannot show whether the file was read.
                await self._reload("order")
                await asyncio.sleep(for_s)
        except TimeoutError:
            self.report.operator.append(
                f"move {subject.id} at {self._now():.1f} s: calls at the old address do not end"
            )

    # ------------------------------------------------------------ reloads

    def _registry(self) -> str:
        listed = [it.entry() for it in (*self._pool, self._spare) if it.listed]
        side = {SIDE_MODEL: {"instances": [dict(self._side.entry())]}}
        rules: dict[str, Any] = dict(self._rules)
        return registry(listed, models=side, **rules)

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

    async def _reload(self, way: str = "") -> None:
        """Write the registry and have it followed: by order, by signal, or by being watched; by default any."""
        async with self._file:
            way = way or self._dice.choice(("order", "order", "signal", "watch"))
            self.report.actions[f"reload by {way}"] += 1
            # Now: others change their minds while this one waits.
            wanted = {it.id for it in (*self._pool, self._side, self._spare) if it.listed}
            self._router.write_config(self._registry())
            if way == "order":
                answer = await self._admin.post("/admin/reload", json={})
                if answer.status_code != 200:
                    self.report.operator.append(f"reload: {answer.status_code} {answer.text[:200]}")
            elif way == "signal":
                self._router.send(signal.SIGHUP)
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

    async def _until(self, met: Callable[[], Awaitable[bool]], within_s: float) -> bool:
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
            tasks = [group.create_task(self._watch_leases()), group.create_task(self._watch_lag())]
            tasks += [group.create_task(self._watch_inside(it)) for it in self._pool if isinstance(it, Real)]
            yield
            for task in tasks:
                task.cancel()

    async def _watch_lag(self) -> None:
        """How late this very process is: on a busy machine it is not the router that was silent."""
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(0.1)
            self.report.lag_s = max(self.report.lag_s, time.monotonic() - before_s - 0.1)

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

    async def _tasks(self) -> int:
        """How many asyncio tasks the router has."""
        found = re.findall(r"^llama_router_tasks (\S+)$", (await self._admin.get("/metrics")).text, re.MULTILINE)
        assert found, "the router does not tell how many tasks it has"
        return int(float(found[0]))

    async def _settle(self, files: int, tasks: int) -> None:
        """Everything that was taken must come back."""
        report = self.report
        self._spare.listed = False
        await self._reload("order")
        if not await self._until(self._idle, 5.0):
            fleet = await self._fleet()
            report.leaked.append(f"leases or tickets: {json.dumps(fleet)}")

        async def closed() -> bool:
            return self._router.open_files <= files + 2

        if not await self._until(closed, SETTLE_S):
            left = ", ".join(sorted(sockets_of(self._router.pid)))
            report.leaked.append(f"open files: {files} before, {self._router.open_files} after: {left}")

        async def done() -> bool:
            return await self._tasks() <= tasks

        if not await self._until(done, SETTLE_S):
            report.leaked.append(f"tasks: {tasks} before, {await self._tasks()} after")
        report.states = {it["id"]: it["state"] for it in (await self._fleet())["instances"]}
        metrics = (await self._admin.get("/metrics")).text
        for line in metrics.splitlines():
            if line.startswith("llama_router_loop_failures_total{") and not line.endswith(" 0.0"):
                report.faults.append(line)


def chaos(*, seconds: float, seed: int, defaults: bool = False) -> Chaos:
    """Make a run; `defaults`: with the registry's own deadlines instead of short ones."""
    rules: Mapping[str, object] = {} if defaults else QUICK
    promises = DEFAULT_PROMISES if defaults else QUICK_PROMISES
    return Chaos(seconds=seconds, seed=seed, rules=rules, promises=promises)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos", description="The router under chaos.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the load lasts (default 60)")
    parser.add_argument("--seed", type=int, default=7, help="which troubles come, and when (default 7)")
    parser.add_argument("--defaults", action="store_true", help="with the registry's own deadlines")
    parser.add_argument("--plan", action="store_true", help="only print the plan of troubles")
    parser.add_argument("--log", type=Path, help="write the router's log to this file")
    args = parser.parse_args()
    it = chaos(seconds=args.seconds, seed=args.seed, defaults=args.defaults)
    if args.plan:
        for act in it.plan():
            print(f"{act.at_s:7.1f} s  {act.subject:9} {act.trouble} for {act.for_s:.1f} s")  # noqa: T201  # its job
        return 0
    report = it.run()
    if args.log:
        args.log.write_text(it.log)
    print(report)  # noqa: T201  # the same
    return 1 if report.violations() else 0


if __name__ == "__main__":
    sys.exit(main())
