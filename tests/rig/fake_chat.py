"""llama-server's OpenAI side on the wire: /v1/chat/completions, plain and streamed."""

from tests.rig.fake_wire import Reply, compact

CREATED = 1_795_363_657
FINISH = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "stop_sequence": "stop"}


def chat_body(reply: Reply) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": "".join(reply.text) or None}
    if reply.thinking:
        message["reasoning_content"] = "".join(reply.thinking)
    if reply.tool:
        name, pieces = reply.tool
        message["tool_calls"] = [_tool_call(name, "".join(pieces))]
    choice = {"finish_reason": FINISH[reply.stop_reason], "index": 0, "message": message}
    return {
        "choices": [choice],
        **_envelope(reply, "chat.completion"),
        "usage": _usage(reply),
        "timings": _timings(reply),
    }


def chat_frames(reply: Reply, *, include_usage: bool) -> list[bytes]:
    """The chunk payloads of a streamed answer: role and first token, one a token, finish, `[DONE]`.

    With `include_usage` the timings move to a last chunk without choices, as in llama-server.
    """
    opening: dict[str, object] = {"role": "assistant", "content": None}
    frames = [_data(reply, delta) for delta in (opening, *_deltas(reply))]
    frames[:2] = [b"".join(frames[:2])]
    finish = FINISH[reply.stop_reason]
    if include_usage:
        frames.append(_data(reply, {}, finish))
        last = {"choices": [], **_envelope(reply), "usage": _usage(reply), "timings": _timings(reply)}
        frames.append(b"data: " + compact(last) + b"\n\n")
    else:
        frames.append(_data(reply, {}, finish, timings=_timings(reply)))
    frames.append(b"data: [DONE]\n\n")
    return frames


def _deltas(reply: Reply) -> list[dict[str, object]]:
    deltas: list[dict[str, object]] = [{"reasoning_content": piece} for piece in reply.thinking]
    deltas += [{"content": piece} for piece in reply.text]
    if reply.tool:
        name, pieces = reply.tool
        deltas.append({"tool_calls": [{"index": 0, **_tool_call(name, pieces[0])}]})
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces[1:]]
    return deltas


def _data(reply: Reply, delta: dict[str, object], finish: str | None = None, **more: object) -> bytes:
    choice = {"finish_reason": finish, "index": 0, "delta": delta}
    return b"data: " + compact({"choices": [choice], **_envelope(reply), **more}) + b"\n\n"


def _envelope(reply: Reply, kind: str = "chat.completion.chunk") -> dict[str, object]:
    return {
        "created": CREATED,
        "id": reply.id,
        "model": reply.model,
        "system_fingerprint": "b0-unknown",
        "object": kind,
    }


def _tool_call(name: str, arguments: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, "id": "t" * 32}


def _usage(reply: Reply) -> dict[str, object]:
    return {
        "completion_tokens": reply.output_tokens,
        "prompt_tokens": reply.prompt_tokens,
        "total_tokens": reply.prompt_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }


def _timings(reply: Reply) -> dict[str, float]:
    return {
        "cache_n": reply.cached_tokens,
        "prompt_n": reply.fresh_tokens,
        "prompt_ms": float(reply.fresh_tokens),
        "prompt_per_token_ms": 1.0,
        "prompt_per_second": 1000.0,
        "predicted_n": reply.output_tokens,
        "predicted_ms": 10.0 * reply.output_tokens,
        "predicted_per_token_ms": 10.0,
        "predicted_per_second": 100.0,
    }
