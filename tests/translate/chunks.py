"""Chat completion chunks for tests, written short."""

import json
from typing import Any

from router.translate.stream import ChatToMessages
from tests.rig.legality import Message, check

DONE = b"data: [DONE]\n\n"


def event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def chunk(finish: str | None = None, *, more: dict[str, Any] | None = None, **delta: Any) -> bytes:
    """`more`: fields beside the choice."""
    choice = {"finish_reason": finish, "index": 0, "delta": delta}
    return event({"choices": [choice], "created": 1, "id": "chatcmpl-1", "model": "x", **(more or {})})


def text(said: str) -> bytes:
    return chunk(content=said)


def thought(said: str) -> bytes:
    return chunk(reasoning_content=said)


def part(index: int | None, id_: str | None = None, name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    """One entry of tool_calls; None is left out."""
    function = {"name": name, "arguments": arguments}
    said = {"index": index, "id": id_, "function": {key: it for key, it in function.items() if it is not None}}
    return {key: it for key, it in said.items() if it is not None}


def call(index: int | None, id_: str | None = None, name: str | None = None, arguments: Any = None) -> bytes:
    return chunk(tool_calls=[part(index, id_, name, arguments)])


def usage(prompt: int, output: int, **details: int) -> bytes:
    counted = {"prompt_tokens": prompt, "completion_tokens": output, "prompt_tokens_details": details}
    return event({"choices": [], "usage": counted})


def fed(stream: ChatToMessages, *pieces: bytes) -> bytes:
    return b"".join([stream.feed(piece) for piece in pieces]) + stream.finish()


def said(*pieces: bytes, **options: Any) -> Message:
    """What a whole answer says; its events are legal but for the input tokens that message_delta may leave out."""
    stream = ChatToMessages(**{"model": "m", "instance_id": "i", "message_id": "msg_1", **options})
    out = fed(stream, *pieces)
    assert stream.error is None, stream.error
    assert stream.ended
    return check(out, "native", comments=False) if stream.usage.input_tokens is None else check(out)


def broken(*pieces: bytes, **options: Any) -> str:
    """Why an answer breaks off."""
    stream = ChatToMessages(**{"model": "m", "instance_id": "i", "message_id": "msg_1", **options})
    out = fed(stream, *pieces)
    assert stream.error is not None, out
    assert not stream.ended
    assert b"message_stop" not in out
    assert b"message_delta" not in out
    return stream.error.message
