"""Is it working or only busy? The one sign that tells a hung GPU from a long prompt: llama_decode calls stand still."""

from router.probe.pulse import Pulse

# One batch of 2,048 prompt tokens on a slow CPU takes tens of seconds, and counts once.
STUCK_S = 60.0


class StuckWatch:
    """Remembers when something last moved. A count that stands still tells, and so does a question without an answer.

    Where there is no count any answer is a sign of life: builds that do not tell theirs answer between two batches.
    """

    def __init__(self) -> None:
        self._decodes: int | None = None
        self._moved_s: float | None = None

    def __repr__(self) -> str:
        return f"StuckWatch({self._decodes} decodes)"

    def rest(self) -> None:
        """Nothing runs there at present: what was seen before says nothing of the next call."""
        self._decodes = self._moved_s = None

    def moved(self, at_s: float) -> None:
        """Something came from it then: a token, an event."""
        if self._moved_s is not None:
            self._moved_s = max(self._moved_s, at_s)

    def look(self, pulse: Pulse | None, now_s: float) -> bool:
        """Take a pulse, None: asked for in vain; True when slots have been busy for `STUCK_S` and nothing moved."""
        restful = pulse is not None and (
            pulse.processing == 0 or pulse.decodes is None or pulse.decodes != self._decodes
        )
        if restful or self._moved_s is None:
            self._decodes = pulse.decodes if pulse is not None else None
            self._moved_s = now_s
            return False
        return now_s - self._moved_s >= STUCK_S
