"""A chat completions request for a backend that has only the Messages API."""

from typing import Any, Literal

import msgspec

from router.errors import RequestInvalid
from router.translate.chat_turns import ChatTurn, turns_of
from router.wire.chat import read_part

# Every other field of the OpenAI API, and the common ones of its servers. "refused": an answer without it would be
# another one than was asked for. "dropped": it only colours the answer, or is no matter of the answer at all.
# What is in neither table is dropped too: servers add fields of their own, and the Messages API refuses extra ones.
REFUSED: dict[str, str] = {
    "n": "only one answer can be made at a time",
    "logprobs": "the backend of this model tells no probabilities",
    "top_logprobs": "the backend of this model tells no probabilities",
    "audio": "the backend of this model does not speak",
    "functions": "replaced by 'tools'",
    "function_call": "replaced by 'tool_choice'",
    "web_search_options": "nobody here would search the web",
    "moderation": "nobody here would check the answer",
}
DROPPED: dict[str, str] = {
    "frequency_penalty": "the Messages API has none; a matter of taste",
    "presence_penalty": "the same",
    "logit_bias": "speaks in the tokens of another model",
    "seed": "a best effort by its own definition",
    "verbosity": "a hint",
    "prediction": "makes an answer faster, not different",
    "service_tier": "another house's prices",
    "store": "keeps the answer at another house",
    "metadata": "belongs to `store`",
    "user": "who asks stays here",
    "safety_identifier": "the same",
    "prompt_cache_key": "the Messages API finds what is cached by itself",
    "prompt_cache_options": "the same",
    "prompt_cache_retention": "the same",
    "stream_options": "Messages streams always count",
}
# Values with which a refused field asks for nothing.
_NOTHING: dict[str, tuple[bytes, ...]] = {"n": (b"1",), "logprobs": (b"false",), "top_logprobs": (b"0",)}
# The Messages API has no `minimal`, and `none` is its thinking switched off.
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_JSON_ONLY = "Answer with one JSON object and nothing else."
_ANY_OBJECT = msgspec.Raw(b'{"type":"object","properties":{}}')
_TOOL_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


class _FunctionTool(msgspec.Struct, frozen=True, gc=False):
    name: str
    description: str | None = None
    parameters: dict[str, msgspec.Raw] | None = None
    strict: bool | None = None


class _Tool(msgspec.Struct, frozen=True, gc=False):
    type: str
    function: _FunctionTool | None = None


class _Named(msgspec.Struct, frozen=True, gc=False):
    name: str


class _ToolChoice(msgspec.Struct, frozen=True, gc=False):
    type: str
    function: _Named | None = None


class _Schema(msgspec.Struct, frozen=True, gc=False):
    schema: dict[str, msgspec.Raw] | None = None


class _Format(msgspec.Struct, frozen=True, gc=False):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _Request(msgspec.Struct, frozen=True, gc=False):
    messages: tuple[ChatTurn, ...]
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    stop: str | tuple[str, ...] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: tuple[_Tool, ...] | None = None
    tool_choice: str | _ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    response_format: _Format | None = None
    modalities: tuple[str, ...] | None = None


_request = msgspec.json.Decoder(_Request)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def messages_body(body: bytes, *, model: str, default_max_tokens: int, sampling: bool = True) -> bytes:
    """Return the body of the Messages request; the same body in gives the same bytes out.

    `body`: one that `decode_chat` has accepted. `model`: the name that the backend knows. `default_max_tokens`: for a
    client that names no limit, which the Messages API wants to have. `sampling` False: the backend's model refuses
    temperature, top_p and top_k, so they are left out.

    Raises:
        RequestInvalid: it asks for what that backend cannot do; the message names the field and the reason.

    """
    _refuse(read_part(_fields, body))
    request = read_part(_request, body)
    if any(kind != "text" for kind in request.modalities or ()):
        raise RequestInvalid("Unsupported value for 'modalities': the backend of this model answers in text.")
    turns = turns_of(request.messages)
    tools = _tools(request)
    system = turns.system
    if request.response_format is not None and request.response_format.type == "json_object":
        system = f"{system}\n\n{_JSON_ONLY}" if system else _JSON_ONLY
    limits = (request.max_completion_tokens, request.max_tokens, default_max_tokens)
    fields: dict[str, Any] = {
        "model": model,
        "max_tokens": next(limit for limit in limits if limit is not None),
        "system": system or None,
        "messages": turns.messages,
        **tools,
        **_thinking(request, forced=(tools.get("tool_choice") or {}).get("type") in {"any", "tool"}),
        "stop_sequences": _stops(request.stop),
        **(_sampling(request) if sampling else {}),
        "stream": request.stream or None,
    }
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def anthropic_version(body: bytes) -> str:
    """Say under which version of the hosted API this Messages body may go: the newer one refuses sampling fields."""
    fields = read_part(_fields, body)
    return "2023-06-01" if {"temperature", "top_p", "top_k"} & fields.keys() else "2026-10-21"


def _refuse(fields: dict[str, msgspec.Raw]) -> None:
    for name, why in REFUSED.items():
        value = bytes(fields.get(name, b"null"))
        if value not in {b"null", b"[]", *_NOTHING.get(name, ())}:
            raise RequestInvalid(f"Unsupported parameter: '{name}': {why}.")


def _tools(request: _Request) -> dict[str, Any]:
    if not request.tools:
        return {}
    tools = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools)]
    choice = _tool_choice(request.tool_choice, {tool["name"] for tool in tools})
    if request.parallel_tool_calls is False and choice != {"type": "none"}:
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return {"tools": tools, "tool_choice": choice}


def _tool(tool: _Tool, path: str) -> dict[str, Any]:
    if tool.type != "function" or tool.function is None:
        raise RequestInvalid(f"Invalid value for '{path}.type': only tools of type 'function' are supported.")
    function = tool.function
    said: dict[str, Any] = {"name": function.name}
    if function.description:
        said["description"] = function.description
    schema = {"type": msgspec.Raw(b'"object"'), **(function.parameters or {"properties": msgspec.Raw(b"{}")})}
    said["input_schema"] = schema
    if function.strict:
        said["strict"] = True
    return said


def _tool_choice(choice: str | _ToolChoice | None, names: set[str]) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in _TOOL_CHOICES:
            raise RequestInvalid("Invalid value for 'tool_choice'. Supported values are: 'none', 'auto', 'required'.")
        return {"type": _TOOL_CHOICES[choice]}
    if choice.type != "function" or choice.function is None:
        raise RequestInvalid(
            "Invalid value for 'tool_choice.type': only 'function' is supported; send only tools that may be called."
        )
    if choice.function.name not in names:
        raise RequestInvalid(f"Invalid value for 'tool_choice': no tool is named {choice.function.name[:64]!r}.")
    return {"type": "tool", "name": choice.function.name}


def _thinking(request: _Request, *, forced: bool) -> dict[str, Any]:
    """How hard to think, and the shape of the answer: both are `output_config` there.

    `forced`: a tool has to be called, and the hosted API lets no model think then.
    """
    effort, form = request.reasoning_effort, request.response_format
    if effort not in {None, "none", *_EFFORTS}:
        known = ", ".join(f"'{name}'" for name in ("none", *_EFFORTS))
        raise RequestInvalid(f"Invalid value for 'reasoning_effort'. Supported values are: {known}.")
    output: dict[str, Any] = {}
    if effort in _EFFORTS:
        output["effort"] = _EFFORTS[effort or ""]
    if form is not None and form.type == "json_schema":
        if form.json_schema is None or form.json_schema.schema is None:
            raise RequestInvalid("Missing required parameter: 'response_format.json_schema.schema'.")
        output["format"] = {"type": "json_schema", "schema": form.json_schema.schema}
    thinking = {None: None, "none": {"type": "disabled"}}.get(effort, None if forced else {"type": "adaptive"})
    return {"thinking": thinking, "output_config": output or None}


def _stops(stop: str | tuple[str, ...] | None) -> list[str] | None:
    """Blanks alone are refused there, so they are left out."""
    given = (stop,) if isinstance(stop, str) else stop or ()
    return [word for word in given if word.strip()] or None


def _sampling(request: _Request) -> dict[str, Any]:
    """The range there is 0 to 1; a model that thinks takes none of it."""
    if request.reasoning_effort not in {None, "none"}:
        return {}
    temperature = request.temperature
    return {
        "temperature": None if temperature is None else min(1.0, max(0.0, temperature)),
        "top_p": request.top_p,
        "top_k": request.top_k,
    }
