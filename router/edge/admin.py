"""For the operator: the fleet, drain, resume, reload, explain. From this machine, or with an admin key."""

from typing import Protocol

import msgspec
from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import Scope

from router.config.address import is_loopback
from router.edge.auth import Keys
from router.edge.chat import PASSED
from router.edge.messages import link_of
from router.errors import Forbidden, RequestInvalid, Unauthorized
from router.fleet.fleet import Fleet
from router.fleet.health import Event
from router.fleet.instance import InstanceId
from router.fleet.view import Row
from router.relay.admission import Admission
from router.relay.explain import Explainer, Explanation, Question
from router.wire.reading import read


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One instance for people: no URL, no key. `ctx_tokens` None: not known."""

    id: str
    host: str | None
    models: tuple[str, ...]
    state: str
    busy: int
    closing: int
    slots: int
    ctx_tokens: int | None


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One model for people."""

    model: str
    aliases: tuple[str, ...]
    waiting: int


class FleetStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `llama-router status` prints. `removed`: not in the registry any more, and calls still run there."""

    instances: tuple[InstanceStatus, ...]
    models: tuple[PoolStatus, ...]
    removed: tuple[InstanceStatus, ...] = ()


class Named(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of drain and resume: an instance id or a host."""

    name: str


class ReloadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload changed, by instance id."""

    added: tuple[InstanceId, ...]
    removed: tuple[InstanceId, ...]
    needs_restart: tuple[str, ...]


class Asking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of explain: a request with the path that it would go to, and the headers that tell its conversation."""

    body: msgspec.Raw
    path: str = "/v1/messages"
    headers: dict[str, str] = {}


class Operator(Protocol):
    """Who performs the verbs: `app.Router`."""

    def observe(self, instance_id: InstanceId, event: Event) -> None:
        """Apply DRAIN or RESUME."""

    def reload(self) -> ReloadReport:
        """Read the files again; ConfigInvalid leaves everything as it was."""


def admin_routes(
    fleet: Fleet, admission: Admission, operator: Operator, keys: Keys, explainer: Explainer
) -> list[HTTPRouteHandler]:
    """Make the handlers."""

    @get("/admin/fleet")
    async def fleet_status(scope: Scope) -> FleetStatus:
        _operators_only(scope, keys)
        return status(fleet, admission)

    @post("/admin/drain", status_code=200)
    async def drain(scope: Scope) -> FleetStatus:
        return await _order(scope, Event.DRAIN)

    @post("/admin/resume", status_code=200)
    async def resume(scope: Scope) -> FleetStatus:
        return await _order(scope, Event.RESUME)

    @post("/admin/reload", status_code=200)
    async def reload(scope: Scope) -> ReloadReport:
        _operators_only(scope, keys)
        _json_only(scope)
        return operator.reload()

    @post("/admin/explain", status_code=200)
    async def explain(scope: Scope) -> Explanation:
        _operators_only(scope, keys)
        _json_only(scope)
        link = link_of(scope)
        return explainer.explain(link, _read_question(await link.read_body()))

    async def _order(scope: Scope, event: Event) -> FleetStatus:
        _operators_only(scope, keys)
        _json_only(scope)
        ids = fleet.named(_read_name(await link_of(scope).read_body()))
        for id_ in ids:
            operator.observe(id_, event)
        return status(fleet, admission, only=ids)

    return [fleet_status, drain, resume, reload, explain]


def status(fleet: Fleet, admission: Admission, only: list[InstanceId] | None = None) -> FleetStatus:
    """The fleet as it is now; `only` some of its instances."""
    view = fleet.view
    pools_of: dict[InstanceId, list[str]] = {id_: [] for id_ in view.rows}
    for pool, ids in view.members.items():
        for id_ in ids:
            pools_of[id_].append(pool)
    return FleetStatus(
        instances=tuple(
            _instance_status(row, tuple(pools_of[id_])) for id_, row in view.rows.items() if only is None or id_ in only
        ),
        removed=tuple(_instance_status(row, ()) for row in fleet.departed()) if only is None else (),
        models=tuple(
            PoolStatus(model=pool.name, aliases=pool.aliases, waiting=admission.waiting(pool.name))
            for pool in view.registry.pools.values()
        ),
    )


def _instance_status(row: Row, models: tuple[str, ...]) -> InstanceStatus:
    return InstanceStatus(
        id=row.instance.id,
        host=row.instance.host,
        models=models,
        state=row.health.state.value,
        busy=row.busy,
        closing=row.closing,
        slots=row.slots,
        ctx_tokens=row.facts.ctx_tokens if row.facts else None,
    )


def _read_name(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=Named).name
    except msgspec.DecodeError:
        raise RequestInvalid('the body must be {"name": "INSTANCE or HOST"}') from None


_HOW_TO_ASK = (
    'the body must be {"body": A REQUEST, "path": "/v1/messages", "headers": {"NAME": "VALUE"}}, the last two if '
    "wanted, or a request of the Messages API by itself"
)
_PATHS = ("/v1/messages", "/v1/chat/completions", *PASSED)


class _Peek(msgspec.Struct):
    """Enough to tell a request from one that is wrapped."""

    body: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()


_peek, _asking = msgspec.json.Decoder(_Peek), msgspec.json.Decoder(Asking)


def _read_question(body: bytes) -> Question:
    try:
        peek = read(_peek, body)
        asking = Asking(body=msgspec.Raw(body)) if peek.messages and not peek.body else read(_asking, body)
    except msgspec.DecodeError:
        raise RequestInvalid(_HOW_TO_ASK) from None
    path = asking.path.partition("?")[0]
    if path == "/v1/messages/count_tokens":
        raise RequestInvalid(f"path: {path} takes no slot, so it is not placed: any instance that is up counts")
    if path not in _PATHS:
        raise RequestInvalid(f"path: {path[:200]!r} is none that calls are placed for; those are {', '.join(_PATHS)}")
    headers = tuple((name.lower().encode(), value.encode()) for name, value in asking.headers.items())
    return Question(path=path, headers=headers, body=bytes(asking.body))


def _operators_only(scope: Scope, keys: Keys) -> None:
    """Whoever sits on this machine, or has an admin key."""
    if _is_local(scope):
        return
    try:
        caller = keys.caller(link_of(scope).headers)
    except Unauthorized:
        raise Forbidden("/admin answers on the router's own machine, or to an admin key") from None
    if not caller.admin:
        raise Forbidden("/admin answers on the router's own machine, or to an admin key; this key is not one")


def _json_only(scope: Scope) -> None:
    """A web page in the operator's browser may post to this machine, but not JSON without asking first (CORS)."""
    kind = next((value for name, value in link_of(scope).headers if name == b"content-type"), b"")
    if not kind.startswith(b"application/json"):
        raise RequestInvalid("send content-type: application/json")


_FORWARDED = frozenset([b"forwarded", b"x-forwarded-for", b"x-real-ip"])


def _is_local(scope: Scope) -> bool:
    """The peer is on this machine, and does not say that it asks for somebody else."""
    if any(name in _FORWARDED for name, _ in link_of(scope).headers):
        return False
    client = scope.get("client")
    return client is None or not client[0] or is_loopback(client[0])  # a Unix socket has no address
