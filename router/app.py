"""build: from a registry file to a running Router. The one file that knows everyone."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException

from router.admit.desk import Desk
from router.admit.retries import RetryBudget
from router.balance.book import Book
from router.balance.policy import policy
from router.clock import monotonic_s, wall_s
from router.config.address import is_loopback, split_listen
from router.config.keys import KeyEntry
from router.config.problem import ConfigInvalid, ConfigProblem
from router.config.schema import RouterFile
from router.edge import protocol
from router.edge.admin import ReloadReport, admin_routes
from router.edge.auth import Keys
from router.edge.chat import chat_routes
from router.edge.messages import message_routes
from router.edge.models import model_routes
from router.edge.ops import ops_routes
from router.edge.rescue import answer_bug, answer_http_exception, answer_router_error, tell
from router.errors import RouterError
from router.fleet.fleet import Fleet
from router.fleet.health import Event
from router.fleet.instance import InstanceId
from router.fleet.load import HoldTimes, TokenSizes
from router.fleet.registry import build as build_registry
from router.observe.log import CallLog
from router.observe.metrics import Metrics
from router.observe.supervise import Supervisor
from router.probe.poll import Poll
from router.probe.reload import Stamp, watch_files
from router.relay.admission import Admission, predict
from router.relay.corridor import Calls, Corridor, Running, Settings, Weights
from router.relay.counted import Counted
from router.relay.explain import Explainer
from router.relay.pool import MAX_IDLE_S, Pools
from router.relay.skills import Skills
from router.wire.record import CallRecord

_log = logging.getLogger("llama_router")

Load = Callable[[], tuple[RouterFile, tuple[KeyEntry, ...] | None]]


class Router:
    """One replica: the application, and what an operator can do to it."""

    def __init__(
        self,
        file: RouterFile,
        keys: tuple[KeyEntry, ...] | None,
        *,
        load: Load | None = None,
        files: Sequence[Path] = (),
        stamps: dict[Path, Stamp | None] | None = None,
    ) -> None:
        """`keys` None: nobody is asked for a key. `load` reads the files anew; None: there is nothing to reload.

        `files`: what is watched for changes, the registry first; `stamps`: theirs, from before they were read.
        """
        self._file = self._started_with = file
        self._load = load
        self._files = files
        self._stamps = stamps
        self._fleet = fleet = Fleet(build_registry(file))
        hold_times = HoldTimes()
        self._book = book = Book()
        self._desk = desk = Desk(
            choose=policy(file.placement.policy, book),
            predict=lambda pool, ahead, view: predict(hold_times, pool, ahead, view),
        )
        self._admission = admission = Admission(fleet, desk, book, hold_times)
        self._metrics = Metrics()
        self._call_log = CallLog(sys.stdout.buffer)
        self._keys = Keys(keys)
        self._pools = Pools(connect_s=file.deadlines.connect_s)
        running = Running()
        self._poll = Poll(fleet, file.poll, changed=admission.ask, runs=running, cold=book.restarted)
        self._corridor = Corridor(
            fleet=fleet,
            admission=admission,
            book=book,
            retries=RetryBudget(),
            token_sizes=TokenSizes(),
            pools=self._pools,
            skills=Skills(),
            counted=Counted(),
            running=running,
            calls=Calls(),
            weights=Weights(file.limits.key_bytes),
            settings=Settings(file.deadlines, file.queue.deadline_s),
            record=self._record,
            observe=self._poll.observe,
            suspect=self._poll.suspect,
            closing=self._poll.closing,
            tell=tell,
        )
        self._apply(file)
        self._metrics.watch(lambda: fleet.view, admission.waiting)
        self._metrics.watch_log(lambda: self._call_log.lost)
        self.app = self._application(file)

    def __repr__(self) -> str:
        return f"Router({self._fleet!r}, {self._corridor.calls!r})"

    # ------------------------------------------------------------ what an operator can do

    def observe(self, instance_id: InstanceId, event: Event) -> None:
        """Drain or resume an instance; one that was resumed is looked at now."""
        instance = self._fleet.view.rows[instance_id].instance
        self._poll.observe(instance, event)
        self._poll.suspect(instance)

    def reload(self) -> ReloadReport:
        """Read the files again and follow them, whole or not at all.

        Raises:
            ConfigInvalid: with file, line, column and path of every problem; nothing has changed then.

        """
        if self._load is None:
            return ReloadReport(added=(), removed=(), needs_restart=())
        try:
            file, keys = self._load()
        except OSError as error:
            raise ConfigInvalid([_unreadable(error)]) from None
        if keys is None and not is_loopback(split_listen(self._started_with.listen)[0]):
            raise ConfigInvalid([_open_to_all(self._files)])
        registry = build_registry(file)
        before = self._started_with
        restart = tuple(name for name in ("listen", "cors", "log") if getattr(file, name) != getattr(before, name))
        new, gone = self._fleet.adopt(registry)
        self._book.forget([*gone, *(one.id for one in new)])
        self._keys.replace(keys)
        self._apply(file)
        self._poll.adopt(file.poll)
        self._pools.forget(gone)
        self._corridor.skills.forget(gone)
        self._corridor.counted.clear()
        self._admission.ask()
        report = ReloadReport(added=tuple(one.id for one in new), removed=tuple(gone), needs_restart=restart)
        _log.info("reloaded: added %s, removed %s", list(report.added) or "none", list(report.removed) or "none")
        for name in restart:
            _log.warning("%s has changed in the registry; that takes a restart", name)
        return report

    def stop_taking_calls(self) -> None:
        """From now on /readyz says no and new calls get 503; running ones go on."""
        self._corridor.calls.stopping = True

    @property
    def shutdown_grace_s(self) -> float:
        """How long running calls may go on after that."""
        return self._file.deadlines.shutdown_grace_s

    @property
    def calls_under_way(self) -> int:
        """Calls that wait or run."""
        return len(self._corridor.calls)

    def end_calls(self) -> None:
        """Tell those that still run that it is over: one error each."""
        self._corridor.calls.stop_all()

    # ------------------------------------------------------------ inside

    def _apply(self, file: RouterFile) -> None:
        """Set what holds for the calls to come. uvicorn makes the connections, so their limits stand on the class."""
        max_waiting = None if file.queue.max_waiting == "auto" else file.queue.max_waiting
        if file.placement != self._file.placement:
            self._desk.choose = policy(file.placement.policy, self._book)
        self._file = file
        self._admission.set_bounds(max_waiting=max_waiting, max_bytes=file.queue.max_bytes)
        self._corridor.settings = Settings(file.deadlines, file.queue.deadline_s)
        self._corridor.weights.max_bytes = file.limits.key_bytes
        self._pools.connect_s = file.deadlines.connect_s
        self._log_calls = file.log.level in {"debug", "info"}
        refused = self._metrics.refused
        protocol.RouterProtocol.max_body_bytes = file.limits.body_bytes
        protocol.RouterProtocol.max_connections = file.limits.connections
        protocol.RouterProtocol.on_refusal = staticmethod(lambda error: refused.series((error.cause,)).inc())

    def _record(self, call: CallRecord) -> None:
        self._metrics.record(call)
        if self._log_calls:
            self._call_log.record(call)

    def _application(self, file: RouterFile) -> Litestar:
        now_s = wall_s()
        started_at = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        fleet, keys, calls = self._fleet, self._keys, self._corridor.calls
        explainer = Explainer(self._corridor, self._desk, lambda: self._file.placement.policy)
        return Litestar(
            route_handlers=[
                *message_routes(self._corridor, keys, _origins(file)),
                *chat_routes(self._corridor, keys, _origins(file)),
                *model_routes(fleet, keys, started_at=started_at, started_s=int(now_s)),
                *ops_routes(fleet, self._metrics, lambda: calls.stopping),
                *admin_routes(fleet, self._admission, self, keys, explainer),
            ],
            exception_handlers={
                RouterError: answer_router_error,
                HTTPException: answer_http_exception,
                Exception: answer_bug,
            },
            lifespan=[self._lifespan],
            cors_config=CORSConfig(allow_origins=list(file.cors.origins)) if file.cors else None,
            openapi_config=None,
            logging_config=None,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Litestar) -> AsyncGenerator[None, None]:
        """What runs beside the calls, started before the first and ended after the last."""
        loop = asyncio.get_running_loop()
        async with Supervisor(self._metrics.loop_failures) as supervisor:
            self._poll.start(supervisor)
            supervisor.start("sweep", self._sweep)
            if self._load is not None:
                supervisor.start("reload", lambda: watch_files(self._watched, self._reload_or_say, self._stamps))
                loop.add_signal_handler(signal.SIGHUP, self._reload_or_say)
            try:
                yield
            finally:
                with contextlib.suppress(ValueError, NotImplementedError):
                    loop.remove_signal_handler(signal.SIGHUP)
                self._pools.close_idle()

    def _watched(self) -> list[Path]:
        keys_file = self._file.keys_file
        extra = [self._files[0].parent / keys_file] if keys_file and self._files else []
        return [*self._files, *extra]

    def _reload_or_say(self) -> None:
        """A reload that nobody waits for: what is wrong goes to the log."""
        try:
            self.reload()
        except ConfigInvalid as error:
            _log.error("the registry was not reloaded, everything stays as it was:\n%s", error.message)

    async def _sweep(self) -> None:
        """Deadlines of client connections, idle upstream connections, and how late this very loop is."""
        while True:
            before_s = monotonic_s()
            await asyncio.sleep(protocol.SWEEP_S)
            self._metrics.loop_lag.set(max(0.0, monotonic_s() - before_s - protocol.SWEEP_S))
            self._metrics.tasks.set(len(asyncio.all_tasks()))
            protocol.sweep()
            self._pools.close_idle(older_than_s=MAX_IDLE_S)
            now_s = monotonic_s()
            self._fleet.forget_departed(now_s)
            settled = [self._fleet.settle_closing(id_, now_s) for id_ in self._fleet.closing()]
            if any(settled):
                self._admission.ask()


def _origins(file: RouterFile) -> frozenset[bytes]:
    return frozenset(origin.encode() for origin in file.cors.origins) if file.cors else frozenset()


def _open_to_all(files: Sequence[Path]) -> ConfigProblem:
    name = files[0].name if files else "router.yaml"
    reason = "this router listens on an address that other machines reach; to ask nobody for a key takes a restart"
    return ConfigProblem(file=name, line=1, column=1, path="keys_file", reason=reason)


def _unreadable(error: OSError) -> ConfigProblem:
    name = Path(str(error.filename)).name
    return ConfigProblem(file=name, line=1, column=1, path="", reason=f"cannot be read: {error.strerror}")


def build(
    file: RouterFile,
    keys: tuple[KeyEntry, ...] | None,
    *,
    load: Load | None = None,
    files: Sequence[Path] = (),
    stamps: dict[Path, Stamp | None] | None = None,
) -> Router:
    """Make a router; see `Router` for the arguments."""
    return Router(file, keys, load=load, files=files, stamps=stamps)
