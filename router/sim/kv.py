"""What one llama-server keeps: its slots' KV and its RAM cache, by the rules of llama.cpp's tools/server.

`get_available_slot` (server-context.cpp), `server_prompt_cache::alloc` and `::load` (server-task.cpp), read at builds
of August 2026. Sizes are tokens: bytes are those times a constant.
"""

import math

import msgspec

from router.sim.prompt import Prompt, common

SLOT_SIMILARITY = 0.10  # --slot-prompt-similarity
SAVED_BELOW_KEEP = 0.5  # a chosen slot that keeps less of itself is copied to RAM first
LOADED_FROM_KEEP = 0.25  # an entry of which less would be used is never loaded


class Held(msgspec.Struct, frozen=True, gc=False):
    """A sequence in KV: a prompt and what was generated after it. `tokens`: of both."""

    prompt: Prompt
    tokens: int

    def shared(self, prompt: Prompt) -> int:
        """Tokens that it has in common with a prompt.

        What was generated comes back as it was: a longer prompt with all of our blocks is taken to hold our answer.
        """
        mine = self.prompt
        blocks = common(mine.ids, prompt.ids)
        if blocks < len(mine.ids):
            return min(blocks * mine.unit_tokens, prompt.tokens)
        if len(prompt.ids) > blocks:
            return min(self.tokens, prompt.tokens)
        return min(mine.tokens, prompt.tokens)


class Slot:
    """One parallel sequence. `used_s`: when it was last released."""

    __slots__ = ("busy", "held", "used_s")

    def __init__(self) -> None:
        self.held: Held | None = None
        self.busy = False
        self.used_s = -math.inf

    def __repr__(self) -> str:
        return f"Slot({'busy' if self.busy else 'idle'}, {self.held.tokens if self.held else 0} tokens)"


class Kv:
    """Slots and RAM cache. `ram_tokens` 0: --cache-ram 0. `unified`: idle slots are cleared when a task starts."""

    def __init__(self, *, slots: int, ram_tokens: int, unified: bool = False) -> None:
        self.slots = [Slot() for _ in range(slots)]
        self.ram: list[Held] = []
        self._ram_tokens = ram_tokens
        self._unified = unified

    def __repr__(self) -> str:
        return f"Kv[{self.slots}, {[held.tokens for held in self.ram]} in RAM]"

    def start(self, prompt: Prompt) -> tuple[int, int, int]:
        """A task takes an idle slot, of which there is one.

        Returns the slot's number, the tokens that need not be read again (one always is), and the tokens copied between
        KV and RAM on the way.
        """
        index, evicts = self._choose(prompt)
        slot = self.slots[index]
        moved = 0
        if evicts and self._ram_tokens:
            moved += self._save(slot.held)
            loaded = self._load(slot.held, prompt)
            if loaded is not None:
                slot.held = loaded
                moved += loaded.tokens
        cached = min(slot.held.shared(prompt), prompt.tokens - 1) if slot.held is not None else 0
        slot.busy = True
        slot.held = Held(prompt, prompt.tokens)
        return index, cached, moved + self._publish_idle()

    def finish(self, index: int, output_tokens: int, now_s: float) -> None:
        """The slot is released, with all that it has read and written."""
        slot = self.slots[index]
        if slot.held is not None:
            slot.held = Held(slot.held.prompt, slot.held.prompt.tokens + output_tokens)
        slot.busy = False
        slot.used_s = now_s

    def _choose(self, prompt: Prompt) -> tuple[int, bool]:
        """The idle slot, and whether the RAM cache is asked."""
        best, most = None, SLOT_SIMILARITY * prompt.tokens
        for index, slot in enumerate(self.slots):
            if slot.busy or slot.held is None:
                continue
            shared = slot.held.shared(prompt)
            if shared > most:
                best, most = index, shared
        if best is not None:
            held = self.slots[best].held
            return best, held is not None and most < SAVED_BELOW_KEEP * held.tokens
        idle = [index for index, slot in enumerate(self.slots) if not slot.busy]
        oldest = min(self.slots[index].used_s for index in idle)
        return [index for index in idle if self.slots[index].used_s == oldest][-1], True

    def _publish_idle(self) -> int:
        """--cache-idle-slots: a task has started, so all idle slots are copied to RAM; with unified KV, moved there."""
        if not self._ram_tokens:
            return 0
        moved = 0
        for slot in self.slots:
            if not slot.busy:
                moved += self._save(slot.held)
                if self._unified:
                    slot.held = None
        return moved

    def _save(self, held: Held | None) -> int:
        """Append a copy, unless it is there or does not fit at all; the oldest make room. Returns the tokens copied."""
        if held is None or held.tokens > self._ram_tokens or any(_within(held, other) for other in self.ram):
            return 0
        self.ram = [other for other in self.ram if not _within(other, held)]
        taken = sum(other.tokens for other in self.ram)
        while self.ram and taken + held.tokens > self._ram_tokens:
            taken -= self.ram.pop(0).tokens
        self.ram.append(held)
        return held.tokens

    def _load(self, held: Held | None, prompt: Prompt) -> Held | None:
        """Take out the entry that is better in both: how much of itself it keeps, how much of the prompt it gives."""
        best = held.shared(prompt) if held is not None else 0
        keep = best / held.tokens if held is not None else -1.0
        found = None
        for index, other in enumerate(self.ram):
            shared = other.shared(prompt)
            kept = shared / other.tokens
            if kept >= LOADED_FROM_KEEP and kept > keep and shared > best:
                best, keep, found = shared, kept, index
        return self.ram.pop(found) if found is not None else None


def _within(one: Held, other: Held) -> bool:
    """All of one is the beginning of the other."""
    return one is other or one.shared(Prompt(other.prompt.ids, other.tokens, other.prompt.unit_tokens)) >= one.tokens
