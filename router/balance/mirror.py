"""Mirror: one instance's slots and RAM cache in shadow, so that the router knows where a prompt is warm.

It is told five things: a call is sent, its answer begins and says how much was found warm, it is whole, it was broken
off, the process was started anew. What an answer says is always right; what was believed before is moved until it fits.
"""

from collections.abc import Iterator

import msgspec

from router.balance.chain import Chain
from router.balance.kv import Contents, Entry, Probe, Prompt, Rules, start

# A count that is off by less than this is as good as right.
NEAR_TOKENS, NEAR_SHARE = 128, 0.03
# Nothing warm twice in a row where more than this surely was: the process is a new one.
SURE_TOKENS = 1024
# Answers shorter than this teach nothing about whether answers come back as they were.
_LEAST_ANSWER_TOKENS = 16


class Foreseen(msgspec.Struct, frozen=True, gc=False):
    """What a call would find, and what is held before and after it has begun."""

    probe: Probe
    before: Contents
    after: Contents


class Run:
    """A call in a slot. `before`: what was held when it was sent."""

    __slots__ = ("before", "probe", "prompt", "slot", "started")

    def __init__(self, probe: Probe, prompt: Prompt, before: Contents) -> None:
        self.probe = probe
        self.slot = probe.slot
        self.prompt = prompt
        self.before = before
        self.started = False

    def found_in(self, slot: int) -> Entry | None:
        """What this slot held when it was sent."""
        return self.before.slots[slot] if slot < len(self.before.slots) else None


class Mirror:
    """The caches of one instance. A run is known by the number that whoever sends the call gives it."""

    def __init__(self, *, slots: int, rules: Rules) -> None:
        self.rules = rules
        self._slots = slots
        # Empty slots are taken lowest first, so one behind those that hold something stands for all the others.
        self._contents = Contents((None,))
        self._runs: dict[int, Run] = {}
        self._empty_in_a_row = 0

    def __repr__(self) -> str:
        held = " ".join("-" if entry is None else f"{entry.tokens:.0f}" for entry in self._contents.slots)
        return f"Mirror[{held} | {len(self._contents.ram)} in RAM | {len(self._runs)} run]"

    @property
    def contents(self) -> Contents:
        """What it is believed to hold."""
        return self._contents

    def chains(self) -> Iterator[Chain]:
        """The prompts that it holds."""
        for entry in (*self._contents.slots, *self._contents.ram):
            if entry is not None:
                yield entry.chain

    @property
    def slots(self) -> int:
        """How many it has."""
        return self._slots

    def probe(self, prompt: Prompt, *, free: bool = True) -> Foreseen:
        """What a call would find if it were sent now. Changes nothing.

        `free` False: no slot is free, so what it would find if all were; which one will be is not known.
        """
        probe, after = start(self._contents, self._busy() if free else (), prompt, self.rules)
        return Foreseen(probe, self._contents, after)

    def found_by(self, prompt: Prompt, number: int) -> float:
        """The tokens that a prompt would find in what the slot of this run held before it; 0: it is not followed."""
        run = self._runs.get(number)
        return prompt.found(run.found_in(run.slot), self.rules.echo)[1] if run is not None else 0.0

    def dispatch(self, number: int, prompt: Prompt, foreseen: Foreseen | None = None) -> Probe:
        """A call is sent. Slot -1, when all are taken: it is not followed.

        `foreseen`: what a probe said while there was a slot; it holds if nothing has happened since.
        """
        if foreseen is None or foreseen.before is not self._contents:
            foreseen = self.probe(prompt)
        if foreseen.probe.slot >= 0:
            self._runs[number] = Run(foreseen.probe, prompt, self._contents)
            self._contents = self._with_spare(foreseen.after)
        return foreseen.probe

    def first_token(self, number: int, cached: int | None, prompt: int | None, now_s: float) -> None:
        """The answer begins. `cached` of its `prompt` tokens were found warm; None: it does not tell."""
        run = self._runs.get(number)
        if run is None or run.started:
            return
        run.started = True
        chain, probe, tokens = run.prompt.chain, run.probe, run.prompt.tokens
        if cached is not None:
            self._settle(run, cached)
            if probe.diverges:
                tokens.observe_shared(chain, probe.units, cached - (probe.hit_tokens - probe.beyond_tokens))
        total = probe.prompt_tokens
        if prompt is not None:
            total = float(prompt)
            known = probe.hit_tokens - probe.beyond_tokens
            tokens.observe(chain, prompt, units=probe.units, tokens=known)
        self._put(run, total, total, now_s)

    def finish(self, number: int, output_tokens: int, now_s: float) -> None:
        """The answer is whole: its slot is idle, and holds prompt and answer."""
        run = self._runs.pop(number, None)
        if run is not None:
            entry = self._contents.slots[run.slot]
            if entry is not None and entry.chain is run.prompt.chain:
                self._put(run, entry.prompt_tokens, entry.prompt_tokens + output_tokens, now_s)
            self._race(run.slot)

    def abort(self, number: int, now_s: float) -> None:
        """It was broken off. Before the answer began nobody knows how far the prompt was read: what was warm stays."""
        run = self._runs.pop(number, None)
        if run is None:
            return
        entry = self._contents.slots[run.slot]
        if entry is not None and entry.chain is run.prompt.chain:
            left = None
            if run.started:
                left = msgspec.structs.replace(entry, used_s=now_s)
            elif run.probe.units:
                chain, hit = entry.chain.first(run.probe.units), run.probe.hit_tokens
                left = Entry(chain=chain, session=entry.session, prompt_tokens=hit, tokens=hit, used_s=now_s)
            self._contents = self._contents.with_slot(run.slot, left)
        self._race(run.slot)

    def disown(self, session: int) -> None:
        """Nobody will ask for what is held of a conversation any more: it has thrown away what it said."""
        slots = tuple(_disowned(entry, session) for entry in self._contents.slots)
        ram = tuple(it for entry in self._contents.ram if (it := _disowned(entry, session)) is not None)
        self._contents = Contents(slots, ram)

    def clear(self) -> None:
        """The process was started anew: nothing is warm, and the calls that ran there are over."""
        self._contents = Contents((None,))
        self._runs.clear()
        self._empty_in_a_row = 0

    def _busy(self) -> set[int]:
        return {run.slot for run in self._runs.values()}

    def _with_spare(self, contents: Contents) -> Contents:
        slots = contents.slots
        if slots[-1] is None or len(slots) == self._slots:
            return contents
        return Contents((*slots, None), contents.ram)

    def _put(self, run: Run, prompt_tokens: float, total_tokens: float, now_s: float) -> None:
        chain, session = run.prompt.chain, run.prompt.session
        entry = Entry(chain=chain, session=session, prompt_tokens=prompt_tokens, tokens=total_tokens, used_s=now_s)
        self._contents = self._contents.with_slot(run.slot, entry)

    # ------------------------------------------------------------ corrections

    def _settle(self, run: Run, cached: int) -> None:
        """Move what is believed until it explains what was found."""
        self._learn_echo(run, cached)
        missing = run.probe.hit_tokens - cached
        if cached or missing <= SURE_TOKENS:
            self._empty_in_a_row = 0
        if abs(missing) <= near(cached):
            return
        if missing > 0:
            if cached == 0 and missing > SURE_TOKENS:
                self._empty_in_a_row += 1
                if self._empty_in_a_row >= 2:
                    self._forget_idle()
            return
        # More was found than was believed, so the call is in another slot. Less tells nothing: every slot would do.
        slot = self._explaining(run, cached)
        if slot is not None:
            self._swap(run, slot)
            return
        for entry in self._contents.ram:
            if abs(run.prompt.found(entry, self.rules.echo)[1] - cached) <= near(cached):
                ram = tuple(other for other in self._contents.ram if other is not entry)
                self._contents = Contents(self._contents.slots, ram)
                return

    def _learn_echo(self, run: Run, cached: int) -> None:
        """Whether an answer is found warm when it comes back as a part of the next prompt."""
        old = run.found_in(run.slot)
        if old is None or run.probe.units != len(old.chain.ids) or run.probe.units == len(run.prompt.chain.ids):
            return
        answer = old.tokens - old.prompt_tokens
        share = (cached - old.prompt_tokens) / answer if answer >= _LEAST_ANSWER_TOKENS else -1.0
        if -0.5 < share < 1.5:
            echo = self.rules.echo + 0.2 * (min(1.0, max(0.0, share)) - self.rules.echo)
            self.rules = Rules(ram_tokens=self.rules.ram_tokens, unified=self.rules.unified, echo=echo)

    def _explaining(self, run: Run, cached: int) -> int | None:
        """Another slot, idle or taken a moment ago, in which just so much would be found."""
        runs = {other.slot: other for other in self._runs.values()}
        for slot, entry in enumerate(self._contents.slots):
            other = runs.get(slot)
            if other is run or (other is not None and other.started):
                continue
            held = entry if other is None else other.found_in(slot)
            if abs(run.prompt.found(held, self.rules.echo)[1] - cached) <= near(cached):
                return slot
        return None

    def _swap(self, run: Run, slot: int) -> None:
        """It runs in that slot: what it was thought to overwrite is still there, or is where the other call runs."""
        mine, slots = run.slot, list(self._contents.slots)
        other = next((one for one in self._runs.values() if one.slot == slot), None)
        if other is None:
            slots[mine], slots[slot] = run.found_in(mine), slots[mine]
        else:
            slots[mine], slots[slot] = slots[slot], slots[mine]
            other.slot = mine
        run.slot = slot
        self._contents = Contents(tuple(slots), self._contents.ram)

    def _forget_idle(self) -> None:
        busy = self._busy()
        slots = tuple(entry if slot in busy else None for slot, entry in enumerate(self._contents.slots))
        self._contents = Contents(slots)
        self._empty_in_a_row = 0

    def _race(self, freed: int) -> None:
        """A slot came free while a call that was sent earlier has not begun: it may take that one.

        llama-server chooses when it comes to the call in its queue, not when we send it. So the choice is made anew, as
        though the slot had been idle then.
        """
        waiting = [(number, run) for number, run in self._runs.items() if not run.started]
        if len(waiting) != 1:
            return
        number, run = waiting[0]
        slots = list(self._contents.slots)
        slots[run.slot] = run.found_in(run.slot)
        before = Contents(tuple(slots), run.before.ram)
        busy = {other.slot for other in self._runs.values() if other is not run}
        probe, after = start(before, busy, run.prompt, self.rules)
        if probe.slot == freed:
            self._runs[number] = Run(probe, run.prompt, before)
            self._contents = self._with_spare(after)


def near(tokens: float) -> float:
    """How far from this count a belief may be and still be as good as right."""
    return max(NEAR_TOKENS, NEAR_SHARE * tokens)


def _disowned(entry: Entry | None, session: int) -> Entry | None:
    if entry is None or entry.session != session:
        return entry
    return msgspec.structs.replace(entry, session=0)
