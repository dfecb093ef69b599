"""When a slot whose call is over for us is free again: what an instance's own count says of it, and what it may not."""

from collections.abc import Sequence

import msgspec

# How long a slot stays closing at an instance that cannot be asked whether it is free. llama-server looks at its
# sockets every second and finishes the batch that it is in (seen: free after 1.65 s).
MUTE_CLOSING_S = 2.0
# And at one that can, as long as its count does not come down: others may use it too, so there must be an end. A batch
# of 2,048 prompt tokens on a slow CPU takes seconds.
LONGEST_CLOSING_S = 10.0
# How long a request may take to get into the instance's queue: to be read, rendered and split into tokens.
ARRIVES_S = 1.0
# From then on: llama-server takes new calls from its queue between two batches, and until then none of its counts has
# them. One more decode may have been under way, the second began after the queue was empty.
DECODES_UNTIL_COUNTED = 2
# Where it does not tell its decodes: a batch of 2,048 tokens on a slow server takes seconds.
UNBEGUN_S = 5.0
# And where it has no call at all: an idle loop takes a new one at once.
UNBEGUN_IDLE_S = 1.0


class Arrival:
    """Whether a call of ours has surely come into its instance's count. Shared by its lease and its closing slot."""

    __slots__ = ("_decodes", "_sent_s", "counted")

    def __init__(self) -> None:
        self.counted = False
        self._sent_s: float | None = None
        self._decodes: int | None = None

    def __repr__(self) -> str:
        return f"Arrival({'counted' if self.counted else 'on its way'})"

    def sent(self, now_s: float, *, again: bool = True) -> None:
        """The request is on its way; `again` False: unless it was before."""
        if again or self._sent_s is None:
            self._sent_s, self._decodes = now_s, None

    def look(self, asked_s: float, decodes: int | None) -> bool:
        """Take what the instance said when it was asked then: how often it has decoded; None: it does not tell.

        True when this answer is the one that shows it: one that was given before the call began may lack it still.
        """
        if self.counted or self._sent_s is None:
            return False
        if decodes is None:
            self.counted = self._sent_s + UNBEGUN_S <= asked_s
        elif self._sent_s + ARRIVES_S > asked_s:
            pass
        elif self._decodes is None or decodes < self._decodes:  # fewer: it was started anew
            self._decodes = decodes
        else:
            self.counted = decodes >= self._decodes + DECODES_UNTIL_COUNTED
        return self.counted


class Closing(msgspec.Struct, frozen=True, gc=False):
    """A slot whose call is over for us, since `closed_s`.

    A call that the instance had not begun may still begin there: its count speaks of it once it has surely arrived.
    `carried`: it is from before the instance's probation.
    """

    closed_s: float
    arrival: Arrival
    carried: bool = False

    def is_spoken_of(self, asked_s: float, *, idle: bool) -> bool:
        """The instance's answer to a question asked then covers this slot. `idle`: it had no call at all."""
        if self.arrival.counted:
            return self.closed_s <= asked_s
        return idle and self.closed_s + UNBEGUN_IDLE_S <= asked_s


def in_time(closing: Sequence[Closing], now_s: float, *, mute: bool) -> list[Closing]:
    """Those whose time is not up. `mute`: the instance answers and cannot say how many calls it has."""
    longest_s = MUTE_CLOSING_S if mute else LONGEST_CLOSING_S
    return [one for one in closing if one.closed_s + longest_s > now_s]


def not_freed(closing: Sequence[Closing], asked_s: float, *, processing: int, surely_ours: int) -> list[Closing]:
    """Those that may still be in the instance's count of its calls, `surely_ours` of which are calls that go on."""
    may_be_busy = max(0, processing - surely_ours)
    spoken_of = [one for one in closing if one.is_spoken_of(asked_s, idle=processing == 0)]
    freed = spoken_of[: max(0, len(spoken_of) - may_be_busy)]
    return [one for one in closing if not any(one is other for other in freed)]
