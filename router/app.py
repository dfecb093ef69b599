"""build: from a registry file to a Litestar application. The one file that knows everyone."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException

from router.admit.desk import Desk
from router.balance.policy import choose
from router.clock import monotonic_s, wall_s
from router.config.keys import KeyEntry
from router.config.schema import RouterFile
from router.edge import protocol
from router.edge.admin import admin_routes
from router.edge.auth import Keys
from router.edge.messages import message_routes
from router.edge.models import model_routes
from router.edge.ops import ops_routes
from router.edge.rescue import answer_bug, answer_http_exception, answer_router_error, tell
from router.errors import RouterError
from router.fleet.fleet import Fleet
from router.fleet.registry import build as build_registry
from router.observe.log import CallLog
from router.observe.metrics import Metrics
from router.probe.poll import Poll
from router.relay.admission import Admission
from router.relay.corridor import Corridor, Running
from router.relay.pool import Pools
from router.wire.record import CallRecord

# Connections to instances are looked at this often; the pool never hands out a stale one, this only closes them.
POOL_SWEEP_S = 2.0


def build(file: RouterFile, key_entries: tuple[KeyEntry, ...] | None) -> Litestar:
    """Make the application. `key_entries` None: nobody is asked for a key."""
    fleet = Fleet(build_registry(file))
    max_waiting = None if file.queue.max_waiting == "auto" else file.queue.max_waiting
    admission = Admission(fleet, Desk(choose=choose, max_waiting=max_waiting))
    metrics = Metrics()
    metrics.watch(lambda: fleet.view, admission.waiting)
    running = Running()
    pools = Pools(connect_s=file.deadlines.connect_s)
    poll = Poll(fleet, file.poll, changed=admission.ask, died=running.instance_died)
    log = CallLog(sys.stdout.buffer)
    corridor = Corridor(
        fleet=fleet,
        admission=admission,
        pools=pools,
        running=running,
        deadlines=file.deadlines,
        queue_deadline_s=file.queue.deadline_s,
        record=_recorder(metrics, log, wanted=file.log.level in {"debug", "info"}),
        observe=poll.observe,
        suspect=poll.suspect,
        tell=tell,
    )
    keys = Keys(key_entries)
    now_s = wall_s()
    started_at = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    _set_up_protocol(file, metrics)
    return Litestar(
        route_handlers=[
            *message_routes(corridor, keys, _origins(file)),
            *model_routes(fleet, keys, started_at=started_at, started_s=int(now_s)),
            *ops_routes(fleet, metrics),
            *admin_routes(fleet, admission),
        ],
        exception_handlers={
            RouterError: answer_router_error,
            HTTPException: answer_http_exception,
            Exception: answer_bug,
        },
        lifespan=[partial(_lifespan, poll=poll, pools=pools, metrics=metrics)],
        cors_config=CORSConfig(allow_origins=list(file.cors.origins)) if file.cors else None,
        openapi_config=None,
        logging_config=None,
    )


def _origins(file: RouterFile) -> frozenset[bytes]:
    return frozenset(origin.encode() for origin in file.cors.origins) if file.cors else frozenset()


def _recorder(metrics: Metrics, log: CallLog, *, wanted: bool) -> Callable[[CallRecord], None]:
    if not wanted:
        return metrics.record

    def record(call: CallRecord) -> None:
        metrics.record(call)
        log.record(call)

    return record


def _set_up_protocol(file: RouterFile, metrics: Metrics) -> None:
    """The server makes the protocol's objects, so its limits can only stand on the class."""
    protocol.RouterProtocol.max_body_bytes = file.limits.body_bytes
    protocol.RouterProtocol.max_connections = file.limits.connections
    protocol.RouterProtocol.on_refusal = staticmethod(lambda error: metrics.refused.series((error.cause,)).inc())


@asynccontextmanager
async def _lifespan(_: Litestar, *, poll: Poll, pools: Pools, metrics: Metrics) -> AsyncGenerator[None, None]:
    """What runs beside the calls, started before the first and ended after the last."""
    async with poll:
        sweeping = asyncio.get_running_loop().create_task(_sweep(pools, metrics))
        try:
            yield
        finally:
            sweeping.cancel()
            pools.close_idle()


async def _sweep(pools: Pools, metrics: Metrics) -> None:
    """Deadlines of client connections, idle upstream connections, and how late this very loop is."""
    while True:
        before_s = monotonic_s()
        await asyncio.sleep(protocol.SWEEP_S)
        metrics.loop_lag.set(max(0.0, monotonic_s() - before_s - protocol.SWEEP_S))
        protocol.sweep()
        pools.close_idle(older_than_s=4.0)
