"""What /props says, read into Facts. Every field may be missing: builds differ, and some hide the route."""

import msgspec

from router.fleet.instance import Facts
from router.wire.reading import read


class _Modalities(msgspec.Struct, frozen=True):
    vision: bool = False


class _Caps(msgspec.Struct, frozen=True):
    supports_tools: bool | None = None
    supports_reasoning_effort: bool | None = None


class _Generation(msgspec.Struct, frozen=True):
    n_ctx: int | None = None


class _Props(msgspec.Struct, frozen=True):
    total_slots: int | None = None
    default_generation_settings: _Generation | None = None
    model_alias: str | None = None
    model_path: str | None = None
    is_sleeping: bool = False
    build_info: str | None = None
    modalities: _Modalities | None = None
    chat_template_caps: _Caps | None = None
    chat_template: str | None = None


_decoder = msgspec.json.Decoder(_Props)


def read_props(body: bytes) -> Facts | None:
    """Return the facts; None when the body is not llama-server's /props or names no slots."""
    try:
        props = read(_decoder, body)
    except msgspec.DecodeError:
        return None
    if not props.total_slots or props.total_slots < 1:
        return None
    caps = props.chat_template_caps
    template = props.chat_template or ""
    return Facts(
        slots=props.total_slots,
        ctx_tokens=props.default_generation_settings.n_ctx if props.default_generation_settings else None,
        model=props.model_alias or props.model_path,
        sleeping=props.is_sleeping,
        build=props.build_info,
        vision=bool(props.modalities and props.modalities.vision),
        tools=caps.supports_tools if caps else None,
        thinking="enable_thinking" in template or "reasoning_content" in template if template else None,
        switch="enable_thinking" in template,
        effort=bool(caps and caps.supports_reasoning_effort) or "reasoning_effort" in template,
    )
