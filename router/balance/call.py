"""Call: what a call is placed by."""

from typing import Any

import msgspec

from router.balance.chain import Chain
from router.fleet.instance import InstanceId


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that wants an instance.

    `session`: the same 64 bits for every turn of one conversation (`balance.affinity`). `chain`: its prompt; None:
    nothing is known of it, and it is like no other. `arrived_s`: when it came; it waits from then on. `excluded`:
    instances that cannot serve this call or have failed it already. `ends`: when it is over, its conversation throws
    away what it has said (it is being summed up). `begins`: that is what it has done.
    """

    pool: str
    session: int
    chain: Chain | None = None
    streams: bool = True
    arrived_s: float = 0.0
    excluded: frozenset[InstanceId] = frozenset()
    begins: bool = False
    ends: bool = False
    memo: dict[InstanceId, Any] = msgspec.field(default_factory=dict)
    """For the book: what it has foreseen for this call at each instance; it waits, and is asked about often."""

    def __eq__(self, other: object) -> bool:
        """Whatever is remembered of it."""
        if not isinstance(other, Call):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__struct_fields__ if name != "memo")

    def __hash__(self) -> int:
        """Of those that are equal alike."""
        return hash((self.pool, self.session, self.arrived_s, self.excluded))
