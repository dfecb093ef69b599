"""What is learned of pools and instances: how long a call holds a slot, what a token weighs, how fast they compute."""

import math


class HoldTimes:
    """A mean that forgets: each new call counts for a tenth, so that about the last twenty matter.

    None until the first call of a pool is over: nothing is promised from nothing.
    """

    _WEIGHT = 0.1

    def __init__(self) -> None:
        self._mean_s: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"HoldTimes[{', '.join(f'{pool} {mean_s:.2f} s' for pool, mean_s in self._mean_s.items())}]"

    def observe(self, pool: str, held_s: float) -> None:
        """A call gave its slot back after `held_s`."""
        mean_s = self._mean_s.get(pool)
        self._mean_s[pool] = held_s if mean_s is None else mean_s + self._WEIGHT * (held_s - mean_s)

    def wait_s(self, pool: str, *, ahead: int, slots: int) -> float | None:
        """Predict the wait of a call behind `ahead` others when every one of `slots` is taken.

        The slots give out one place every mean/slots seconds. None: not known, or no slot at all.
        """
        mean_s = self._mean_s.get(pool)
        if mean_s is None or slots <= 0:
            return None
        return (ahead + 1) * mean_s / slots


class TokenSizes:
    """Bytes of a request body per prompt token, JSON and all; a mean that forgets as `HoldTimes` does.

    Only good for a first guess: pictures weigh much and count little.
    """

    _WEIGHT = 0.1
    _AT_FIRST = 4.0  # Claude Code's requests have 4.0 with the tokenizer of SmolLM2
    _LEAST_TOKENS = 256  # below that the JSON around the text weighs more than the text

    def __init__(self) -> None:
        self._bytes_per_token: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"TokenSizes[{', '.join(f'{pool} {size:.2f}' for pool, size in self._bytes_per_token.items())}]"

    def observe(self, pool: str, body_bytes: int, prompt_tokens: int) -> None:
        """A call is over that had so many of both."""
        if prompt_tokens >= self._LEAST_TOKENS:
            size = self._bytes_per_token.get(pool, self._AT_FIRST)
            self._bytes_per_token[pool] = size + self._WEIGHT * (body_bytes / prompt_tokens - size)

    def guess_tokens(self, pool: str, body_bytes: int) -> float:
        """The prompt tokens that a body of this size probably has."""
        return body_bytes / self._bytes_per_token.get(pool, self._AT_FIRST)


class Speed:
    """How fast one instance reads prompts and writes answers, learned from its answers.

    Reading gets slower with what has been read: a token at position p takes `token_s * (1 + p / HALF_AT)`.
    """

    HALF_AT = 32_768  # at this position reading is half as fast; 3,500 tokens/s at 0 and 1,200 at 64k were measured
    _WEIGHT = 0.2
    _LEAST_READ, _LEAST_WRITTEN = 256, 8  # below, the time is not the tokens'
    _LIKELY = 3.0
    _FULL_READ = 4096  # below, tokenising, batches and the first token's own time blur it

    def __init__(self) -> None:
        self.token_s: float | None = None
        """Seconds to read one token at position 0; None: nothing was learned yet."""
        self.written_s: float | None = None
        """Seconds between two tokens of an answer; None as above."""

    def __repr__(self) -> str:
        read = f"{1 / self.token_s:.0f} tokens/s" if self.token_s else "unknown"
        return f"Speed[reads {read}, {1000 * (self.written_s or 0):.1f} ms a token written]"

    @classmethod
    def work(cls, start: float, end: float) -> float:
        """Tokens from position `start` to `end` of a prompt, as many at position 0 take the same time."""
        return max(0.0, (end - start) * (1.0 + (start + end) / (2.0 * cls.HALF_AT)))

    def observe_read(self, start: float, end: float, took_s: float) -> None:
        """It read the tokens between two positions of a prompt, and nothing else. Long reads count in full."""
        if end - start >= self._LEAST_READ and took_s > 0:
            work = self.work(start, end)
            self.token_s = self._learn(self.token_s, took_s / work, min(1.0, work / self._FULL_READ))

    def observe_written(self, count: int, took_s: float) -> None:
        """It wrote so many tokens after the first one, and read nothing meanwhile."""
        if count >= self._LEAST_WRITTEN and took_s > 0:
            self.written_s = self._learn(self.written_s, took_s / count, 1.0)

    def _learn(self, mean: float | None, seen: float, share: float) -> float:
        if mean is None:
            return seen
        # A machine that stood still for seconds says nothing of its speed; one that has changed is followed in steps.
        likely = min(max(seen, mean / self._LIKELY), mean * self._LIKELY)
        return mean + self._WEIGHT * share * (likely - mean)


def retry_after_s(wait_s: float | None, *, default_s: int = 5) -> int:
    """Whole seconds from 1 to 30, rounded up; `default_s` when nothing is known."""
    return default_s if wait_s is None else min(30, max(1, math.ceil(wait_s)))
