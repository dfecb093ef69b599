"""What the client has begun for the assistant: llama-server's plain answers repeat it, the hosted API's do not.

Seen on real servers, on both routes: the text and the thinking come again as they were sent, then what the template
puts after them, then the model's own. Streams bring only what is new.
"""

import msgspec

from router.wire.canonical import Canonical
from router.wire.turns import AssistantTurn


def begun_thinking(call: Canonical) -> str:
    """Return the thinking of a last turn that is the assistant's; empty: none. `Canonical.prefill` is its text."""
    last = call.turns[-1]
    if not isinstance(last, AssistantTurn) or not last.thinking:
        return ""
    return msgspec.json.decode(last.thinking, type=str)


def text_after(text: str, begun: str | None) -> str:
    """Leave out of a text what the client has begun it with."""
    return text.removeprefix(begun or "")


def thinking_after(thinking: str, begun: str) -> str:
    """Leave out of the thinking what the client has begun it with; blanks after that are the template's."""
    if not begun or not thinking.startswith(begun):
        return thinking
    rest = thinking[len(begun) :]
    return rest if rest.strip() else ""
