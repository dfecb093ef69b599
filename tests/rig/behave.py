"""How a scripted instance may behave in one turn: well, slowly, refusing, lying, or dying.

Each function here makes a behaviour. Those that break a stream first send `after` frames of the honest
answer: the first frame carries message_start and one token, each later one a token. Those that stall go on
honestly once the test calls `fake.release()`.
"""

import msgspec

from tests.rig.fake_seen import Behaviour
from tests.rig.fake_speech import frames_of, say, say_frames, say_some
from tests.rig.fake_turn import Turn
from tests.rig.fake_wire import JSON_TYPE, LAST_CHUNK, chunk, compact, event, head, message_body, stream_head

# ------------------------------------------------------------------ well


def answer(
    *,
    thinking: tuple[str, ...] = (),
    text: tuple[str, ...] | None = None,
    tool: tuple[str, tuple[str, ...]] | None = None,
    stop_reason: str | None = None,
    stop_sequence: str | None = None,
) -> Behaviour:
    """Answer honestly: the prompt's nonce and numbered words, or the given pieces instead."""

    async def behave(turn: Turn) -> None:
        reply = turn.reply()
        if thinking or tool or text is not None:
            said = text if text is not None else reply.text
            reply = msgspec.structs.replace(reply, thinking=thinking, text=said, tool=tool)
        if stop_reason or stop_sequence or tool:
            why = stop_reason or ("tool_use" if tool else "end_turn")
            reply = msgspec.structs.replace(reply, stop_reason=why, stop_sequence=stop_sequence)
        await say(turn, reply)

    return behave


def drip(pause_s: float = 0.0) -> Behaviour:
    """Answer honestly, each byte in a write of its own."""

    async def behave(turn: Turn) -> None:
        turn.drip_s = pause_s
        await say(turn, turn.reply())

    return behave


def comments(count: int = 3) -> Behaviour:
    """Answer honestly, with SSE comments before the first event and between all of them."""

    async def behave(turn: Turn) -> None:
        await turn.begin_stream()
        for frame in frames_of(turn, turn.reply()):
            for _ in range(count):
                await turn.chunk(b":\n\n")
            await turn.chunk(frame)
        await turn.end_stream()

    return behave


def one_packet() -> Behaviour:
    """Answer honestly with head, all frames and the end in one write."""

    async def behave(turn: Turn) -> None:
        reply = turn.reply()
        turn.closing = True
        await turn.write(stream_head() + b"".join(map(chunk, frames_of(turn, reply))) + LAST_CHUNK)

    return behave


def huge_event(size: int = 4 << 20) -> Behaviour:
    """Answer honestly, with one text delta of `size` bytes in the middle."""
    return answer(text=("before ", "x" * size, " after"))


# ------------------------------------------------------------------ refusing


def error(status: int, message: str, kind: str, **more: int) -> Behaviour:
    async def behave(turn: Turn) -> None:
        await turn.error(status, message, kind, **more)

    return behave


def loading() -> Behaviour:
    return error(503, "Loading model", "unavailable_error")


def server_error() -> Behaviour:
    return error(500, "Compute error.", "server_error")


def too_long(prompt_tokens: int = 5031, n_ctx: int = 4096) -> Behaviour:
    sizes = f"request ({prompt_tokens} tokens) exceeds the available context size ({n_ctx} tokens)"
    message = f"{sizes}, try increasing it"
    return error(400, message, "exceed_context_size_error", n_prompt_tokens=prompt_tokens, n_ctx=n_ctx)


def rate_limited(retry_after_s: int = 1) -> Behaviour:
    """429 with Retry-After, as a hosted API or a proxy before the instance answers."""

    async def behave(turn: Turn) -> None:
        body = compact({"error": {"code": 429, "message": "Too many requests", "type": "rate_limit_error"}})
        await turn.send(429, JSON_TYPE, body, extra=(f"Retry-After: {retry_after_s}",))

    return behave


def reset_before_head() -> Behaviour:
    """RST after the request was read."""

    async def behave(turn: Turn) -> None:
        turn.wire.reset()

    return behave


def close_before_head() -> Behaviour:
    """FIN before any byte, as when keep-alive had run out: on a reused connection it deserves another try."""

    async def behave(turn: Turn) -> None:
        turn.wire.close()

    return behave


# ------------------------------------------------------------------ stalling


def stall_before_head() -> Behaviour:
    async def behave(turn: Turn) -> None:
        await turn.stall()
        await say(turn, turn.reply())

    return behave


def stall_after_head() -> Behaviour:
    """The head of a stream at once, then nothing: a prefill without end."""

    async def behave(turn: Turn) -> None:
        await turn.begin_stream()
        await turn.stall()
        await say_frames(turn, frames_of(turn, turn.reply()))

    return behave


def stall_mid_stream(after: int = 2) -> Behaviour:
    async def behave(turn: Turn) -> None:
        rest = await say_some(turn, after)
        await turn.stall()
        await say_frames(turn, rest)

    return behave


# ------------------------------------------------------------------ dying


def die_mid_stream(after: int = 2, *, reset: bool = False) -> Behaviour:
    """End between two chunks, without the last one: as llama-server on SIGTERM (FIN) or SIGKILL (RST)."""

    async def behave(turn: Turn) -> None:
        await say_some(turn, after)
        if reset:
            turn.wire.reset()
        turn.wire.close()

    return behave


def die_mid_chunk(after: int = 2, *, reset: bool = False) -> Behaviour:
    """End in the middle of a chunk, and in the middle of its event's JSON."""

    async def behave(turn: Turn) -> None:
        rest = await say_some(turn, after)
        framed = chunk(rest[0])
        await turn.write(framed[: len(framed) // 2])
        if reset:
            turn.wire.reset()
        turn.wire.close()

    return behave


def end_without_stop(after: int = 2) -> Behaviour:
    """A complete HTTP answer whose events just end: no message_stop."""

    async def behave(turn: Turn) -> None:
        await say_some(turn, after)
        await turn.end_stream()

    return behave


def error_event(after: int = 2, *, status: int = 500, message: str = "Context size has been exceeded.") -> Behaviour:
    """llama-server's in-stream error: flat data, without the envelope, then the end."""

    async def behave(turn: Turn) -> None:
        await say_some(turn, after)
        flat = {"code": status, "message": message, "type": "server_error"}
        framed = b"data: " + compact({"error": flat}) + b"\n\n" if turn.is_chat else event("error", flat)
        await turn.chunk(framed)
        await turn.end_stream()

    return behave


# ------------------------------------------------------------------ lying


def not_json(body: bytes = b"<html>It works!</html>", *, status: int = 200) -> Behaviour:
    """A web page where an answer should be, with an answer's Content-Type."""

    async def behave(turn: Turn) -> None:
        await turn.send(status, JSON_TYPE, body)

    return behave


def wrong_content_length(by: int = 10) -> Behaviour:
    """A plain answer `by` bytes shorter than its head says, then FIN; negative: longer than it says."""

    async def behave(turn: Turn) -> None:
        body = compact(message_body(turn.reply()))
        await turn.write(head(200, JSON_TYPE, len(body) + by, close=False) + body)
        turn.wire.close()

    return behave


def broken_chunk(after: int = 1) -> Behaviour:
    """A chunk whose size line is no number."""

    async def behave(turn: Turn) -> None:
        rest = await say_some(turn, after)
        await turn.write(b"zz\r\n" + rest[0] + b"\r\n")
        turn.wire.close()

    return behave


def broken_head() -> Behaviour:
    async def behave(turn: Turn) -> None:
        await turn.write(b"ICY 200 OK\r\nthis is not: a head\r\n\r\n")
        turn.wire.close()

    return behave


def broken_event(after: int = 1) -> Behaviour:
    """A well-framed chunk with an event whose data is cut JSON, then the honest rest."""

    async def behave(turn: Turn) -> None:
        rest = await say_some(turn, after)
        await turn.chunk(b'event: content_block_delta\ndata: {"type":"content_block_delta","ind\n\n')
        await say_frames(turn, rest)

    return behave


def raw(data: bytes, *, close: bool = True) -> Behaviour:
    """Exactly these bytes, then FIN unless `close` is False."""

    async def behave(turn: Turn) -> None:
        turn.closing = close
        await turn.write(data)

    return behave
