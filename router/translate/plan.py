"""A call as it goes to one instance: where to, with which body, and how its answer becomes the client's.

The same call may go to different instances in different ways, one after another; each gets a plan of its own. The kinds
of calls are in `messages_plan`, `chat_plan` and `passing_plan`.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from router.translate.answer import AnswerStream, Usage
from router.translate.fidelity import Abilities

MESSAGES_PATH = b"/v1/messages"
CHAT_PATH = b"/v1/chat/completions"
COUNT_PATH = b"/v1/messages/count_tokens"
CHAT_COUNT_PATH = b"/v1/chat/completions/input_tokens"  # llama-server's
TOKENIZE_PATH = b"/tokenize"  # vLLM's, which takes messages


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer has to know of its call. `created_s`: Unix time; `guess_tokens`: of the prompt, 0 for no idea."""

    instance_id: str
    message_id: str
    created_s: int
    guess_tokens: int = 0


Whole = tuple[bytes, Usage, str]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One way to one instance. `way` is for the record.

    `version`: the anthropic-version to send where the client, of another dialect, sends none; empty: no such header.
    `whole` raises msgspec.DecodeError when the instance's plain answer is none.
    """

    path: bytes
    body: bytes
    way: str
    version: bytes = b""
    stream: Callable[[About], AnswerStream]
    whole: Callable[[bytes, About], Whole]


class Count(msgspec.Struct, frozen=True):
    """How the tokens of a prompt are counted by one instance: its answer has them as `input_tokens` or `count`."""

    path: bytes
    body: bytes


class Request(Protocol):
    """A client's call, as far as the relay has to know it."""

    @property
    def model(self) -> str | None:
        """The name that the client asks for; None: it names none."""

    @property
    def streams(self) -> bool:
        """The client wants the answer as it comes."""

    @property
    def max_tokens(self) -> int | None:
        """The most tokens that the answer may have; None: the client does not say."""

    @property
    def size_bytes(self) -> int:
        """Of its body."""

    @property
    def opening(self) -> tuple[bytes, bytes]:
        """The raw system prompt and first user message: what stays the same in a conversation."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """What was left out because nobody here knows it."""

    def means(self, model: str) -> None:
        """Name the model for a client that has named none, since there is only one."""

    def complete(self, max_tokens: int) -> None:
        """Bound the answer, since the client has not."""

    def refusal(self, can: Abilities, *, pass_tools: bool) -> str | None:
        """Why an instance that can do this much cannot serve it; None: it can. Raises RequestInvalid: nobody could."""

    def plan(self, can: Abilities, *, upstream_model: str | None, pass_tools: bool) -> Plan:
        """Say how it goes to an instance; `upstream_model`: its own name for the model. Raises RequestInvalid."""

    def count(self, can: Abilities, *, upstream_model: str | None) -> Count | None:
        """Say how an instance counts the very prompt that it would be sent; None: nobody counts such a call."""
