"""What would become of a call now, and why: it is read and asked about like any call, and stops before the desk.

Nothing is sent, nothing waits, and what placement knows stays as it is. The decision is the very value that the header,
the log and the metrics of a call are made from.
"""

from collections.abc import Callable

import msgspec

from router.admit.desk import Desk
from router.balance.call import Call
from router.balance.policy import Choose, Decision, Policy, Wait, serving
from router.clock import monotonic_s
from router.fleet.health import State
from router.fleet.instance import InstanceId
from router.fleet.registry import Pool
from router.fleet.view import Row
from router.relay.chat import ChatCall, PassedCall
from router.relay.corridor import Corridor
from router.relay.exchange import Caller, CallLink
from router.relay.headers import Header
from router.relay.identity import call_of
from router.relay.messages import MessagesCall
from router.relay.serving import ServedCall
from router.translate.plan import CHAT_PATH, MESSAGES_PATH, Request

_AWAY = {
    State.UNKNOWN: "nobody has heard of it yet",
    State.LOADING: "it loads its model",
    State.EJECTED: "it is ejected: it does not answer, or has failed calls",
    State.DRAINING: "it is draining: it finishes what runs and takes no more",
    State.MISPLACED: "it serves another model at present",
}
# Tickets count from 1, so no call has a prompt that is taken for this one when nothing is known of either.
_NO_TICKET = 0


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is not to be sent. `path`: where it would go, without a query; headers' names in lower case."""

    path: str
    headers: tuple[Header, ...] = ()
    body: bytes


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """How a call would wait. `reason`: as of `balance.policy.Wait`.

    `for_id`: the instance that it waits for; None: for any slot, or any instance. `then_id`: where it goes after
    `at_most_s`, as things are now; None: nowhere, it is refused then.
    """

    reason: str
    for_id: InstanceId | None
    at_most_s: float
    then_id: InstanceId | None


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """An instance of the pool that is not in the ranking, and why."""

    instance_id: InstanceId
    why: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What the desk would be told of a call, and what else a person has to know to follow it.

    `model`: as the client asks for it; None: it names none. `policy`: what ranks; only `ptx` has terms.
    `waits` None: it goes at once, or is refused. `ahead`: how many calls of the pool wait already. `units` and
    `prompt_bytes` of its prompt, as placement sees it; 0: nothing is known of it. `ctx_tokens`: what a slot takes where
    it would go, or would wait for; None: not known. `over_subscribed`: see `Book`, 0 to 1.
    """

    model: str | None
    pool: str
    policy: Policy
    decision: Decision
    waits: Waits | None
    left_out: tuple[LeftOut, ...]
    ahead: int
    units: int
    prompt_bytes: int
    ctx_tokens: int | None
    over_subscribed: float


class Explainer:
    """Answers questions about calls, with what the desk itself goes by."""

    def __init__(self, corridor: Corridor, desk: Desk, policy: Callable[[], Policy]) -> None:
        """`policy`: the name of the one in force; a reload may change it, and the desk's `choose` with it."""
        self._corridor = corridor
        self._desk = desk
        self._policy = policy

    def __repr__(self) -> str:
        return f"Explainer[{self._policy()}]"

    def explain(self, link: CallLink, question: Question) -> Explanation:
        """Say what would become of it. `link`: of whoever asks; nothing is read from it or written to it.

        Raises:
            RouterError: as the call itself would be refused, before it came to the desk.

        """
        asked = _kind(question.path)(self._corridor, link, Caller())
        return asked.explain(question, self._desk.choose, self._policy())


class _Asked(ServedCall):
    """A call that stops before the desk."""

    __slots__ = ()

    def explain(self, question: Question, choose: Choose, policy: Policy) -> Explanation:
        """See `Explainer.explain`."""
        corridor, now_s = self._corridor, monotonic_s()
        request = self._read(question.body)
        model = request.model
        pool = self._pool_of(request)
        self._complete(request, pool)
        rows = self._rows(pool)
        call = call_of(
            request,
            pool,
            question.headers,
            number=_NO_TICKET,
            now_s=now_s,
            unfit=self._unfit(request, pool),
            mirrored=not all(corridor.skills.of(row).exact for row in rows),
        )
        view = corridor.fleet.view
        decision = choose(call, view, now_s)
        chain = call.chain
        known = chain is not None and chain.size_bytes > 0
        return Explanation(
            model=model,
            pool=pool.name,
            policy=policy,
            decision=decision,
            waits=self._waits(decision),
            left_out=self._left_out(request, pool, call, decision),
            ahead=corridor.admission.waiting(pool.name),
            units=len(chain) if chain is not None and known else 0,
            prompt_bytes=chain.size_bytes if chain is not None else 0,
            ctx_tokens=_ctx_tokens(decision, rows),
            over_subscribed=corridor.book.over_subscribed(pool.name, serving(call, view), now_s),
        )

    def _waits(self, decision: Decision) -> Waits | None:
        verdict, settings = decision.verdict, self._corridor.settings
        if not isinstance(verdict, Wait):
            return None
        patience_s = min(settings.queue_deadline_s, settings.deadlines.call_s)
        first = decision.ranking[0].instance_id if verdict.reason in {"warm", "home"} else None
        if verdict.until_s is None or verdict.until_s > patience_s:
            return Waits(reason=verdict.reason, for_id=first, at_most_s=patience_s, then_id=None)
        best = next((one.instance_id for one in decision.ranking if one.free > 0), None)
        return Waits(reason=verdict.reason, for_id=first, at_most_s=verdict.until_s, then_id=best)

    def _left_out(self, request: Request, pool: Pool, call: Call, decision: Decision) -> tuple[LeftOut, ...]:
        ranked = {one.instance_id for one in decision.ranking}
        rows = {row.instance.id: row for row in self._rows(pool)}
        left_out = []
        for id_ in dict.fromkeys((*rows, *pool.instance_ids)):
            if id_ not in ranked:
                row = rows.get(id_)
                why = _AWAY[State.MISPLACED] if row is None else self._why(row, request, pool, call)
                left_out.append(LeftOut(instance_id=id_, why=why))
        return tuple(left_out)

    def _why(self, row: Row, request: Request, pool: Pool, call: Call) -> str:
        if row.instance.id in call.excluded:
            reason = request.refusal(self._corridor.skills.of(row), pass_tools=pool.pass_tools)
            return reason or "it has said that it does not have this route"
        if row.health.state in _AWAY:
            return _AWAY[row.health.state]
        if not row.serving:
            return "it does not say how many slots it has; the registry can"
        return "others look better at a glance, and only the best of many are looked at closely"


class _AskedMessages(_Asked, MessagesCall):
    __slots__ = ()


class _AskedChat(_Asked, ChatCall):
    __slots__ = ()


def _kind(path: str) -> type[_Asked]:
    name = path.encode()
    if name == MESSAGES_PATH:
        return _AskedMessages
    if name == CHAT_PATH:
        return _AskedChat

    class AskedPassed(_Asked, PassedCall):
        path = name
        __slots__ = ()

    return AskedPassed


def _ctx_tokens(decision: Decision, rows: list[Row]) -> int | None:
    there = decision.placed or next(iter(decision.ranking), None)
    row = next((row for row in rows if there is not None and row.instance.id == there.instance_id), None)
    return row.facts.ctx_tokens if row is not None and row.facts is not None else None
