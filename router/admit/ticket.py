"""Ticket: one call that wants a slot, and how it stands at the desk when it comes back."""

import msgspec

from router.balance.call import Call
from router.fleet.instance import InstanceId


class Ticket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call at the desk. `number` is unique and grows with arrival; times are monotonic seconds.

    `arrived_s`: when it came to the desk, the last time that it did. `deadline_s`: until when it may stay there.
    `size_bytes`: the body that is held in memory while it waits.
    """

    number: int
    call: Call
    arrived_s: float
    deadline_s: float
    size_bytes: int = 0

    @property
    def patience_s(self) -> float:
        """How long it may stay at the desk this time, from its arrival on."""
        return self.deadline_s - self.arrived_s

    def moved(self, failed: InstanceId, *, granted_s: float, now_s: float) -> "Ticket":
        """Return the ticket of a call that comes back, because an attempt has failed on this instance.

        It keeps its number and so its place. Only what it waited at the desk, until `granted_s`, comes off its
        patience: the attempt may have taken minutes of prefill, and the client did not wait for a slot meanwhile.
        """
        left_s = max(0.0, self.deadline_s - granted_s)
        return Ticket(
            number=self.number,
            call=msgspec.structs.replace(self.call, excluded=self.call.excluded | {failed}),
            arrived_s=now_s,
            deadline_s=now_s + left_s,
            size_bytes=self.size_bytes,
        )
