"""A turn as bytes, in either protocol: the same texts in the same order."""

import msgspec

from benchmarks.answers import MODEL, Protocol
from benchmarks.replay.strand import Spoken

_SPEAKERS = ("user", "assistant")


def body(spoken: Spoken, answer_tokens: int, protocol: Protocol) -> bytes:
    """Return the JSON of a streamed request."""
    turns = [{"role": _SPEAKERS[at % 2], "content": text} for at, text in enumerate(spoken.said)]
    common = {"model": MODEL, "max_tokens": answer_tokens, "stream": True}
    if protocol is Protocol.MESSAGES:
        system = [{"type": "text", "text": text} for text in spoken.system]
        return msgspec.json.encode({**common, "system": system, "messages": turns})
    # llama-server joins the blocks of a Messages system prompt with nothing between them.
    opening = [{"role": "system", "content": "".join(spoken.system)}] if spoken.system else []
    more = {"stream_options": {"include_usage": True}}
    return msgspec.json.encode({**common, **more, "messages": [*opening, *turns]})


def request(path: str, port: int, headers: dict[str, str], content: bytes) -> bytes:
    """Return a whole HTTP request; the connection is for it alone."""
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content
