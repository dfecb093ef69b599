"""The request of a client of the OpenAI API, made fit for a server that speaks it and that others share."""

import msgspec

from router.translate.chat_forced import ForcedChat
from router.translate.forced import NO_THINKING_TOKENS
from router.translate.request import response_format
from router.wire.chat import ChatHead, read_part
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
_TRUE, _NONE = msgspec.Raw(b"true"), msgspec.Raw(b"null")


def prepare(
    body: bytes,
    head: ChatHead,
    *,
    model: str | None,
    default_max_tokens: int | None,
    forced: ForcedChat | None = None,
    switch: bool = False,
) -> bytes:
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
    if forced is not None:
        _force(kept, forced, switch=switch)
        changed = True
    return msgspec.json.encode(kept) if changed else body


def _force(fields: dict[str, msgspec.Raw], forced: ForcedChat, *, switch: bool) -> None:
    """Ask for a text that is the call, at once: what else the text was to look like does not matter any more."""
    for name in ("grammar", "json_schema"):
        fields.pop(name, None)
    fields["tool_choice"] = msgspec.Raw(b'"none"')
    fields["response_format"] = msgspec.Raw(response_format(forced.schema))
    fields["thinking_budget_tokens"] = msgspec.Raw(b"%d" % NO_THINKING_TOKENS)
    if switch:
        said = fields.get("chat_template_kwargs", _NONE)
        own = {} if bytes(said) == b"null" else read_part(_object, said, path="chat_template_kwargs")
        kwargs = {"enable_thinking": msgspec.Raw(b"false"), **own}
        fields["chat_template_kwargs"] = msgspec.Raw(msgspec.json.encode(kwargs))
