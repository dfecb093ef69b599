"""Which way a call goes to an instance: llama-server's own /v1/messages, chat completions, or not at all.

One table: what a request may use, and who serves it without loss. Native is preferred, since nothing has to be
translated back; a call that uses something which the native route drops or bends goes the other way. What neither can
do is refused, with the field and the reason, rather than served as if it had not been asked for.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from router.fleet.instance import Facts, Instance
from router.translate.forced import forced_tools
from router.wire.canonical import Canonical


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance can do, as far as a call's way depends on it.

    `exact`: it is the Messages API itself, and bodies go there as they came. `llama`: llama-server, with what it has
    beyond the chat completions of others. `switch`, `effort`: its template obeys `enable_thinking`, `reasoning_effort`.
    """

    exact: bool = False
    llama: bool = True
    messages: bool = True
    chat: bool = True
    images: bool = True
    tools: bool = True
    switch: bool = False
    effort: bool = False


def abilities(instance: Instance, facts: Facts | None) -> Abilities:
    """Put together what the registry says, what /props says, and for the rest the benefit of the doubt.

    Never from a build number: those of many builds do not parse.
    """
    said = instance.capabilities
    exact = instance.dialect == "anthropic"
    llama = instance.dialect == "llama" or (instance.dialect == "auto" and facts is not None)
    has_messages = exact or (llama and not (facts is not None and facts.messages is False))
    return Abilities(
        exact=exact,
        llama=llama,
        messages=_first(said.messages, has_messages),
        chat=not exact,
        images=_first(said.images, facts.vision if facts else None, True),
        tools=_first(said.tools, facts.tools if facts else None, True),
        switch=_first(said.thinking, facts.switch if facts else False),
        effort=_first(said.effort, facts.effort if facts else False),
    )


def _first(*values: bool | None) -> bool:
    return next((value for value in values if value is not None), False)


TOOLS_HIDDEN = (
    "tools: the chat template of {model} does not show tools to the model; leave tools out, name another "
    "model, or have the operator set `tools: pass` for it"
)
"""What a client is told whose tools nobody would see; `{model}` is the name that it asked for."""
_MUST = ("any", "tool")
Ability = Literal["images", "tools"]


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a request may use. `native`, `chat`: served there; a name: if the instance has that ability.

    `refusal`: what a client is told where neither serves it; `{model}` is the name that it asked for.
    """

    name: str
    used: Callable[[Canonical], bool]
    native: bool | Ability = True
    chat: bool | Ability = True
    refusal: str = ""
    why: str


FEATURES: tuple[Feature, ...] = (
    Feature(
        name="images",
        used=lambda call: call.has_images,
        native="images",
        chat="images",
        refusal="messages: {model} takes no images; send text only, or name a model that does",
        why="without a projector llama-server answers 500 to a picture, after the call has waited for its slot",
    ),
    Feature(
        name="tools",
        used=lambda call: bool(call.tools),
        native="tools",
        chat="tools",
        refusal=TOOLS_HIDDEN,
        why="llama-server drops them without a word, and the model answers as if there were none",
    ),
    Feature(
        name="must_call",
        used=lambda call: bool(forced_tools(call)),
        native=False,
        why="a name is lost on both routes, and `required` is not always enforced: the tools' own schema is instead",
    ),
    Feature(
        name="must_call_and_begun",
        used=lambda call: call.prefill is not None and call.tool_choice is not None and call.tool_choice.kind in _MUST,
        native=False,
        chat=False,
        refusal=(
            "tool_choice: `any` and `tool` make the answer begin with the call, and the last message has begun it "
            "otherwise; leave that message out, or let tool_choice be auto"
        ),
        why="what the assistant has begun cannot begin with a call any more",
    ),
    Feature(
        name="no_tools",
        used=lambda call: call.tool_choice is not None and call.tool_choice.kind == "none" and bool(call.tools),
        native=False,
        why="the native route does not map `none`: the tools stay on",
    ),
    Feature(
        name="one_tool_at_a_time",
        used=lambda call: call.tool_choice is not None and not call.tool_choice.parallel and bool(call.tools),
        native=False,
        why="the native route drops disable_parallel_tool_use",
    ),
    Feature(
        name="structured_output",
        used=lambda call: call.schema is not None,
        native=False,
        why="the native route drops output_config.format",
    ),
)


class Native(msgspec.Struct, frozen=True, tag=True):
    """To /v1/messages, in canonical form; the answer is repaired."""


class Translated(msgspec.Struct, frozen=True, tag=True):
    """To /v1/chat/completions: the native route would lose something, or there is none."""


class Exact(msgspec.Struct, frozen=True, tag=True):
    """To /v1/messages of the Messages API itself, as it came."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Not to this instance. `reason` is for the client."""

    reason: str


Way = Native | Translated | Exact | Refused


def way(call: Canonical, can: Abilities, *, model: str, pass_tools: bool = False) -> Way:
    """Choose. `model`: the name that the client asked for; `pass_tools`: tools go even where no template shows them."""
    if can.exact:
        return Exact()
    if call.server_tools:
        return Refused(_server_tool(call, model))
    lost: list[str] = []
    for feature in FEATURES:
        if not feature.used(call) or (pass_tools and feature.name == "tools"):
            continue
        native, chat = (_serves(where, can) for where in (feature.native, feature.chat))
        if not (native and can.messages) and not (chat and can.chat):
            return Refused(feature.refusal.format(model=model) or _no_route(feature, model))
        if not native:
            lost.append(feature.name)
    if can.messages and not lost:
        return Native()
    return Translated() if can.chat else Refused(f"{', '.join(lost)}: not possible with {model}")


def _serves(where: bool | Ability, can: Abilities) -> bool:
    return where if isinstance(where, bool) else bool(getattr(can, where))


def _no_route(feature: Feature, model: str) -> str:
    return f"{feature.name}: not possible with {model}: {feature.why}"


def _server_tool(call: Canonical, model: str) -> str:
    """In the words of the hosted API, which clients look for before they do without such a tool."""
    tool = call.server_tools[0]
    return (
        f"tools.{tool.index}: Input tag '{tool.type}' found using 'type' does not match any of the expected tags: "
        f"'custom'; {model} runs on an instance of ours, which has no tools of its own"
    )
