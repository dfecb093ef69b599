"""One normal form of a request for instances that we run: what is sent to them is rendered from it, in either dialect.

The prompt that a conversation gives must grow at its end only, or an instance computes it again. Clients change what
has been sent before: marks move, texts turn into lists, results come in the order in which tools ended, tools are added
in between. Here all that is made equal, from the request alone, so that any router gives the same prompt.
"""

import msgspec

from router.errors import RequestInvalid
from router.wire.anthropic import MessagesHead
from router.wire.blocks import read_head, system_texts
from router.wire.fields import object_bytes
from router.wire.params import (
    Effort,
    Sampling,
    Thinking,
    ToolChoice,
    read_output,
    read_sampling,
    read_stop,
    read_thinking,
    read_tool_choice,
)
from router.wire.parts import joined
from router.wire.tools import ServerTool, Tool, Toolbox, read_tools
from router.wire.turns import AssistantTurn, Turn, turns

_EMPTY = (b"", b"null")
_PARAGRAPH = b"\\n\\n"


class Canonical(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request in normal form. What is bytes is JSON, ready to be sent; None or empty: not asked for."""

    system: bytes | None
    """A literal."""
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...]
    """Those that the model is told of, in the order in which it is."""
    server_tools: tuple[ServerTool, ...]
    """Those that only the hosted API has; whoever sends this to an instance has to refuse them first."""
    tool_choice: ToolChoice | None
    thinking: Thinking | None
    effort: Effort | None
    schema: bytes | None
    """The JSON schema that the answer must follow."""
    stop: tuple[str, ...]
    sampling: Sampling
    max_tokens: int | None
    stream: bool
    chat_template_kwargs: bytes
    """llama.cpp's own: an object for the chat template."""
    prefill: str | None
    """The text of a last turn that is the assistant's, which the answer goes on from; it may be empty."""
    has_images: bool
    has_calls: bool
    """Whether the model has called a tool before."""
    dropped: tuple[str, ...]
    """Types of blocks that were left out, each once."""


def canonical(head: MessagesHead) -> Canonical:
    """Bring a request into normal form.

    Raises:
        RequestInvalid: a field is wrong, or means something that no local model can do.

    """
    messages = [read_head(message, index) for index, message in enumerate(head.messages)]
    leading, said = turns(messages)
    if not said:
        raise RequestInvalid("messages: nothing is left to answer; send a user message with text or images in it")
    texts = (*_system(head), *leading)
    tools = bytes(head.tools)
    toolbox = read_tools(tools) if tools not in _EMPTY else Toolbox()
    choice = read_tool_choice(bytes(head.tool_choice), toolbox)
    references = [name for message in messages for name in message.references]
    effort, schema = read_output(bytes(head.output_config))
    return Canonical(
        system=joined(texts, _PARAGRAPH) if texts else None,
        turns=tuple(said),
        tools=toolbox.known([*references, choice.name] if choice else references),
        server_tools=toolbox.server_tools,
        tool_choice=choice,
        thinking=read_thinking(bytes(head.thinking)),
        effort=effort,
        schema=schema,
        stop=read_stop(bytes(head.stop_sequences)),
        sampling=read_sampling(head),
        max_tokens=head.max_tokens,
        stream=bool(head.stream),
        chat_template_kwargs=_kwargs(bytes(head.chat_template_kwargs)),
        prefill=_prefill(said[-1]),
        has_images=any(message.images for message in messages),
        has_calls=any(message.calls for message in messages),
        dropped=tuple(dict.fromkeys(kind for message in messages for kind in message.dropped)),
    )


def _system(head: MessagesHead) -> list[bytes]:
    data = bytes(head.system)
    return [] if data in _EMPTY else system_texts(data, "system")


def _kwargs(data: bytes) -> bytes:
    return b"" if data in _EMPTY else object_bytes(data, "chat_template_kwargs")


def _prefill(last: Turn) -> str | None:
    if not isinstance(last, AssistantTurn):
        return None
    if not last.text:
        return ""
    try:
        return msgspec.json.decode(last.text, type=str)
    except msgspec.DecodeError:
        raise RequestInvalid("messages: the last text is not valid JSON; half a character may stand in it") from None
