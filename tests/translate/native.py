"""What llama-server says on /v1/messages, event by event, and what a NativeStream made of it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from router.translate.answer import Usage
from router.translate.repair import NativeStream
from router.wire.anthropic import error_event
from tests.rig.legality import Message, check

CAPTURES = Path(__file__).parent.parent / "captures" / "native"
REAL = sorted(path.stem for path in CAPTURES.glob("*.sse"))
MODEL = 'my "coder"'


def event(name: str, **fields: object) -> bytes:
    """As llama-server frames it."""
    data = json.dumps({"type": name, **fields}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {name}\ndata: {data}\n\n".encode()


def start(**usage: object) -> bytes:
    message: dict[str, object] = {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "/srv/models/q.gguf",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage or {"cache_read_input_tokens": 7, "input_tokens": 12, "output_tokens": 0},
    }
    return event("message_start", message=message)


def opens(index: int, kind: str, **fields: object) -> bytes:
    empty = {"text": {"text": ""}, "thinking": {"thinking": ""}}.get(kind, {})
    return event("content_block_start", index=index, content_block={"type": kind, **empty, **fields})


def text(index: int, piece: str) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece})


def thinks(index: int, piece: str) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "thinking_delta", "thinking": piece})


def calls(index: int, name: str = "Bash", **fields: object) -> bytes:
    return opens(index, "tool_use", **{"id": f"call{index}", "name": name, **fields})


def argues(index: int, piece: str) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": piece})


def signs(index: int, signature: str = "") -> bytes:
    return event("content_block_delta", index=index, delta={"type": "signature_delta", "signature": signature})


def stops(*indexes: int) -> bytes:
    return b"".join(event("content_block_stop", index=index) for index in indexes)


def ends(why: str | None = "end_turn", sequence: str | None = None, **usage: object) -> bytes:
    delta = {"stop_reason": why, "stop_sequence": sequence}
    return event("message_delta", delta=delta, usage=usage or {"output_tokens": 3})


STOP = event("message_stop")
COMMENT = b":\n\n"


class Told(msgspec.Struct, frozen=True):
    """All that can be known of a stream after some bytes."""

    out: bytes
    committed: bool
    ended: bool
    error: tuple[type[Exception], str] | None
    events: int
    usage: Usage
    stop_reason: str

    @property
    def names(self) -> list[str]:
        """The client's events in order, deltas and starts with their index and kind."""
        return [_short(block) for block in self.out.split(b"\n\n") if block]


def stream(*, omit_thinking: bool = False, silent: bool = False, stop: tuple[str, ...] | None = None) -> NativeStream:
    return NativeStream(
        model=MODEL,
        instance_id="i",
        message_id="msg_1",
        omit_thinking=omit_thinking,
        silent=silent,
        stop=stop,
    )


def told(pieces: Iterable[bytes], **how: Any) -> Told:
    fed = stream(**how)
    return state(fed, b"".join([fed.feed(piece) for piece in pieces]))


def state(fed: NativeStream, out: bytes) -> Told:
    error = None if fed.error is None else (type(fed.error), fed.error.message)
    return Told(out, fed.committed, fed.ended, error, fed.events, fed.usage, fed.stop_reason)


def message(*pieces: bytes, **how: Any) -> Message:
    """What a client reads in it; it must be whole and legal."""
    done = told(pieces, **how)
    assert done.error is None
    assert done.ended
    return check(done.out, "exact")


def with_its_error(done: Told) -> bytes:
    """The bytes that the client has in the end: a whole answer, or what there was and the one error event."""
    return done.out if done.ended else done.out + error_event("api_error", "it broke", "req_1")


def _short(block: bytes) -> str:
    data = json.loads(block.partition(b"data: ")[2])
    kind = data.get("content_block", data.get("delta", {})).get("type", "")
    index = data.get("index", "")
    return f"{data['type'].removeprefix('content_block_')} {index} {kind}".strip().replace("  ", " ")
