"""For the operator, on this machine only: what the fleet is doing."""

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.types import Scope

from router.config.address import is_loopback
from router.errors import Forbidden
from router.fleet.fleet import Fleet
from router.relay.admission import Admission


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One instance for people: no URL, no key. `ctx_tokens` None: not known."""

    id: str
    host: str | None
    models: tuple[str, ...]
    state: str
    busy: int
    slots: int
    ctx_tokens: int | None


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One model for people."""

    model: str
    aliases: tuple[str, ...]
    waiting: int


class FleetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `llama-router status` prints."""

    instances: tuple[InstanceStatus, ...]
    models: tuple[PoolStatus, ...]


def admin_routes(fleet: Fleet, admission: Admission) -> list[HTTPRouteHandler]:
    """Make the handlers."""

    @get("/admin/fleet")
    async def fleet_status(scope: Scope) -> FleetStatus:
        _loopback_only(scope)
        return status(fleet, admission)

    return [fleet_status]


def status(fleet: Fleet, admission: Admission) -> FleetStatus:
    """The fleet as it is now."""
    view = fleet.view
    return FleetStatus(
        instances=tuple(
            InstanceStatus(
                id=row.instance.id,
                host=row.instance.host,
                models=row.instance.pools,
                state=row.health.state.value,
                busy=row.busy,
                slots=row.slots,
                ctx_tokens=row.facts.ctx_tokens if row.facts else None,
            )
            for row in view.rows.values()
        ),
        models=tuple(
            PoolStatus(model=pool.name, aliases=pool.aliases, waiting=admission.waiting(pool.name))
            for pool in view.registry.pools.values()
        ),
    )


def _loopback_only(scope: Scope) -> None:
    client = scope.get("client")
    address = client[0] if client else ""
    if address and not is_loopback(address):  # a Unix socket has no address
        raise Forbidden("/admin answers on the router's own machine only; ask there, or through a tunnel to it")
