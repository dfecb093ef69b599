"""Is it working or only busy? The one sign that tells a hung GPU from a long prompt: llama_decode calls stand still."""

from router.probe.pulse import Pulse

# One batch of 2,048 prompt tokens on a slow CPU takes tens of seconds, and counts once.
STUCK_S = 60.0


class StuckWatch:
    """Remembers when the count last moved. Without /metrics there is no count, and nothing is ever found stuck."""

    def __init__(self) -> None:
        self._decodes: int | None = None
        self._moved_s = 0.0

    def __repr__(self) -> str:
        return f"StuckWatch({self._decodes} decodes)"

    def rest(self) -> None:
        """Nothing runs there at present: what was seen before says nothing of the next call."""
        self._decodes = None

    def look(self, pulse: Pulse, now_s: float) -> bool:
        """Take a pulse; True when slots have been busy for `STUCK_S` while nothing was decoded."""
        if pulse.processing == 0 or pulse.decodes is None or pulse.decodes != self._decodes:
            self._decodes = pulse.decodes
            self._moved_s = now_s
            return False
        return now_s - self._moved_s >= STUCK_S
