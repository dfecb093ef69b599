"""A canonical request as the body that an instance is sent: of `/v1/messages`, or of `/v1/chat/completions`.

Both give the same prompt, token for token, so that a conversation may go now by one and now by the other and keep the
instance's cache (tests/system/test_prompts.py holds real servers to it).
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from router.translate.chat_parts import chat_messages, chat_tools
from router.translate.forced import NO_THINKING_TOKENS, forced_schema, forced_tools
from router.translate.native_parts import native_messages, native_tools
from router.wire.canonical import Canonical
from router.wire.params import Thinking, ToolChoice

_encode = msgspec.json.Encoder().encode
_MOST_TOKENS = 2**31 - 1  # llama-server counts in 32 bits, and wraps
_NOTHING: Mapping[str, bytes] = MappingProxyType({})
_CHAT_CHOICES = {"auto": b'"auto"', "any": b'"required"', "none": b'"none"'}


def native_body(c: Canonical, *, model: str | None, extra: Mapping[str, bytes] = _NOTHING) -> bytes:
    """Render a Messages API body, as llama-server's own `/v1/messages` reads it.

    `model` None: none is named. `extra`: further fields as JSON, which replace ours of the same name. A `max_tokens`
    of 0 goes out as 1, as llama-server makes a token anyway.
    """
    fields = _common(c, model)
    if c.tool_choice and c.tools:
        fields["tool_choice"] = _native_choice(c.tool_choice)
    if c.thinking:
        fields["thinking"] = _native_thinking(c.thinking)
    if c.stop:
        fields["stop_sequences"] = _encode(c.stop)
    out = _opened({**fields, **extra})
    if c.system is not None:
        out += (b',"system":', c.system)
    out.append(b',"messages":[')
    native_messages(c.turns, out)
    out.append(b"]")
    if c.tools:
        out.append(b',"tools":[')
        native_tools(c.tools, out)
        out.append(b"]")
    out.append(b"}")
    return b"".join(out)


def chat_body(c: Canonical, *, model: str | None, llama: bool, extra: Mapping[str, bytes] = _NOTHING) -> bytes:
    """Render a chat completions body; `extra` and `max_tokens` as for `native_body`.

    `llama`: for a llama-server, which takes images in tool messages and tells its progress; else for vLLM and its like.
    Whether and how hard to think goes by each server's own levers: they come in `extra`.
    """
    fields = _common(c, model)
    forced = forced_tools(c) if llama else ()
    schema = forced_schema(forced) if forced else c.schema
    if c.tool_choice and c.tools:  # vLLM refuses a choice where there is none
        if forced:
            fields["tool_choice"] = b'"none"'
        else:
            fields["tool_choice"] = _CHAT_CHOICES.get(c.tool_choice.kind) or _named(c.tool_choice.name)
        if not c.tool_choice.parallel:
            fields["parallel_tool_calls"] = b"false"
    if c.stop:
        fields["stop"] = _encode(c.stop)
        if llama:
            fields["verbose"] = b"true"  # else it does not say which of them was met
    if schema is not None:
        fields["response_format"] = response_format(schema)
    budget = NO_THINKING_TOKENS if forced else c.thinking.budget_tokens if c.thinking else None
    if llama and budget is not None:
        fields["thinking_budget_tokens"] = b"%d" % budget
    if c.prefill is not None and not llama:  # vLLM and its like begin a new turn otherwise; llama-server goes on
        fields |= {"continue_final_message": b"true", "add_generation_prompt": b"false"}
    if c.stream:
        fields["stream_options"] = b'{"include_usage":true}'
        if llama:
            fields["return_progress"] = b"true"
    out = _opened({**fields, **extra})
    out.append(b',"messages":[')
    chat_messages(c.system, c.turns, out, images_in_results=llama)
    out.append(b"]")
    if c.tools:
        out.append(b',"tools":[')
        chat_tools(c.tools, out)
        out.append(b"]")
    out.append(b"}")
    return b"".join(out)


def response_format(schema: bytes) -> bytes:
    """Say, in chat completions' words, that the answer has to keep to this JSON schema."""
    return b'{"type":"json_schema","json_schema":{"name":"output","schema":%b,"strict":true}}' % schema


def _common(c: Canonical, model: str | None) -> dict[str, bytes]:
    """Fields that have the same name in both dialects."""
    fields: dict[str, bytes] = {} if model is None else {"model": _encode(model)}
    fields["stream"] = b"true" if c.stream else b"false"
    if c.max_tokens is not None:
        fields["max_tokens"] = b"%d" % min(max(1, c.max_tokens), _MOST_TOKENS)
    if c.sampling.temperature:
        fields["temperature"] = c.sampling.temperature
    if c.sampling.top_p:
        fields["top_p"] = c.sampling.top_p
    if c.sampling.top_k:
        fields["top_k"] = c.sampling.top_k
    if c.chat_template_kwargs:
        fields["chat_template_kwargs"] = c.chat_template_kwargs
    return fields


def _opened(fields: Mapping[str, bytes]) -> list[bytes]:
    """The start of an object with these fields; there is always one."""
    return [b"{", b",".join([b'"%b":%b' % (name.encode(), value) for name, value in fields.items()])]


def _native_choice(choice: ToolChoice) -> bytes:
    shape: dict[str, str | bool] = {"type": choice.kind}
    if choice.name:
        shape["name"] = choice.name
    if not choice.parallel:
        shape["disable_parallel_tool_use"] = True
    return _encode(shape)


def _native_thinking(thinking: Thinking) -> bytes:
    shape: dict[str, str | int] = {"type": thinking.kind}
    if thinking.budget_tokens is not None:
        shape["budget_tokens"] = thinking.budget_tokens
    if thinking.omitted:
        shape["display"] = "omitted"
    return _encode(shape)


def _named(tool: str) -> bytes:
    return _encode({"type": "function", "function": {"name": tool}})
