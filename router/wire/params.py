"""What a request asks for besides its prompt: thinking, effort, a schema, a choice of tool, stop texts, sampling."""

from typing import Annotated, Literal, TypeAlias

import msgspec

from router.errors import RequestInvalid
from router.wire.anthropic import MessagesHead
from router.wire.fields import object_bytes, read_field
from router.wire.tools import Toolbox

ChoiceKind: TypeAlias = Literal["auto", "any", "tool", "none"]
ThinkingKind: TypeAlias = Literal["disabled", "adaptive", "enabled", "between_tools"]
Effort: TypeAlias = Literal["low", "medium", "high", "xhigh", "max"]
MIN_BUDGET_TOKENS = 1024


class ToolChoice(msgspec.Struct, frozen=True, gc=False):
    """Which tool the model has to call; `name` only with `tool`. `parallel`: whether it may call several at once."""

    kind: ChoiceKind
    name: str = ""
    parallel: bool = True


class Thinking(msgspec.Struct, frozen=True, gc=False):
    """Whether the model is to think. `omitted`: the client does not want to be shown the thoughts."""

    kind: ThinkingKind
    budget_tokens: int | None = None
    omitted: bool = False


class Sampling(msgspec.Struct, frozen=True, gc=False):
    """Numbers as the client wrote them; empty: not sent."""

    temperature: bytes = b""
    top_p: bytes = b""
    top_k: bytes = b""


class _Choice(msgspec.Struct, frozen=True, gc=False):
    type: ChoiceKind
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct, frozen=True, gc=False):
    type: ThinkingKind
    budget_tokens: int | None = None
    display: str | None = None


class _Format(msgspec.Struct, frozen=True, gc=False):
    type: Literal["json_schema"]
    schema: msgspec.Raw


class _Output(msgspec.Struct, frozen=True, gc=False):
    effort: Effort | None = None
    format: _Format | None = None


_choice = msgspec.json.Decoder(_Choice | None)
_thinking = msgspec.json.Decoder(_Thinking | None)
_output = msgspec.json.Decoder(_Output | None)
_stop = msgspec.json.Decoder(tuple[Annotated[str, msgspec.Meta(min_length=1)], ...] | None)
_float = msgspec.json.Decoder(float | None)
_int = msgspec.json.Decoder(int | None)


def read_tool_choice(data: bytes, toolbox: Toolbox) -> ToolChoice | None:
    """Read `tool_choice`; None: not sent. RequestInvalid when it names no tool, or one that was not sent."""
    shape = read_field(_choice, data, "tool_choice") if data else None
    if shape is None:
        return None
    parallel = not shape.disable_parallel_tool_use
    if shape.type != "tool":
        if shape.type == "any" and not toolbox.names():
            raise RequestInvalid("tool_choice: may only be specified while providing tools")
        return ToolChoice(shape.type, parallel=parallel)
    if not shape.name:
        raise RequestInvalid("tool_choice.name: field required; name the tool that has to be called")
    if shape.name not in toolbox.names():
        raise RequestInvalid(f"tool_choice.name: tool '{shape.name[:100]}' not found in provided tools")
    return ToolChoice("tool", shape.name, parallel)


def read_thinking(data: bytes) -> Thinking | None:
    """Read `thinking`; None: not sent."""
    shape = read_field(_thinking, data, "thinking") if data else None
    if shape is None:
        return None
    if shape.type == "enabled":
        if shape.budget_tokens is None:
            raise RequestInvalid("thinking.budget_tokens: field required; how many tokens may be thought, 1024 or more")
        if shape.budget_tokens < MIN_BUDGET_TOKENS:
            raise RequestInvalid("thinking.budget_tokens: input should be greater than or equal to 1024")
    return Thinking(shape.type, shape.budget_tokens, shape.display == "omitted")


def read_output(data: bytes) -> tuple[Effort | None, bytes | None]:
    """Read `output_config`: the effort, and the schema that the answer must follow as compact JSON; None: not asked."""
    shape = read_field(_output, data, "output_config") if data else None
    if shape is None:
        return None, None
    schema = object_bytes(shape.format.schema, "output_config.format.schema") if shape.format else None
    return shape.effort, schema


def read_stop(data: bytes) -> tuple[str, ...]:
    """Read `stop_sequences`."""
    return (read_field(_stop, data, "stop_sequences") if data else None) or ()


def read_sampling(head: MessagesHead) -> Sampling:
    """Read the three numbers. Their ranges are left to the instance: local models take a temperature of 2."""
    if not (head.temperature or head.top_p or head.top_k):
        return Sampling()
    temperature, top_p, top_k = bytes(head.temperature), bytes(head.top_p), bytes(head.top_k)
    return Sampling(
        temperature if temperature and read_field(_float, temperature, "temperature") is not None else b"",
        top_p if top_p and read_field(_float, top_p, "top_p") is not None else b"",
        top_k if top_k and read_field(_int, top_k, "top_k") is not None else b"",
    )
