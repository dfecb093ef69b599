"""Thinking and effort, as the model's template understands them.

llama-server's /v1/messages reads `thinking` only when it is enabled, and `output_config` never; what both of its routes
pass on is `chat_template_kwargs`. So the wish goes there, and both ways render the same prompt.
"""

from collections.abc import Mapping

import msgspec

from router.translate.fidelity import Abilities
from router.translate.forced import forced_tools
from router.wire.canonical import Canonical
from router.wire.reading import read

_kwargs = msgspec.json.Decoder(dict[str, msgspec.Raw])
# Chat completions know no `max`; the others have the same names.
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


def levers(call: Canonical, can: Abilities) -> Mapping[str, bytes]:
    """Return the raw fields that a body needs so that the model thinks as much as the client wants.

    A client that says nothing of thinking gets what the template does by itself, and so does one whose model has no
    such switch. What the client writes into `chat_template_kwargs` itself wins.
    """
    kwargs: dict[str, bytes] = {}
    if can.switch and forced_tools(call):
        kwargs["enable_thinking"] = b"false"  # it has to begin with the call
    elif can.switch and call.thinking is not None:
        kwargs["enable_thinking"] = b"false" if call.thinking.kind == "disabled" else b"true"
    if can.effort and call.effort is not None:
        kwargs["reasoning_effort"] = msgspec.json.encode(_EFFORTS[call.effort])
    if call.chat_template_kwargs:
        kwargs |= {name: bytes(value) for name, value in read(_kwargs, call.chat_template_kwargs).items()}
    if not kwargs:
        return {}
    if not can.llama:
        return _for_others(kwargs)
    return {"chat_template_kwargs": _object(kwargs)}


def _for_others(kwargs: dict[str, bytes]) -> Mapping[str, bytes]:
    """Other servers know the effort as a field of its own; vLLM and SGLang take the rest as llama-server does."""
    effort = kwargs.pop("reasoning_effort", None)
    fields = {"reasoning_effort": effort} if effort else {}
    return fields | ({"chat_template_kwargs": _object(kwargs)} if kwargs else {})


def _object(fields: Mapping[str, bytes]) -> bytes:
    return msgspec.json.encode({name: msgspec.Raw(value) for name, value in fields.items()})
