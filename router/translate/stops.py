"""Why an answer ended: a chat completion's `finish_reason` made legal, and as the Messages API's `stop_reason`."""

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
GAVE_UP = frozenset({"error", "abort", "aborted", "cancelled"})
"""Words of vLLM, sglang and OpenRouter for an answer that was not brought to its end."""

# What others call the same: Anthropic, Mistral, Hugging Face.
_NEAREST = {"max_tokens": "length", "model_length": "length", "tool_use": "tool_calls", "tool_call": "tool_calls"}


def finish_word(finish: str, *, calls: bool) -> str:
    """Return the `finish_reason` of OpenAI's that comes nearest to a server's; `calls`: the answer has some.

    A word that nobody knows is a natural end. "tool_calls" without a call would send the client looking for one.
    """
    word = finish if finish in STOP_REASONS else _NEAREST.get(finish, "tool_calls" if calls else "stop")
    return "stop" if word == "tool_calls" and not calls else word


def stop_reason(
    finish: str, *, tools: bool, refused: bool = False, word: str | None = None, stop: tuple[str, ...] = ()
) -> tuple[str, str | None]:
    """Return `stop_reason` and `stop_sequence`.

    `tools`: the answer holds a tool call; clients run it only at "tool_use", and servers say "stop" as well. `word`:
    the stop word that the server names, if it does; it counts if it is one of `stop`, the caller's own. Plain OpenAI
    names none, and llama-server only when asked with `verbose`: without it a hit cannot be told from a natural end,
    and is "end_turn". A `finish` that nobody knows is a natural end.
    """
    reason = STOP_REASONS.get(finish, "end_turn")
    if reason in {"max_tokens", "refusal"}:
        return reason, None
    if refused:
        return "refusal", None
    if tools:
        return "tool_use", None
    if word is not None and word in stop:
        return "stop_sequence", word
    # "tool_calls" without a call would send the client looking for one.
    return "end_turn", None
