"""The request of a client of the OpenAI API, made fit for a server that speaks it and that others share."""

import msgspec

from router.wire.chat import ChatHead
from router.wire.reading import read

# What a client may not ask of a shared server, each with its reason. Dropped and not refused: none of them changes what
# the answer says. Names that are not here stay, `cache_prompt` and `timings_per_token` among them.
DROPPED: dict[str, str] = {
    "id_slot": "llama-server: a busy slot would be waited for, and whoever is warm in it overwritten",
    "return_progress": "llama-server: its chunks come before the first token and are no part of the OpenAI API",
    "verbose": "llama-server: puts the rendered prompt and the server's settings into the answer",
    "sse_ping_interval": "llama-server: its comments are how the router knows that a silent server is alive",
    "priority": "vLLM: the order among the calls is the router's to keep",
    "request_id": "vLLM: two clients could choose the same",
    "kv_transfer_params": "vLLM: names other hosts to fetch from",
    "logits_processors": "vLLM: names code to run",
}
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TRUE = msgspec.Raw(b"true")


def prepare(body: bytes, head: ChatHead, *, model: str | None, default_max_tokens: int | None) -> bytes:
    """Return the body to send: every value that stays is byte for byte the client's.

    `head`: what `decode_chat` made of this body. `model`: the name that the instance knows; None: the client's.
    `default_max_tokens`: for a client that names no limit; None: the server's own. A stream always counts, whether or
    not the client wants to be told. Where nothing has to change `body` itself comes back.
    """
    fields = read(_object, body)
    kept = {name: value for name, value in fields.items() if name not in DROPPED}
    changed = len(kept) < len(fields)
    if model is not None and model != head.model:
        kept["model"] = msgspec.Raw(msgspec.json.encode(model))
        changed = True
    if default_max_tokens is not None and head.answer_tokens is None:
        kept["max_tokens"] = msgspec.Raw(b"%d" % default_max_tokens)
        changed = True
    if head.stream and not head.usage_asked:
        asked = read(_object, fields["stream_options"]) if head.stream_options is not None else {}
        kept["stream_options"] = msgspec.Raw(msgspec.json.encode({**asked, "include_usage": _TRUE}))
        changed = True
    return msgspec.json.encode(kept) if changed else body
