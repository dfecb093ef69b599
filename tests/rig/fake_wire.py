"""What llama-server puts on the wire, byte for byte, as captured from xllamacpp 2026.10.

Several events share one chunk where llama-server sends them so: the first chunk carries message_start, the
first block start and the first delta; the last one every block stop, message_delta and message_stop.
"""

import json
from collections.abc import Sequence
from http import HTTPStatus

import msgspec

JSON_TYPE = "application/json; charset=utf-8"
LAST_CHUNK = b"0\r\n\r\n"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says, in pieces of one token each, before any framing."""

    id: str
    model: str
    thinking: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    tool: tuple[str, tuple[str, ...]] | None = None  # name, pieces of the arguments' JSON
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    prompt_tokens: int = 1
    cached_tokens: int = 0

    @property
    def output_tokens(self) -> int:
        return len(self.thinking) + len(self.text) + (len(self.tool[1]) if self.tool else 0)

    @property
    def fresh_tokens(self) -> int:
        return self.prompt_tokens - self.cached_tokens


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def head(status: int, content_type: str, length: int | None, *, close: bool, extra: Sequence[str] = ()) -> bytes:
    """A response head with llama-server's own headers in its order; `length` None means chunked."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Server: llama.cpp",
        "Access-Control-Allow-Origin: ",
    ]
    lines += extra
    lines.append(f"Content-Type: {content_type}")
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    lines.append("Connection: close" if close else "Keep-Alive: timeout=5, max=100")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def stream_head() -> bytes:
    """The head of a stream: it promises keep-alive, yet llama-server closes after the last chunk (tried)."""
    return head(200, "text/event-stream", None, close=False, extra=["X-Accel-Buffering: no"])


def chunk(payload: bytes) -> bytes:
    return f"{len(payload):x}\r\n".encode() + payload + b"\r\n"


def event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: ".encode() + compact(data) + b"\n\n"


def error_body(status: int, message: str, kind: str, **more: int) -> dict[str, object]:
    return {"error": {"code": status, "message": message, "type": kind, **more}}


def message_body(reply: Reply) -> dict[str, object]:
    """A plain /v1/messages answer: thinking, then text, then the tool call."""
    content: list[dict[str, object]] = []
    if reply.thinking:
        content.append({"type": "thinking", "thinking": "".join(reply.thinking), "signature": ""})
    if reply.text:
        content.append({"type": "text", "text": "".join(reply.text)})
    if reply.tool:
        name, pieces = reply.tool
        content.append({"type": "tool_use", "id": "t" * 32, "name": name, "input": json.loads("".join(pieces))})
    return {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "content": content,
        "model": reply.model,
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "usage": {**_usage(reply), "output_tokens": reply.output_tokens},
    }


def message_frames(reply: Reply) -> list[bytes]:
    """The chunk payloads of a streamed /v1/messages answer: one a token, and one for the end.

    As llama-server does it: blocks are opened one after the other but closed only at the very end, a
    thinking block has no signature when it opens, a tool_use block no input.
    """
    frames: list[bytes] = []
    stops: list[bytes] = []
    for index, (opened, deltas) in enumerate(_blocks(reply)):
        start = {"type": "content_block_start", "index": index, "content_block": opened}
        prefix = event("content_block_start", start)
        for delta in deltas:
            frames.append(prefix + event("content_block_delta", _delta(index, delta)))
            prefix = b""
        if opened["type"] == "thinking":
            signature = _delta(index, {"type": "signature_delta", "signature": ""})
            stops.append(event("content_block_delta", signature))
        stops.append(event("content_block_stop", {"type": "content_block_stop", "index": index}))
    delta = {"stop_reason": reply.stop_reason, "stop_sequence": reply.stop_sequence}
    usage = {"output_tokens": reply.output_tokens}
    stops.append(event("message_delta", {"type": "message_delta", "delta": delta, "usage": usage}))
    stops.append(event("message_stop", {"type": "message_stop"}))
    frames.append(b"".join(stops))
    frames[0] = _message_start(reply) + frames[0]
    return frames


def _blocks(reply: Reply) -> list[tuple[dict[str, object], list[dict[str, object]]]]:
    blocks: list[tuple[dict[str, object], list[dict[str, object]]]] = []
    if reply.thinking:
        deltas: list[dict[str, object]] = [{"type": "thinking_delta", "thinking": it} for it in reply.thinking]
        blocks.append(({"type": "thinking", "thinking": ""}, deltas))
    if reply.text:
        blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": it} for it in reply.text]))
    if reply.tool:
        name, pieces = reply.tool
        deltas = [{"type": "input_json_delta", "partial_json": it} for it in pieces]
        blocks.append(({"type": "tool_use", "id": "t" * 32, "name": name}, deltas))
    return blocks


def _message_start(reply: Reply) -> bytes:
    message: dict[str, object] = {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": reply.model,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**_usage(reply), "output_tokens": 0},
    }
    return event("message_start", {"type": "message_start", "message": message})


def _usage(reply: Reply) -> dict[str, int]:
    return {"cache_read_input_tokens": reply.cached_tokens, "input_tokens": reply.fresh_tokens}


def _delta(index: int, delta: dict[str, object]) -> dict[str, object]:
    return {"type": "content_block_delta", "index": index, "delta": delta}
