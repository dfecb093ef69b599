"""Shadow: one instance as placement sees it: its caches, the calls that are there, its speed, how busy it was."""

import math
from collections.abc import Iterator

from router.balance import cost
from router.balance.kv import Probe, Prompt, Rules
from router.balance.mirror import SURE_TOKENS, Mirror
from router.fleet.instance import Instance
from router.fleet.load import Speed

# How long work is remembered as having kept it busy.
_BUSY_S = 30.0
# llama-server splits prompts into tokens in parallel, so two calls may reach its queue in another order than they were
# sent. The head of a stream shows that its slot has begun (33 ms on the median, 120 ms for one in ten); after this
# long nobody waits for it. Plain answers show nothing until they are whole.
GATE_S, PLAIN_GATE_S = 0.5, 0.1
# How fast the trust in what is believed warm follows what is found.
_TRUST_WEIGHT = 0.05


class _Reading:
    """A call whose answer has not begun. `alone`: nothing else was read there since it was sent."""

    __slots__ = ("alone", "begun", "gate_s", "hit_tokens", "moved_s", "read_s", "sent_s")

    def __init__(self, sent_s: float, probe: Probe, read_s: float, *, gate_s: float, alone: bool) -> None:
        self.sent_s = sent_s
        self.read_s = read_s
        self.hit_tokens = probe.hit_tokens
        self.moved_s = cost.moved_s(probe.moved_tokens)
        self.gate_s = gate_s
        self.alone = alone
        self.begun = False


class _Writing:
    """A call whose answer is being written. `alone`: nothing was read there since it began."""

    __slots__ = ("alone", "since_s")

    def __init__(self, since_s: float, *, alone: bool) -> None:
        self.since_s = since_s
        self.alone = alone


class Shadow:
    """What `balance.book` keeps for each instance."""

    def __init__(self, slots: int, rules: Rules) -> None:
        self.mirror = Mirror(slots=slots, rules=rules)
        self.instance: Instance | None = None
        """As the registry had it when this was made."""
        self.speed = Speed()
        self.version = 0
        """Grows with everything that may change what is foreseen here."""
        self.trust = 1.0
        """The share of what is believed warm that is found: near 0 for models that cannot reuse a prompt's KV."""
        self._reading: dict[int, _Reading] = {}
        self._writing: dict[int, _Writing] = {}
        self._last_first_s = float("-inf")
        self._worked_s = 0.0
        self._at_s = 0.0  # up to when that has faded

    def __repr__(self) -> str:
        return f"Shadow[{self.mirror!r}, {self.speed!r}, {len(self._reading)} read, {len(self._writing)} written]"

    def know(self, slots: int, rules: Rules) -> None:
        """How it was started; what is held is forgotten when that has changed."""
        self.version += 1
        mine = self.mirror.rules
        if slots != self.mirror.slots or (mine.ram_tokens, mine.unified) != (rules.ram_tokens, rules.unified):
            self.mirror = Mirror(slots=slots, rules=rules)

    def restarted(self) -> None:
        """Nothing is warm, and no call of before is there."""
        self.version += 1
        self.mirror.clear()
        self._reading.clear()
        self._writing.clear()

    # ------------------------------------------------------------ calls

    def sent(self, number: int, probe: Probe, read_s: float, now_s: float, *, streams: bool) -> None:
        """A call is sent, and the mirror knows of it; what is not warm of it will be read in `read_s`."""
        self.version += 1
        gate_s = GATE_S if streams else PLAIN_GATE_S
        for other in self._reading.values():
            other.alone = False
        for written in self._writing.values():
            written.alone = False
        self._worked_s = self._faded_s(now_s)
        self._at_s = now_s
        self._reading[number] = _Reading(now_s, probe, read_s, gate_s=gate_s, alone=not self._reading)

    def begun(self, number: int) -> None:
        """Its slot has begun with it."""
        reading = self._reading.get(number)
        if reading is not None:
            reading.begun = True

    def first_token(self, number: int, cached: int | None, prompt: int | None, now_s: float) -> None:
        """Its answer begins."""
        self.version += 1
        reading = self._reading.pop(number, None)
        if reading is None:
            return
        self._writing[number] = _Writing(now_s, alone=not self._reading)
        if cached is not None and prompt is not None:
            if reading.alone:
                took_s = now_s - max(reading.sent_s, self._last_first_s)
                self.speed.observe_read(cached, prompt, took_s - reading.moved_s)
            if reading.hit_tokens > SURE_TOKENS:
                found = min(1.0, cached / reading.hit_tokens)
                self.trust += _TRUST_WEIGHT * (found - self.trust)
        self._last_first_s = now_s
        self.mirror.first_token(number, cached, prompt, now_s)

    def finished(
        self, number: int, now_s: float, *, cached: int | None, prompt: int | None, output: int | None
    ) -> None:
        """Its answer is whole."""
        self.version += 1
        reading = self._reading.pop(number, None)
        if reading is not None:  # a plain one: nothing can be said of how long it was read
            self._last_first_s = now_s
            self.mirror.first_token(number, cached, prompt, now_s)
        written = self._writing.pop(number, None)
        if written is not None and written.alone and output is not None:
            self.speed.observe_written(output - 1, now_s - written.since_s)
        self.mirror.finish(number, output or 0, now_s)

    def aborted(self, number: int, now_s: float) -> None:
        """It was broken off."""
        self.version += 1
        self._reading.pop(number, None)
        self._writing.pop(number, None)
        self.mirror.abort(number, now_s)

    # ------------------------------------------------------------ what it has to do

    @property
    def running(self) -> int:
        """How many answers are being written."""
        return len(self._writing)

    def gated(self, prompt: Prompt, hit_tokens: float, now_s: float) -> bool:
        """Another call sent now might be given the slot of one that has not begun, and destroy what is warm there.

        It would if that slot is as good for it as any other: `hit_tokens` is what it would find in the one it is meant
        for.
        """
        for number, one in self._reading.items():
            if one.begun or one.sent_s <= now_s - one.gate_s or one.hit_tokens <= SURE_TOKENS:
                continue
            there = self.mirror.found_by(prompt, number)
            if there >= hit_tokens - 1.0 and one.hit_tokens > there + SURE_TOKENS:
                return True
        return False

    def reading_s(self, now_s: float) -> float:
        """How long it will go on reading what it was sent: prompts are read one after another."""
        if not self._reading:
            return 0.0
        first = next(iter(self._reading.values()))
        done_s = now_s - max(first.sent_s, self._last_first_s)
        rest_s = sum(one.read_s for one in self._reading.values()) - first.read_s
        return max(0.0, first.read_s - done_s) + rest_s

    def left_s(self, answer_tokens: float, written_s: float, now_s: float) -> Iterator[float]:
        """How long each call there will still take, as far as anybody knows."""
        for one in self._writing.values():
            yield cost.answer_left_s(answer_tokens, written_s, now_s - one.since_s)
        before_s = 0.0
        for read in self._reading.values():
            before_s += max(0.0, read.read_s - max(0.0, now_s - read.sent_s)) if not before_s else read.read_s
            yield before_s + answer_tokens * written_s

    def worked(self, work_s: float) -> None:
        """The call that was just sent gives it so much to do."""
        self._worked_s += work_s

    def busy(self, now_s: float) -> float:
        """The share of the last half minute that it had work for, 0 to 1."""
        return min(1.0, self._faded_s(now_s) / _BUSY_S)

    def _faded_s(self, now_s: float) -> float:
        return self._worked_s * math.exp((self._at_s - now_s) / _BUSY_S) if self._worked_s else 0.0
