"""Reuse: how likely it is that a conversation which has been silent for so long goes on, learned from those that did.

A hazard table over the age of a conversation's last answer, in bins that double (routing.md 3.2): of those that got as
old as that, how many went on before they were twice as old.
"""

from collections import OrderedDict

# Bins: below 1 s, 1 to 2, 2 to 4, ... and everything from 512 s on.
BINS = 11
# What is believed before anything was seen, worth two observations a bin.
_PRIOR_AT = 2.0
_PRIOR_REUSED = tuple(_PRIOR_AT * 0.6 * 0.55**bin_ for bin_ in range(BINS))
# With each answer what was learned before counts a little less: half after 3,500 answers.
_FADES = 0.9998
# A conversation silent for so long will not go on; it is counted as one that got as old as can be.
FORGOTTEN_S = 2048.0
# The table is made anew when it is older than this: those that grow older change it without any event.
_FRESH_S = 1.0


class Reuse:
    """Prompts by the id of their tail (`kv.Entry.tail`), the ones that were answered last at the end.

    Not conversations: one that goes on from elsewhere, edited or from an earlier turn, does not want this prompt again.
    """

    def __init__(self) -> None:
        self._silent: OrderedDict[int, float] = OrderedDict()
        self._reused = list(_PRIOR_REUSED)
        self._at = [_PRIOR_AT] * BINS
        self._hazards: tuple[float, ...] = ()
        self._made_s = float("-inf")

    def __repr__(self) -> str:
        return f"Reuse[{len(self._silent)} silent, {' '.join(f'{hazard:.2f}' for hazard in self._hazards)}]"

    def since_s(self, tail: int) -> float | None:
        """When the prompt was answered; None: never, or it has come back since."""
        return self._silent.get(tail)

    def ended(self, tail: int, now_s: float) -> None:
        """The answer to this prompt is whole."""
        self._silent.pop(tail, None)
        self._silent[tail] = now_s
        for bin_ in range(BINS):
            self._reused[bin_] *= _FADES
            self._at[bin_] *= _FADES
        while self._silent and next(iter(self._silent.values())) < now_s - FORGOTTEN_S:
            self._silent.popitem(last=False)
            for bin_ in range(BINS):
                self._at[bin_] += 1.0

    def came_back(self, tail: int, now_s: float) -> None:
        """A prompt goes on from this one. Nothing happens where it is not waited for."""
        since_s = self._silent.pop(tail, None)
        if since_s is not None:
            last = _bin(now_s - since_s)
            self._reused[last] += 1.0
            for bin_ in range(last + 1):
                self._at[bin_] += 1.0

    def forget(self, tail: int) -> None:
        """It will not come back, for a reason that teaches nothing."""
        self._silent.pop(tail, None)

    def probability(self, age_s: float, now_s: float, *, within_s: float = FORGOTTEN_S) -> float:
        """That one which has been silent for `age_s` goes on, within so many seconds from now; 0 to 1."""
        hazards = self._table(now_s)
        until_s = age_s + within_s
        stays = 1.0
        for bin_ in range(_bin(age_s), BINS):
            low_s, high_s = (0.0 if bin_ == 0 else 2.0 ** (bin_ - 1)), 2.0**bin_
            if low_s >= until_s:
                break
            begin_s, end_s = max(low_s, age_s), min(high_s, until_s)
            share = (end_s - begin_s) / (high_s - low_s) if bin_ < BINS - 1 else 1.0
            stays *= (1.0 - hazards[bin_]) ** min(1.0, max(0.0, share))
        return 1.0 - stays

    def _table(self, now_s: float) -> tuple[float, ...]:
        if now_s - self._made_s >= _FRESH_S:
            at = list(self._at)
            for since_s in self._silent.values():
                # One still silent has got as old as it is; the bin that it is in is not over for it.
                for bin_ in range(_bin(now_s - since_s)):
                    at[bin_] += 1.0
            self._hazards = tuple(min(0.99, reused / reached) for reused, reached in zip(self._reused, at, strict=True))
            self._made_s = now_s
        return self._hazards


def _bin(age_s: float) -> int:
    return 0 if age_s < 1.0 else min(BINS - 1, int(age_s).bit_length())
