"""What placement goes by, read out of a request: whose conversation it is, and its prompt as a chain."""

from collections.abc import Sequence

from router.balance.affinity import Session, session_key, session_of
from router.balance.call import Call
from router.balance.chain import Chain, opaque
from router.balance.chat_units import chat_chain, completion_chain
from router.balance.units import messages_chain
from router.errors import RequestInvalid
from router.fleet.instance import InstanceId
from router.fleet.registry import Pool
from router.relay.headers import Header
from router.translate.chat_plan import ChatRequest
from router.translate.messages_plan import MessagesRequest
from router.translate.passing_plan import PassRequest
from router.translate.plan import Request


def call_of(
    request: Request,
    pool: Pool,
    headers: Sequence[Header],
    *,
    number: int,
    now_s: float,
    unfit: frozenset[InstanceId] = frozenset(),
    mirrored: bool = True,
) -> Call:
    """Say what to place a request by. `number` is its own; `unfit`: instances that cannot do what it asks for.

    `mirrored` False: no instance of the pool has a cache that the router could know, so its prompt is not looked at.
    """
    session = _session(request, headers)
    return Call(
        pool=pool.name,
        session=session_key(pool.name, session, *request.opening),
        chain=(_chain(request, pool) if mirrored else None) or opaque(number),
        streams=request.streams,
        arrived_s=now_s,
        excluded=unfit,
        begins=session.compacted,
        ends=session.compacting,
    )


def _session(request: Request, headers: Sequence[Header]) -> Session:
    match request:
        case MessagesRequest(head=head) if head.metadata is not None:
            return session_of(headers, (head.metadata.user_id or "").encode())
        case ChatRequest(head=head):
            return session_of(headers, prompt_cache_key=(head.prompt_cache_key or "").encode())
        case _:
            return session_of(headers)


def _chain(request: Request, pool: Pool) -> Chain | None:
    """None: nothing is known of its prompt."""
    match request:
        case MessagesRequest():
            try:
                return messages_chain(pool.name, request.canonical)
            except RequestInvalid:  # no local instance can answer it; whoever plans it says so
                return None
        case ChatRequest():
            return chat_chain(pool.name, request.body)
        case PassRequest():
            return completion_chain(pool.name, request.body)
        case _:
            return None
