"""How fast a server is: one line per thing that takes its time."""

import msgspec


class Speed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Times of one server. The defaults are a 30B mixture of experts on one large GPU, f16 KV of 96 KiB a token.

    `token_s`, `token_s_per_token`: prefill of one token at depth 0, and what each token before it adds: 3,500 tokens/s
    at the beginning, 1,200 at 64k. `step_s`, `sequence_s`, `context_s`: one decode of one sequence, what each further
    sequence adds, and what each token of context adds. `copy_tokens_per_s`: KV between GPU and the RAM cache.
    `factor` 0.5: a server of half the speed, but for the copies.
    """

    token_s: float = 1 / 3500
    token_s_per_token: float = (1 / 1200 - 1 / 3500) / 65_536
    step_s: float = 0.007
    sequence_s: float = 0.0018
    context_s: float = 60e-9
    copy_tokens_per_s: float = 61_000.0
    factor: float = 1.0

    def prefill_s(self, begin: int, end: int) -> float:
        """Reading the tokens from `begin` up to `end` of a prompt whose first `begin` are in KV."""
        return (self.token_s * (end - begin) + self.token_s_per_token * (end * end - begin * begin) / 2) / self.factor

    def decode_s(self, sequences: int, context_tokens: float) -> float:
        """One token for each of so many sequences that hold so many tokens together."""
        return (self.step_s + self.sequence_s * max(0, sequences - 1) + self.context_s * context_tokens) / self.factor

    def copy_s(self, tokens: int) -> float:
        """Copying the KV of so many tokens; everything else on the server waits meanwhile."""
        return tokens / self.copy_tokens_per_s
