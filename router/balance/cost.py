"""What it costs to place a call on an instance: one function a term, every one of them in seconds.

routing.md 3.2, corrected by placement-on-real-servers.md. The sum is the time to the call's first token, plus the time
that the placement takes from others: from those who come behind it, from those whose KV cache it destroys, and from
those whose answers are being written meanwhile.
"""

from collections.abc import Iterable

import msgspec
import xxhash

from router.fleet.instance import InstanceId

# A second of reading delays whoever comes behind it, the more the busier the instance is.
_BEHIND = 1.0
# KV that is destroyed is read again on top of all else, when the instance is busy; so it weighs more than its time.
# Three was better than one and two in simulation at 32 and 48 users and on mixed speeds (docs/placement.md).
LOSES = 3.0
# While a prompt is read, an answer that is being written there all but stands still. Less than a first token weighs.
_STALLS = 0.15
# An answer written beside others slows each of them down a little.
_BESIDE = 0.04
# Copied between slot and RAM cache; the whole server stands still meanwhile (tokens a second).
COPIED_TOKENS_PER_S = 61_000.0
# An answer that has got longer than usual: at least this share of a usual one is still to come.
_LEFT_AT_LEAST = 0.25


class Terms(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The terms of one candidate, in seconds. `total_s` is what it is ranked by."""

    wait_s: float = 0.0
    """Until its prompt begins to be read: prompts before it, and a slot to come free."""
    read_s: float = 0.0
    """Reading what is not warm of its prompt."""
    behind_s: float = 0.0
    """What that costs those who come behind it."""
    lost_s: float = 0.0
    """KV that it destroys, to be read again, by the chance that it is wanted again."""
    stall_s: float = 0.0
    """What answers that are being written there lose."""
    moved_s: float = 0.0
    """Copies between slot and RAM cache."""

    @property
    def total_s(self) -> float:
        """The sum."""
        return self.wait_s + self.read_s + self.behind_s + self.lost_s + self.stall_s + self.moved_s

    @property
    def ttft_s(self) -> float:
        """The part of it that the call itself waits for its first token."""
        return self.wait_s + self.read_s + self.moved_s


def behind_s(read_s: float, busy: float) -> float:
    """For those who come behind it. `busy`: the share of the time that the instance has worked lately, 0 to 1."""
    return _BEHIND * busy * read_s


def stall_s(read_s: float, written_s: float, answer_tokens: float, runs: int) -> float:
    """For `runs` answers that are being written there, with `written_s` between two tokens."""
    return runs * (_STALLS * read_s + _BESIDE * answer_tokens * written_s)


def moved_s(tokens: float) -> float:
    """To copy so many tokens of KV."""
    return tokens / COPIED_TOKENS_PER_S


def slot_wait_s(left_s: Iterable[float], taken: int, slots: int) -> float:
    """Until a slot is free for a call that comes now: `taken` calls are there, each with `left_s` to go."""
    if taken < slots:
        return 0.0
    ends = sorted(left_s)
    return ends[min(taken - slots, len(ends) - 1)] if ends else 0.0


def answer_left_s(answer_tokens: float, written_s: float, since_s: float) -> float:
    """What is left of an answer that has been written for `since_s`, when a usual one has `answer_tokens`."""
    return max(_LEFT_AT_LEAST * answer_tokens * written_s, answer_tokens * written_s - since_s)


def rendezvous(affinity: int, instance_id: InstanceId) -> int:
    """A number that falls the same way for one conversation on one instance, in every process and after a restart.

    The highest wins a tie (rendezvous hashing, Thaler and Ravishankar 1998), so that a conversation keeps its
    instance, and with it the warm KV cache, while nothing speaks against it; when an instance leaves, only its own
    conversations move.
    """
    return xxhash.xxh3_64_intdigest(instance_id.encode(), affinity)
