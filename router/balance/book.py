"""Book: what placement knows of the instances and conversations, kept true by what happens to calls.

Synchronous, handed the time, and alike in the router and in the simulator: whoever sends calls writes here what became
of them, and `balance.policy` reads.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from router.balance import cost
from router.balance.call import Call
from router.balance.chain import opaque
from router.balance.cost import Terms
from router.balance.index import STRIDE, Index
from router.balance.kv import Lost, Probe, Prompt, Rules
from router.balance.mirror import Foreseen
from router.balance.reuse import Reuse
from router.balance.shadow import Shadow
from router.balance.tokens import Tokens
from router.fleet.instance import Instance, InstanceId
from router.fleet.load import Speed
from router.fleet.view import Row

# Reading and writing where nothing at all is known yet: a mid-size model on a mid-size GPU.
UNKNOWN_TOKEN_S, UNKNOWN_WRITTEN_S = 1 / 1000, 1 / 50
# Tokens of an answer before the first one was seen, and how much each one counts after that.
FIRST_ANSWER_TOKENS, _ANSWER_WEIGHT = 128.0, 0.02
# What a RAM cache of the default 8 GiB holds of a model whose KV takes 96 KiB a token.
RAM_TOKENS = 87_000
# A conversation that was seen in this time counts as one that wants its KV cache kept.
LIVE_S = 120.0
# Up to so many instances it is quicker to look at each than to keep an index.
FEW = 8
# What is sure of a guess that is made from bytes.
_SURELY = 0.9
# How long a call waits before it destroys KV that is wanted, as a multiple of what that KV takes to be made again.
GUARDS = 3.0
# Over-subscription of the KV cache: 0 up to as many live conversations as there is room for, 1 at this much more.
_FULLY_OVER = 0.1
# What was foreseen so long ago is looked at again, even if nothing has happened.
_FRESH_S = 0.25
# Where a call's memo has the prompt that it goes on from; no instance is called so.
_TAIL = "\0tail"


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """What is foreseen for a call at an instance: what it finds there, and what that costs.

    `guard_s`: as `lost_s`, but counting only what is wanted again while the call could wait for it.
    """

    foreseen: Foreseen
    terms: Terms
    guard_s: float = 0.0

    @property
    def probe(self) -> Probe:
        """What it finds."""
        return self.foreseen.probe


class PoolBook:
    """What is learned of one model: its tokens, its answers, its conversations."""

    def __init__(self) -> None:
        self.tokens = Tokens()
        self.answer_tokens = FIRST_ANSWER_TOKENS
        self.prompt_tokens = 0.0
        self._sessions: OrderedDict[int, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"PoolBook[{self.tokens!r}, answers of {self.answer_tokens:.0f}, {len(self._sessions)} conversations]"

    def seen(self, session: int, now_s: float) -> None:
        """A conversation has been heard of."""
        self._sessions.pop(session, None)
        self._sessions[session] = now_s

    def answered(self, prompt_tokens: float, output_tokens: int | None) -> None:
        """An answer is whole."""
        if output_tokens is not None:
            self.answer_tokens += _ANSWER_WEIGHT * (output_tokens - self.answer_tokens)
        self.prompt_tokens += (0.05 if self.prompt_tokens else 1.0) * (prompt_tokens - self.prompt_tokens)

    def live(self, reuse: Reuse, under_way: dict[int, int], now_s: float) -> float:
        """How many conversations want their KV kept, each by the chance that it goes on."""
        while self._sessions and next(iter(self._sessions.values())) < now_s - LIVE_S:
            self._sessions.popitem(last=False)
        return sum(
            1.0 if session in under_way else reuse.probability(now_s - seen_s, now_s)
            for session, seen_s in self._sessions.items()
        )


class Book:
    """Everything that is learned. None of it outlives the process: it is wrong for some answers, and then right."""

    def __init__(self) -> None:
        self.reuse = Reuse()
        self._shadows: dict[InstanceId, Shadow] = {}
        self._pools: dict[str, PoolBook] = {}
        self._under_way: dict[int, int] = {}
        self._held: dict[int, int] = {}  # tails of prompts from which calls go on that wait for a place
        self._opaque = 1 << 63  # whoever makes chains of its own counts from 0
        self._over: dict[str, tuple[float, float]] = {}
        self._usual_s: tuple[float, float] | None = None
        self._index = Index()

    def __repr__(self) -> str:
        return f"Book[{len(self._shadows)} instances, {len(self._under_way)} conversations under way]"

    # ------------------------------------------------------------ what happens

    def know(self, instance_id: InstanceId, *, slots: int, rules: Rules) -> None:
        """How the instance was started. Nothing is forgotten unless that has changed."""
        known = self._shadows.get(instance_id)
        if known is None:
            self._shadows[instance_id] = Shadow(slots, rules)
        else:
            known.know(slots, rules)

    def forget(self, instance_ids: Iterable[InstanceId]) -> None:
        """They are gone, or mean another process now."""
        for instance_id in instance_ids:
            self._shadows.pop(instance_id, None)
            self._index.hold(instance_id, ())

    def restarted(self, instance_id: InstanceId) -> None:
        """Its process was started anew: nothing is warm."""
        shadow = self._shadows.get(instance_id)
        if shadow is not None:
            shadow.restarted()
            self._changed(instance_id, shadow)

    def arrived(self, call: Call, now_s: float) -> None:
        """A call has come to the router; until `left` its conversation is under way."""
        self._under_way[call.session] = self._under_way.get(call.session, 0) + 1
        if call.begins:
            self._disown(call.session)
        self.pool(call.pool).seen(call.session, now_s)
        if call.chain is not None:
            silent = self.reuse.since_s
            tail_ = next((id_ for id_ in reversed(call.chain.ids) if silent(id_) is not None), None)
            if tail_ is not None:
                self.reuse.came_back(tail_, now_s)
                self._held[tail_] = self._held.get(tail_, 0) + 1
                call.memo[_TAIL] = tail_

    def left(self, call: Call, now_s: float, *, answered: bool) -> None:
        """It is over. A conversation that was not answered is not expected to go on."""
        self._let_go(call)
        count = self._under_way.get(call.session, 0) - 1
        if count > 0:
            self._under_way[call.session] = count
        else:
            self._under_way.pop(call.session, None)
        if answered and not call.ends:
            self.pool(call.pool).seen(call.session, now_s)
        elif call.ends:
            self._disown(call.session)

    def dispatched(self, instance_id: InstanceId, number: int, call: Call, now_s: float) -> None:
        """It is sent to an instance. `number` is its own for this attempt; the later events name it again."""
        self._let_go(call)
        shadow = self._shadows.get(instance_id)
        if shadow is not None:
            pool = self.pool(call.pool)
            known = call.memo.get(instance_id)
            foreseen = known[4].foreseen if known is not None and known[1] else None
            probe = shadow.mirror.dispatch(number, self.prompt(call, now_s), foreseen)
            read_s = self._read_s(shadow, probe)
            shadow.sent(number, probe, read_s, now_s, streams=call.streams)
            self._changed(instance_id, shadow)
            shadow.worked(read_s + pool.answer_tokens * self._written_s(shadow))

    def begun(self, instance_id: InstanceId, number: int) -> None:
        """Its slot has begun with it: the next one may be sent there."""
        shadow = self._shadows.get(instance_id)
        if shadow is not None:
            shadow.begun(number)

    def first_token(
        self, instance_id: InstanceId, number: int, call: Call, now_s: float, *, cached: int | None, prompt: int | None
    ) -> None:
        """Its answer begins, and says how much of how many prompt tokens was warm; None: it does not tell."""
        shadow = self._shadows.get(instance_id)
        if shadow is not None:
            shadow.first_token(number, cached, prompt, now_s)
            self._usual_s = None
            self._changed(instance_id, shadow)

    def finished(
        self,
        instance_id: InstanceId,
        number: int,
        call: Call,
        now_s: float,
        *,
        cached: int | None,
        prompt: int | None,
        output: int | None,
    ) -> None:
        """Its answer is whole. A plain answer has its first token only now."""
        if call.chain is not None and not call.ends:  # before anybody is given the slot that comes free
            self.reuse.ended(call.chain.ids[-1], now_s)
        shadow = self._shadows.get(instance_id)
        pool = self.pool(call.pool)
        if prompt is not None:
            pool.answered(prompt, output)
        if shadow is not None:
            self._usual_s = None
            shadow.finished(number, now_s, cached=cached, prompt=prompt, output=output)
            self._changed(instance_id, shadow)

    def aborted(self, instance_id: InstanceId, number: int, call: Call, now_s: float) -> None:
        """It was broken off there. Harmless after `finished`."""
        shadow = self._shadows.get(instance_id)
        if shadow is not None:
            shadow.aborted(number, now_s)
            self._changed(instance_id, shadow)

    # ------------------------------------------------------------ what is foreseen

    def pool(self, name: str) -> PoolBook:
        """What is learned of this model."""
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = PoolBook()
        return pool

    def prompt(self, call: Call, now_s: float) -> Prompt:
        """Return its prompt, to ask about at one instance after another."""
        prompt = call.memo.get("")
        if prompt is None:
            chain = call.chain
            if chain is None:
                self._opaque += 1
                chain = opaque(self._opaque)
            prompt = call.memo[""] = Prompt(chain, call.session, self.pool(call.pool).tokens, now_s)
        prompt.now_s = now_s
        return prompt

    def gated(self, instance_id: InstanceId, prompt: Prompt, hit_tokens: float, now_s: float) -> bool:
        """Whether it might be given the slot of a call that was sent there a moment ago: see `Shadow.gated`."""
        shadow = self._shadows.get(instance_id)
        return shadow is not None and shadow.gated(prompt, hit_tokens, now_s)

    def estimate(self, row: Row, call: Call, prompt: Prompt, now_s: float) -> Estimate:
        """What sending the call there would bring, now or when a slot is free."""
        shadow = self._shadow(row)
        free, taken = row.free > 0, row.busy + row.closing
        known = call.memo.get(row.instance.id)
        if known is not None:
            estimate: Estimate
            version, was_free, was_taken, at_s, estimate = known
            if (
                version == shadow.version
                and was_free is free
                and (free or was_taken == taken)
                and now_s < at_s + _FRESH_S
            ):
                return estimate
        estimate = self._estimate(shadow, call, prompt, now_s, free=free, taken=taken)
        call.memo[row.instance.id] = shadow.version, free, taken, now_s, estimate
        return estimate

    def over_subscribed(self, pool: str, rows: Iterable[Row], now_s: float) -> float:
        """How much more KV the live conversations want than there is, from 0 (it fits) to 1 (a tenth more)."""
        known = self._over.get(pool)
        if known is not None and now_s - known[0] < _FRESH_S:
            return known[1]
        book = self.pool(pool)
        room = 0.0
        for row in rows:
            shadow = self._shadows.get(row.instance.id)
            ram_tokens = shadow.mirror.rules.ram_tokens if shadow is not None else 0.0
            room += max(row.slots, ram_tokens / max(1.0, book.prompt_tokens) + row.slots / 2)
        live = book.live(self.reuse, self._under_way, now_s)
        over = min(1.0, max(0.0, (live / room - 1.0) / _FULLY_OVER)) if room else 0.0
        self._over[pool] = now_s, over
        return over

    def _shadow(self, row: Row) -> Shadow:
        """Of an instance; a new one when it is new, or was started otherwise than the last time."""
        shadow = self._shadows.get(row.instance.id)
        if shadow is None or shadow.instance is not row.instance or shadow.mirror.slots != row.slots:
            self.know(row.instance.id, slots=row.slots, rules=_rules(row.instance))
            shadow = self._shadows[row.instance.id]
            shadow.instance = row.instance
        return shadow

    def at_least_s(self, rows: Sequence[Row], call: Call, prompt: Prompt, now_s: float) -> list[tuple[float, Row]]:
        """Say what sending the call to each of many instances costs at the least, the cheapest first; a quick look.

        Some microseconds for each, where an estimate takes tens.
        """
        if not self._index:
            for instance_id, shadow in self._shadows.items():
                self._index.hold(instance_id, shadow.mirror.chains())
        chain, tokens = prompt.chain, self.pool(call.pool).tokens
        total = tokens.total(chain, 0, 0.0)
        found = self._index.at_most(chain)
        few = min(len(chain.ids), STRIDE - 1)
        warm = {units: chain.ends[units - 1] / tokens.bytes_per_token for units in {few, *found.values()}}
        bounds = []
        for row in rows:
            shadow = self._shadow(row)
            hit = warm[found.get(row.instance.id, few)] * shadow.trust
            read_s = _SURELY * self._token_s(shadow) * Speed.work(min(hit, total), total)
            bounds.append((shadow.reading_s(now_s) + read_s, row))
        bounds.sort(key=lambda one: one[0])
        return bounds

    def _changed(self, instance_id: InstanceId, shadow: Shadow) -> None:
        if len(self._shadows) > FEW:
            self._index.hold(instance_id, shadow.mirror.chains())

    def _estimate(
        self, shadow: Shadow, call: Call, prompt: Prompt, now_s: float, *, free: bool, taken: int
    ) -> Estimate:
        pool = self.pool(call.pool)
        foreseen = shadow.mirror.probe(prompt, free=free)
        probe = foreseen.probe
        read_s, written_s = self._read_s(shadow, probe), self._written_s(shadow)
        wait_s = shadow.reading_s(now_s)
        if not free:
            left = shadow.left_s(pool.answer_tokens, written_s, now_s)
            wait_s = max(wait_s, cost.slot_wait_s(left, taken, shadow.mirror.slots))
        lost_s, guard_s = self._lost_s(probe.lost, shadow, now_s) if probe.lost else (0.0, 0.0)
        terms = Terms(
            wait_s=wait_s,
            read_s=read_s,
            behind_s=cost.behind_s(read_s, shadow.busy(now_s)),
            lost_s=lost_s,
            stall_s=cost.stall_s(read_s, written_s, pool.answer_tokens, shadow.running),
            moved_s=cost.moved_s(probe.moved_tokens),
        )
        return Estimate(foreseen, terms, guard_s)

    def _let_go(self, call: Call) -> None:
        tail_ = call.memo.pop(_TAIL, None)
        if tail_ is not None:
            self._held[tail_] -= 1
            if not self._held[tail_]:
                del self._held[tail_]

    def _disown(self, session: int) -> None:
        for shadow in self._shadows.values():
            shadow.mirror.disown(session)
            shadow.version += 1

    def _lost_s(self, lost: Iterable[Lost], shadow: Shadow, now_s: float) -> tuple[float, float]:
        """What is destroyed, in the seconds that it takes to read it again: by the chance that it is wanted.

        Returns what counts against the place, and what the call may wait for instead: that which is wanted soon.
        """
        total_s = soon_s = 0.0
        token_s = self._token_s(shadow)
        for one in lost:
            entry = one.entry
            if not entry.session:
                continue
            again_s = token_s * Speed.work(one.covered_tokens, entry.tokens)
            if entry.tail in self._held:
                total_s += again_s
                soon_s += again_s
                continue
            since_s = self.reuse.since_s(entry.tail)
            if since_s is None:
                continue  # it was gone on from elsewhere: this is what has been left behind
            age_s = now_s - since_s
            soon_s += again_s * self.reuse.probability(age_s, now_s, within_s=GUARDS * again_s)
            total_s += again_s * self.reuse.probability(age_s, now_s)
        return cost.LOSES * total_s, soon_s

    def _read_s(self, shadow: Shadow, probe: Probe) -> float:
        return self._token_s(shadow) * Speed.work(probe.hit_tokens * shadow.trust, probe.prompt_tokens)

    def _token_s(self, shadow: Shadow) -> float:
        return shadow.speed.token_s or self._usual()[0]

    def _written_s(self, shadow: Shadow) -> float:
        return shadow.speed.written_s or self._usual()[1]

    def _usual(self) -> tuple[float, float]:
        """The speeds of the others on the median, for an instance that has not shown its own yet."""
        if self._usual_s is None:
            speeds = [one.speed for one in self._shadows.values()]
            read = [speed.token_s for speed in speeds if speed.token_s]
            written = [speed.written_s for speed in speeds if speed.written_s]
            self._usual_s = (
                median(read) if read else UNKNOWN_TOKEN_S,
                median(written) if written else UNKNOWN_WRITTEN_S,
            )
        return self._usual_s


def _rules(instance: Instance) -> Rules:
    told = instance.cache_ram_tokens
    return Rules(ram_tokens=float(RAM_TOKENS if told is None else told), unified=instance.kv_unified)
