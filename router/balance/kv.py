"""What a llama-server's slots and RAM cache hold, and what becomes of it when a slot takes a call.

`start` does what llama-server does (`get_available_slot`, `prompt_save`, `prompt_load`, `cache_idle_slots` in its
tools/server; routing.md section 2). Nothing here is changed in place: every step gives new lists of the same entries.
"""

from collections.abc import Collection

import msgspec

from router.balance.chain import HEAD_BYTES, Chain, common
from router.balance.tokens import Tokens

# A slot is taken for its likeness above this share of the prompt (--slot-prompt-similarity), else the one whose last
# call ended first.
LEAST_LIKENESS = 0.1
# A slot of which less than this share would be kept is saved to the RAM cache first.
KEEP_SHARE = 0.5
# Nothing is taken out of the RAM cache of which less than this share would be used.
LOAD_SHARE = 0.25
# The newest so many of a RAM cache are followed; every look at it goes through all of them.
MOST_IN_RAM = 128
# Shorter tails are not worth mourning.
LEAST_LOST_TOKENS = 256


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The KV cache of one prompt, and of what was generated after it.

    `tokens` counts both, `prompt_tokens` the prompt alone. `session`: whose it is, see `balance.affinity`; 0: nobody's.
    `used_s`: when its last call began or ended.
    """

    chain: Chain
    session: int
    prompt_tokens: float
    tokens: float
    used_s: float

    @property
    def tail(self) -> int:
        """The id by which it is known when it comes back: every prompt holds it that goes on from this one."""
        return self.chain.ids[-1]

    def tokens_at(self, units: int, tokens: Tokens) -> float:
        """The tokens of its first `units` units: as they were counted, else in proportion to their bytes."""
        ends = self.chain.ends
        if units >= len(ends):
            return self.prompt_tokens
        known = tokens.known(self.chain, units)
        return float(known) if known is not None else self.prompt_tokens * ends[units - 1] / max(1, ends[-1])


class Contents(msgspec.Struct, frozen=True, gc=False):
    """What there is: a slot that holds nothing is None; the RAM cache has its oldest entry first."""

    slots: tuple[Entry | None, ...]
    ram: tuple[Entry, ...] = ()

    def with_slot(self, index: int, entry: Entry | None) -> "Contents":
        """The same, but for one slot."""
        return Contents((*self.slots[:index], entry, *self.slots[index + 1 :]), self.ram)


class Rules(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an instance was started. `ram_tokens`: what its RAM cache holds; 0: it has none.

    `unified`: idle slots are cleared once they are saved (--kv-unified, the default unless --parallel is given).
    `echo`: the share of a generated answer that is found warm when it comes back in the next turn, 0 to 1.
    """

    ram_tokens: float = 0.0
    unified: bool = False
    echo: float = 0.0

    @property
    def safe_tokens(self) -> float:
        """What lies deeper in the RAM cache than this is as good as lost: it goes out before it is asked for.

        Half of it where slots keep what they hold (routing.md 5.4: believing in half took a sixth off the mean TTFT);
        all of it where the RAM cache is all that keeps anything.
        """
        return self.ram_tokens if self.unified else self.ram_tokens / 2


class Lost(msgspec.Struct, frozen=True, gc=False):
    """An entry of which only the first `covered_tokens` can still be found after a placement."""

    entry: Entry
    covered_tokens: float


class Probe(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a call finds. `hit_tokens` of its `prompt_tokens` are warm, which is `units` of its chain.

    `slot`: which takes it; -1: none is idle. `moved_tokens`: copied between slots and RAM cache on the way. `diverges`:
    what it finds goes on otherwise than itself. `beyond_tokens` of the hit are behind the common units: the beginning
    of the unit that differs, or else an answer that comes back.
    """

    slot: int
    units: int = 0
    hit_tokens: float = 0.0
    prompt_tokens: float
    lost: tuple[Lost, ...] = ()
    moved_tokens: float = 0.0
    diverges: bool = False
    beyond_tokens: float = 0.0


class Prompt:
    """A prompt that looks for a place, and what was worked out about it on the way: it is asked about every slot."""

    __slots__ = ("_at", "_hint", "chain", "now_s", "session", "tokens")

    def __init__(self, chain: Chain, session: int, tokens: Tokens, now_s: float) -> None:
        """`tokens`: the counts of its pool."""
        self.chain = chain
        self.session = session
        self.tokens = tokens
        self.now_s = now_s
        self._at: dict[int, float] = {}
        self._hint = 0

    def __repr__(self) -> str:
        return f"Prompt[{self.chain!r}]"

    def found(self, entry: Entry | None, echo: float) -> tuple[int, float]:
        """The units and tokens that it has in common with an entry.

        An answer counts only as far as answers are known to come back as they were: nobody sees their tokens.
        """
        if entry is None:
            return 0, 0.0
        chain = self.chain
        units = self._hint = common(entry.chain, chain, self._hint)
        if not units:
            return 0, 0.0
        if units == len(entry.chain.ids):
            goes_on = units < len(chain.ids)
            return units, entry.prompt_tokens + (echo * (entry.tokens - entry.prompt_tokens) if goes_on else 0.0)
        hit = self._at.get(units)
        if hit is None:
            hit = self._at[units] = entry.tokens_at(units, self.tokens) + self.tokens.shared(chain, units)
        return units, hit

    def total(self, units: int, hit: float) -> float:
        """Its tokens, when so many of it are in its first `units` units."""
        return self.tokens.total(self.chain, units, hit)


class Choice(msgspec.Struct, frozen=True, gc=False):
    """The slot that a call is given, and what it finds in it: `hit` tokens, `units` of its chain. -1: none is idle."""

    slot: int
    units: int = 0
    hit: float = 0.0


def start(contents: Contents, busy: Collection[int], prompt: Prompt, rules: Rules) -> tuple[Probe, Contents]:
    """Give a call a slot; returns what it finds, and what is held when it has begun. `busy`: slots not to be had."""
    choice = choose(contents, busy, prompt, rules)
    if choice.slot < 0:
        return Probe(slot=-1, prompt_tokens=prompt.total(0, 0.0)), contents
    slot, units, hit = choice.slot, choice.units, choice.hit
    old = source = contents.slots[slot]
    slots, ram, moved = list(contents.slots), contents.ram, 0.0
    if rules.ram_tokens > 0:
        work = list(ram)
        if old is None or hit < KEEP_SHARE * old.tokens or hit <= LEAST_LIKENESS * prompt.total(units, hit):
            moved += _save(work, old, rules.ram_tokens)
            better = _load(work, old, units, hit, prompt, rules.echo)
            if better is not None:
                source, units, hit = better
                work.remove(source)
                moved += source.tokens
        kept = {id(entry) for entry in work}
        for index in range(len(slots) - 1, -1, -1):  # in llama-server's order, see choose
            if index != slot and index not in busy:
                if id(idle := slots[index]) not in kept:
                    moved += _save(work, idle, rules.ram_tokens)
                if rules.unified:
                    slots[index] = None
        ram = tuple(work)
    diverges = source is not None and 0 < units < len(source.chain.ids)
    beyond = 0.0
    if diverges:
        beyond = prompt.tokens.shared(prompt.chain, units)
    elif source is not None and units:
        beyond = hit - source.prompt_tokens
    total = prompt.total(units, hit - beyond)
    slots[slot] = Entry(
        chain=prompt.chain, session=prompt.session, prompt_tokens=total, tokens=total, used_s=prompt.now_s
    )
    after = Contents(tuple(slots), ram)
    probe = Probe(
        slot=slot,
        units=units,
        hit_tokens=min(hit, max(0.0, total - 1.0)),  # the last token of a prompt is always computed
        prompt_tokens=total,
        lost=_lost(contents, after, prompt.tokens, rules.safe_tokens),
        moved_tokens=moved,
        diverges=diverges,
        beyond_tokens=beyond,
    )
    return probe, after


def choose(contents: Contents, busy: Collection[int], prompt: Prompt, rules: Rules) -> Choice:
    """The idle slot most like the prompt, the last among equals; else the one that was used longest ago.

    llama-server takes empty slots from its last one down, and of equals the lowest. Slots are numbered the other way
    round here, in the order in which they were first used.
    """
    best, best_units, best_hit, best_bytes = -1, 0, -2.0, -1
    oldest, oldest_s = -1, float("inf")
    for index in range(len(contents.slots) - 1, -1, -1):
        if index in busy:
            continue
        entry = contents.slots[index]
        used_s = entry.used_s if entry is not None else float("-inf")
        if used_s < oldest_s:
            oldest, oldest_s = index, used_s
        units, hit = prompt.found(entry, rules.echo)
        if hit > best_hit + 1.0:
            best, best_units, best_hit, best_bytes = index, units, hit, -1
        elif hit > 0.0 and hit > best_hit - 1.0 and units == best_units:
            # Units tell slots apart no finer than a text, tokens do: the first bytes of the next unit decide.
            if best_bytes < 0:
                best_bytes = _equal_bytes(contents.slots[best], prompt.chain, units)
            equal = _equal_bytes(entry, prompt.chain, units)
            if equal > best_bytes:
                best, best_hit, best_bytes = index, hit, equal
    if best >= 0 and best_hit <= LEAST_LIKENESS * prompt.total(best_units, best_hit):
        return Choice(oldest, *prompt.found(contents.slots[oldest], rules.echo))
    return Choice(best, best_units, best_hit)


def contains(whole: Entry, part: Entry) -> bool:
    """Whether the one holds all of the other's prompt."""
    last = len(part.chain.ids) - 1
    return last < len(whole.chain.ids) and whole.chain.ids[last] == part.chain.ids[last]


def _equal_bytes(entry: Entry | None, chain: Chain, units: int) -> int:
    """How many of the first bytes of the unit after the common ones are equal."""
    if entry is None:
        return 0
    at = HEAD_BYTES * units
    mine, theirs = entry.chain.heads[at : at + HEAD_BYTES], chain.heads[at : at + HEAD_BYTES]
    if mine == theirs:
        return len(mine)
    if mine[:1] != theirs[:1]:
        return 0
    for index, (a, b) in enumerate(zip(mine, theirs, strict=False)):
        if a != b:
            return index
    return min(len(mine), len(theirs))


def _save(ram: list[Entry], entry: Entry | None, limit_tokens: float) -> float:
    """Copy a slot to the end of the RAM cache, unless it is there already; returns the tokens that are copied."""
    if entry is None or not LEAST_LOST_TOKENS <= entry.tokens <= limit_tokens:
        return 0.0  # what is too long is not kept there; what is short is not worth knowing
    last = len(entry.chain.ids) - 1
    tail = entry.chain.ids[last]
    for other in ram:
        if other is entry or (last < len(other.chain.ids) and other.chain.ids[last] == tail):
            return 0.0
    ram[:] = [other for other in ram if not contains(entry, other)]
    _make_room(ram, limit_tokens - entry.tokens)
    ram.append(entry)
    return entry.tokens


def _load(  # noqa: PLR0917  # the slot's three, and what looks for better
    ram: list[Entry], old: Entry | None, units: int, hit: float, prompt: Prompt, echo: float
) -> tuple[Entry, int, float] | None:
    """The entry of the RAM cache that is better than the slot both by what is found in it and by what it wastes."""
    best: tuple[Entry, int, float] | None = None
    best_keep = hit / max(1.0, old.tokens) if old is not None else 0.0
    ids = prompt.chain.ids
    for entry in ram:
        theirs = entry.chain.ids
        if units >= len(ids) or units >= len(theirs) or theirs[units] != ids[units]:
            continue  # no more in common than the slot has: the one unit tells
        there_units, there = prompt.found(entry, echo)
        keep = there / max(1.0, entry.tokens)
        if keep >= LOAD_SHARE and keep > best_keep and there > hit:
            best, best_keep, hit = (entry, there_units, there), keep, there
    return best


def _make_room(ram: list[Entry], limit_tokens: float) -> None:
    """First in, first out, even if the first is what the call would find."""
    held = sum(entry.tokens for entry in ram)
    while ram and (held > limit_tokens or len(ram) >= MOST_IN_RAM):
        held -= ram.pop(0).tokens


def _lost(before: Contents, after: Contents, tokens: Tokens, safe_tokens: float) -> tuple[Lost, ...]:
    gone = [old for old, new in zip(before.slots, after.slots, strict=True) if old is not None and old is not new]
    ram = after.ram
    if before.ram is not ram:
        ram = _safe(ram, safe_tokens)
        kept = {id(entry) for entry in ram}
        gone = [entry for entry in (*gone, *_safe(before.ram, safe_tokens)) if id(entry) not in kept]
    if not gone:
        return ()
    held = [entry for entry in (*after.slots, *ram) if entry is not None]
    lost = []
    for entry in gone:
        last, tail = len(entry.chain.ids) - 1, entry.chain.ids[-1]
        units = 0
        for other in held:
            ids = other.chain.ids
            if last < len(ids) and ids[last] == tail:
                break  # it holds all of it
            if units < len(ids) and units <= last and ids[units] == entry.chain.ids[units]:
                units = common(other.chain, entry.chain)
        else:
            covered = entry.tokens_at(units, tokens) if units else 0.0
            if entry.tokens - covered >= LEAST_LOST_TOKENS:
                lost.append(Lost(entry, covered))
    return tuple(lost)


def _safe(ram: tuple[Entry, ...], limit_tokens: float) -> tuple[Entry, ...]:
    """The newest entries, as many as have so many tokens."""
    left_tokens = limit_tokens
    for at in range(len(ram) - 1, -1, -1):
        left_tokens -= ram[at].tokens
        if left_tokens < 0:
            return ram[at + 1 :]
    return ram
