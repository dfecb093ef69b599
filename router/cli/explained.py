"""An explanation as a page for somebody who has never seen one: what would happen, the table, what its columns mean."""

from collections.abc import Sequence

from router.balance.policy import Candidate, Refuse
from router.relay.explain import Explanation, Waits

# So many more warm tokens elsewhere are worth a word.
_WORTH_TOKENS = 1024
_GOES, _AWAITED = "->", ".."
_COLUMNS = """\
FREE    slots that it could have now; one may be idle and kept back for a call that is just being sent there
WARM    tokens of its prompt that are believed to be in the KV cache there, and need not be read again; how many it
        has in all is a guess where no instance has counted them yet
The others are seconds, and TOTAL is their sum: what it costs to send it there, in its own time and that of others.
WAIT    until its prompt begins to be read: prompts before it, or a slot to come free
READ    reading what is not warm of its prompt
LOST    reading again what it pushes out of the KV cache, by the chance that somebody comes back for that
STALL   what answers that are being written there lose meanwhile
MOVED   copying between a slot and the prompt cache in RAM
BEHIND  what its reading costs those who come after it, by how busy the instance has been
The best is on top. Totals within 5 % count as equal: of these the warmest is best, then the least busy."""


def render(told: Explanation) -> str:
    """A page: what would happen, the instances best first, who is left out, and what the columns mean."""
    parts = [[_asked(told), *_outlook(told)]]
    if told.decision.ranking:
        parts.append(_table(told))
    if told.left_out:
        parts.append(["Left out:", *(f"  {one.instance_id}: {one.why}" for one in told.left_out)])
    if told.decision.ranking:
        parts.append(_legend(told))
    return "\n\n".join("\n".join(part) for part in parts)


def _asked(told: Explanation) -> str:
    named = f"{told.model} is {told.pool} here" if told.model not in {None, told.pool} else f"The model is {told.pool}"
    best = _best(told)
    if best is None or not best.prompt_tokens or not told.units:
        return f"{named}."
    tokens = f"about {best.prompt_tokens:,.0f} tokens"
    return f"{named}; the prompt has {tokens} ({told.prompt_bytes:,} bytes of text in {told.units} units)."


def _best(told: Explanation) -> Candidate | None:
    """Where it goes, or else what is best."""
    return told.decision.placed or next(iter(told.decision.ranking), None)


def _outlook(told: Explanation) -> list[str]:
    """One sentence, and what may come between."""
    lines = [_verdict(told)]
    if told.ahead:
        are = "call of this model waits" if told.ahead == 1 else "calls of this model wait"
        lines.append(f"{told.ahead:,} {are} already, and may go first: the longer one has waited, the sooner it goes.")
    best = _best(told)
    if best is not None and told.ctx_tokens and best.prompt_tokens >= told.ctx_tokens:
        takes = f"But a slot of {best.instance_id} takes {told.ctx_tokens:,} tokens"
        lines.append(f"{takes}: the prompt is probably too long, and would be refused.")
    return lines


def _verdict(told: Explanation) -> str:
    verdict, waits = told.decision.verdict, told.waits
    if told.decision.placed is not None:
        return f"It would go to {told.decision.placed.instance_id} now: {_why(told, told.decision.placed)}."
    if waits is not None:
        then = f"then go to {waits.then_id}" if waits.then_id is not None else "then be refused"
        return f"It would wait {_what_for(told, waits)}, for at most {waits.at_most_s:.1f} s, and {then}."
    if isinstance(verdict, Refuse) and verdict.reason == "no_instance":
        return f"It would be refused: no instance of {told.pool} is serving."
    return f"It would be refused: no instance of {told.pool} that can do what it asks for is serving."


def _why(told: Explanation, one: Candidate) -> str:
    first = told.decision.ranking[0]
    if told.policy == "sticky":
        return "its conversation lives there"
    if told.policy == "least":
        return "it has the smallest share of busy slots" if one is first else f"{first.instance_id} has no slot free"
    if not one.prompt_tokens:
        why = "what is warm of its prompt is not known"
    elif one.hit_tokens >= 1.0:
        why = f"{_warm(one)} prompt tokens are warm there"
    else:
        why = "none of its prompt is warm there"
    warmer = max(told.decision.ranking, key=lambda other: other.hit_tokens)
    if warmer.hit_tokens >= one.hit_tokens + _WORTH_TOKENS:
        return f"{why}; more is warm at {warmer.instance_id}, where it costs {_seconds(warmer.terms.total_s)}"
    if one is not first:
        return f"{why}; {first.instance_id} would be better, and has no slot free"
    if one.hit_tokens < 1.0 and len(told.decision.ranking) > 1:
        least_s = min(other.terms.total_s for other in told.decision.ranking)
        cost = "costs least there" if one.terms.total_s <= least_s else "costs hardly less elsewhere"
        return f"{why}{' nor elsewhere' if one.prompt_tokens else ''}, and it {cost}"
    return why


def _what_for(told: Explanation, waits: Waits) -> str:
    match waits.reason:
        case "warm":
            first = told.decision.ranking[0]
            there = f"{_warm(first)} prompt tokens are warm" if first.hit_tokens >= 1.0 else "it would cost less"
            return f"for a slot of {waits.for_id}, where {there}"
        case "guard":
            return "although a slot is free, since it would push out what other conversations come back for"
        case "home":
            return f"for a slot of {waits.for_id}, where its conversation lives"
        case "away":
            return f"for an instance of {told.pool} to come back, since none serves at present"
        case _:
            return f"for a slot, since {told.pool} has none free"


def _warm(one: Candidate) -> str:
    return f"{one.hit_tokens:,.0f} of {one.prompt_tokens:,.0f}"


def _seconds(time_s: float) -> str:
    return f"{time_s:.2f} s"


def _table(told: Explanation) -> list[str]:
    ranking, awaited = told.decision.ranking, told.waits.for_id if told.waits is not None else None
    slow = max(one.terms.total_s for one in ranking) >= 10.0
    head: tuple[str, ...] = ("", "INSTANCE", "FREE", "BUSY")
    if told.policy == "ptx":
        head = ("", "INSTANCE", "FREE", "WARM", "WAIT", "READ", "LOST", "STALL", "MOVED", "BEHIND", "TOTAL")
    rows: list[tuple[str, ...]] = []
    for one in ranking:
        mark = _GOES if one is told.decision.placed else _AWAITED if one.instance_id == awaited else ""
        start = (mark, one.instance_id, f"{one.free} (asleep)" if one.asleep else str(one.free))
        terms = one.terms
        if told.policy != "ptx":
            rows.append((*start, f"{one.busy_share:.0%}"))
            continue
        seconds = (terms.wait_s, terms.read_s, terms.lost_s, terms.stall_s, terms.moved_s, terms.behind_s)
        rows.append((*start, _warm(one), *(f"{it:.2f}" if slow else f"{it:.3f}" for it in (*seconds, terms.total_s))))
    return _aligned(head, rows)


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Names to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = []
    for row in (head, *rows):
        names = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join((*names, *numbers)))
    return lines


def _legend(told: Explanation) -> list[str]:
    lines = []
    if told.decision.placed is not None:
        lines.append(f"{_GOES:<8}where it would go")
    elif told.waits is not None and told.waits.for_id is not None:
        lines.append(f"{_AWAITED:<8}where it would wait for a slot")
    if told.policy != "ptx":
        words = "by how busy they are" if told.policy == "least" else "by where conversations live"
        lines.append(
            f"The registry's placement.policy is {told.policy}: instances are ranked {words}, nothing is foreseen."
        )
        return lines
    lines += _COLUMNS.splitlines()
    if told.over_subscribed > 0.0:
        lines += [
            f"The KV cache is over-subscribed ({told.over_subscribed:.2f} of 1): conversations that go on want more",
            "than there is, so a call may wait for a while rather than push out what is wanted.",
        ]
    return lines
