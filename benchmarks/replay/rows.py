"""What came of each turn, kept as it was seen."""

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of one turn. Seconds; `began_s` since the start of the window, so the warm-up is below zero."""

    user: int
    session_id: str
    agent: str = ""
    """Empty: the session's own turn."""
    turn: int
    began_s: float
    ttft_s: float | None
    total_s: float
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    words: int
    """Length of the prompt in words, which are tokens, without what the chat template adds."""
    known_words: int
    """How much of it the fleet has read before: what an endless cache that all share would hold."""
    request_id: str = ""
    router: dict[str, str] = {}
    """The router's own headers."""
    log: dict[str, str | float] = {}
    """What our router wrote down of this call: the decision, and what it foresaw."""
    error: str = ""
    """CUT: it was still running when the visit was over."""

    @property
    def foreseen_tokens(self) -> int | None:
        """Cached tokens that our router foresaw; None: it foresaw nothing."""
        seen = self.log.get("foreseen_cached_tokens")
        return int(seen) if seen is not None else None

    @property
    def ended_s(self) -> float:
        """When it was over, since the start of the window."""
        return self.began_s + self.total_s


CUT = "cut"


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One contender under one load in one round."""

    name: str
    round: int
    users: int
    cache_ram_mib: int
    window_s: float
    rows: list[Row]
    others: float = 0.0
    """Share of the machine's cores that went to processes that are not of this run."""


def counted(visit: Visit) -> list[Row]:
    """The turns that ended well within the window, whenever they began.

    By their end and not by their beginning: a router that keeps a call waiting past the window is not to gain by it,
    and in a steady state as many calls reach into the window as out of it.
    """
    return [row for row in visit.rows if not row.error and 0 <= row.ended_s <= visit.window_s]


def failed(visit: Visit) -> list[Row]:
    """The turns that went wrong within the window."""
    return [row for row in visit.rows if row.error not in ("", CUT) and 0 <= row.ended_s <= visit.window_s]


def waiting(visit: Visit) -> list[Row]:
    """The turns that had no token yet when the visit was over."""
    return [row for row in visit.rows if row.error == CUT and row.ttft_s is None]
