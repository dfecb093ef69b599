"""A call as it goes to one instance: where to, with which body, and how its answer becomes the client's.

The same call may go to different instances in different ways, one after another; each gets a plan of its own.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from router.errors import RequestInvalid
from router.translate.answer import AnswerStream, Usage
from router.translate.chat_prepare import prepare
from router.translate.chat_repair import ChatStream, repair_completion
from router.translate.chat_request import anthropic_version, messages_body
from router.translate.chat_response import completion_of
from router.translate.chat_stream import MessagesToChat
from router.translate.fidelity import Abilities, Exact, Native, Refused, Translated, Way, way
from router.translate.forced import forced_name, forced_tools
from router.translate.passing import PassStream, passed
from router.translate.repair import NativeStream, repair_message
from router.translate.request import chat_body, native_body
from router.translate.response import message_of
from router.translate.splice import with_max_tokens, with_model, without_foreign_thoughts
from router.translate.stream import ChatToMessages
from router.translate.thinking import levers
from router.wire.anthropic import MessagesHead
from router.wire.canonical import Canonical, canonical
from router.wire.chat import ChatHead
from router.wire.passing import PassHead

MESSAGES_PATH = b"/v1/messages"
CHAT_PATH = b"/v1/chat/completions"
COUNT_PATH = b"/v1/messages/count_tokens"
CHAT_COUNT_PATH = b"/v1/chat/completions/input_tokens"  # llama-server's
TOKENIZE_PATH = b"/tokenize"  # vLLM's, which takes messages
_NOTHING = frozenset((b"", b"null", b"[]"))
# Where an OpenAI client says nothing and the Messages API must be told.
DEFAULT_MAX_TOKENS = 4096


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer has to know of its call. `created_s`: Unix time; `guess_tokens`: of the prompt, 0 for no idea."""

    instance_id: str
    message_id: str
    created_s: int
    guess_tokens: int = 0


Whole = tuple[bytes, Usage, str]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One way to one instance. `way` and `because` are for the record.

    `version`: the anthropic-version to send where the client, of another dialect, sends none; empty: no such header.
    `whole` raises msgspec.DecodeError when the instance's plain answer is none.
    """

    path: bytes
    body: bytes
    way: str
    because: tuple[str, ...] = ()
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


class MessagesRequest:
    """A call of the Messages API. Its canonical form is made once, and only if an instance needs it."""

    def __init__(self, head: MessagesHead, body: bytes) -> None:
        self.head = head
        self._body = body
        self._canonical: Canonical | None = None
        self._ways: dict[tuple[Abilities, bool], Way] = {}

    def __repr__(self) -> str:
        return f"MessagesRequest({self.head.model}, {len(self._body)} bytes)"

    @property
    def model(self) -> str:
        """See `Request`."""
        return self.head.model

    @property
    def streams(self) -> bool:
        """See `Request`."""
        return bool(self.head.stream)

    @property
    def max_tokens(self) -> int | None:
        """See `Request`."""
        return self.head.max_tokens

    @property
    def size_bytes(self) -> int:
        """See `Request`."""
        return len(self._body)

    @property
    def opening(self) -> tuple[bytes, bytes]:
        """See `Request`."""
        first = next((message.content for message in self.head.messages if message.role == "user"), "")
        if isinstance(first, str):
            return bytes(self.head.system), msgspec.json.encode(first)
        return bytes(self.head.system), b"".join([block.text for block in first])

    @property
    def dropped(self) -> tuple[str, ...]:
        """See `Request`."""
        return self._canonical.dropped if self._canonical is not None else ()

    def means(self, model: str) -> None:
        """See `Request`: these always name one."""

    def complete(self, max_tokens: int) -> None:
        """See `Request`."""
        self.head = msgspec.structs.replace(self.head, max_tokens=max_tokens)
        self._body = with_max_tokens(self._body, max_tokens)

    @property
    def canonical(self) -> Canonical:
        """Raises RequestInvalid where something in it is wrong."""
        if self._canonical is None:
            self._canonical = canonical(self.head)
        return self._canonical

    def refusal(self, can: Abilities, *, pass_tools: bool) -> str | None:
        """See `Request`."""
        way_there = self._way(can, pass_tools)
        return way_there.reason if isinstance(way_there, Refused) else None

    def plan(self, can: Abilities, *, upstream_model: str | None, pass_tools: bool) -> Plan:
        """See `Request`."""
        match self._way(can, pass_tools):
            case Native():
                return self._native(self.canonical, can, upstream_model)
            case Translated(because=because):
                return self._translated(self.canonical, can, upstream_model, because)
            case Exact():
                return self._exact(upstream_model)
            case Refused(reason=reason):
                raise RequestInvalid(reason)

    def count(self, can: Abilities, *, upstream_model: str | None) -> Count:
        """See `Request`."""
        if can.exact:
            return Count(COUNT_PATH, self._exact_body(upstream_model))
        call = self.canonical
        if can.messages:
            return Count(COUNT_PATH, native_body(call, model=upstream_model or self.model, extra=levers(call, can)))
        body = chat_body(call, model=upstream_model or self.model, llama=can.llama, extra=levers(call, can))
        return Count(CHAT_COUNT_PATH if can.llama else TOKENIZE_PATH, body)

    def _way(self, can: Abilities, pass_tools: bool) -> Way:
        known = self._ways.get((can, pass_tools))
        if known is None:
            known = self._ways[can, pass_tools] = self._find_way(can, pass_tools)
        return known

    def _find_way(self, can: Abilities, pass_tools: bool) -> Way:
        if can.exact:
            return Exact()
        for name, raw in (("mcp_servers", self.head.mcp_servers), ("container", self.head.container)):
            if bytes(raw) not in _NOTHING:
                return Refused(f"{name}: {self.model} runs on an instance of ours, which has none; leave it out")
        return way(self.canonical, can, model=self.model, pass_tools=pass_tools)

    def _exact(self, upstream_model: str | None) -> Plan:
        return Plan(
            path=MESSAGES_PATH,
            body=self._exact_body(upstream_model),
            way="exact",
            stream=lambda about: self._native_stream(about, keep_ids=True),
            whole=lambda body, about: repair_message(
                body, model=self.head.model, message_id=about.message_id, keep_ids=True
            ),
        )

    def _exact_body(self, upstream_model: str | None) -> bytes:
        body = without_foreign_thoughts(self._body)
        return with_model(body, upstream_model) if upstream_model else body

    def _native(self, call: Canonical, can: Abilities, upstream_model: str | None) -> Plan:
        omit, silent = _omit(call), call.max_tokens == 0
        return Plan(
            path=MESSAGES_PATH,
            body=native_body(call, model=upstream_model or self.model, extra=levers(call, can)),
            way="native",
            stream=lambda about: self._native_stream(about, omit_thinking=omit, silent=silent),
            whole=lambda body, about: repair_message(
                body,
                model=self.head.model,
                message_id=about.message_id,
                prefill=call.prefill,
                omit_thinking=omit,
                silent=silent,
            ),
        )

    def _native_stream(
        self, about: About, *, omit_thinking: bool = False, silent: bool = False, keep_ids: bool = False
    ) -> NativeStream:
        return NativeStream(
            model=self.head.model,
            instance_id=about.instance_id,
            message_id=about.message_id,
            guess_tokens=about.guess_tokens,
            omit_thinking=omit_thinking,
            silent=silent,
            keep_ids=keep_ids,
        )

    def _translated(
        self, call: Canonical, can: Abilities, upstream_model: str | None, because: tuple[str, ...]
    ) -> Plan:
        omit, silent = _omit(call), call.max_tokens == 0
        model = self.head.model
        forced = forced_name(forced_tools(call)) if can.llama else ""
        single = call.tool_choice is not None and not call.tool_choice.parallel
        return Plan(
            path=CHAT_PATH,
            body=chat_body(call, model=upstream_model or model, llama=can.llama, extra=levers(call, can)),
            way="translated",
            because=because,
            stream=lambda about: ChatToMessages(
                model=model,
                instance_id=about.instance_id,
                message_id=about.message_id,
                guess_tokens=about.guess_tokens,
                omit_thinking=omit,
                silent=silent,
                stop=call.stop,
                forced=forced,
                single=single,
            ),
            whole=lambda body, about: message_of(
                body,
                model=model,
                message_id=about.message_id,
                prefill=call.prefill if can.llama else None,
                omit_thinking=omit,
                silent=silent,
                stop=call.stop,
                forced=forced,
                single=single,
            ),
        )


def _omit(call: Canonical) -> bool:
    return call.thinking is not None and call.thinking.omitted


class ChatRequest:
    """A call of OpenAI's chat completions."""

    def __init__(self, head: ChatHead, body: bytes) -> None:
        self.head = head
        self._body = body
        self._max_tokens: int | None = None

    def __repr__(self) -> str:
        return f"ChatRequest({self.head.model}, {len(self._body)} bytes)"

    @property
    def model(self) -> str:
        """See `Request`."""
        return self.head.model

    @property
    def streams(self) -> bool:
        """See `Request`."""
        return bool(self.head.stream)

    @property
    def max_tokens(self) -> int | None:
        """See `Request`."""
        return self.head.answer_tokens

    @property
    def size_bytes(self) -> int:
        """See `Request`."""
        return len(self._body)

    @property
    def opening(self) -> tuple[bytes, bytes]:
        """See `Request`."""
        system, user = (
            next((bytes(message.content) for message in self.head.messages if message.role in roles), b"")
            for roles in (("system", "developer"), ("user",))
        )
        return system, user

    @property
    def dropped(self) -> tuple[str, ...]:
        """See `Request`."""
        return ()

    def means(self, model: str) -> None:
        """See `Request`: these always name one."""

    def complete(self, max_tokens: int) -> None:
        """See `Request`."""
        self._max_tokens = max_tokens

    def refusal(self, can: Abilities, *, pass_tools: bool) -> str | None:
        """See `Request`: such clients know what they ask their server for."""
        return None

    def plan(self, can: Abilities, *, upstream_model: str | None, pass_tools: bool) -> Plan:
        """See `Request`."""
        return self._translated(upstream_model) if can.exact else self._native(upstream_model)

    def count(self, can: Abilities, *, upstream_model: str | None) -> Count:
        """See `Request`."""
        plan = self.plan(can, upstream_model=upstream_model, pass_tools=True)
        return Count(COUNT_PATH if can.exact else CHAT_COUNT_PATH if can.llama else TOKENIZE_PATH, plan.body)

    def _native(self, upstream_model: str | None) -> Plan:
        model, usage_asked = self.head.model, self.head.usage_asked
        return Plan(
            path=CHAT_PATH,
            body=prepare(self._body, self.head, model=upstream_model, default_max_tokens=self._max_tokens),
            way="native",
            stream=lambda about: ChatStream(model=model, instance_id=about.instance_id, usage_asked=usage_asked),
            whole=lambda body, about: repair_completion(body, model=model),
        )

    def _translated(self, upstream_model: str | None) -> Plan:
        model, usage_asked = self.head.model, self.head.usage_asked
        body = messages_body(
            self._body, model=upstream_model or model, default_max_tokens=self._max_tokens or DEFAULT_MAX_TOKENS
        )
        return Plan(
            path=MESSAGES_PATH,
            body=body,
            way="translated",
            version=anthropic_version(body).encode(),
            stream=lambda about: MessagesToChat(
                model=model,
                instance_id=about.instance_id,
                completion_id=_completion_id(about),
                created_s=about.created_s,
                usage_asked=usage_asked,
            ),
            whole=lambda body, about: completion_of(
                body, model=model, completion_id=_completion_id(about), created_s=about.created_s
            ),
        )


def _completion_id(about: About) -> str:
    return about.message_id.replace("msg_", "chatcmpl-")


class PassRequest:
    """A call that is only passed on, to an instance that has its route."""

    def __init__(self, head: PassHead, body: bytes, path: bytes) -> None:
        self.head = head
        self._named = head.model or ""
        self._body = body
        self._path = path

    def __repr__(self) -> str:
        return f"PassRequest({self._path.decode()}, {len(self._body)} bytes)"

    @property
    def model(self) -> str | None:
        """See `Request`."""
        return self.head.model

    @property
    def streams(self) -> bool:
        """See `Request`."""
        return bool(self.head.stream)

    @property
    def max_tokens(self) -> int | None:
        """See `Request`: nobody asks."""
        return 0

    @property
    def size_bytes(self) -> int:
        """See `Request`."""
        return len(self._body)

    @property
    def opening(self) -> tuple[bytes, bytes]:
        """See `Request`: what begins alike leans to one instance."""
        return b"", self._body[:512]

    @property
    def dropped(self) -> tuple[str, ...]:
        """See `Request`."""
        return ()

    def means(self, model: str) -> None:
        """See `Request`."""
        self._named = model

    def complete(self, max_tokens: int) -> None:
        """See `Request`: these routes have limits of their own."""

    def refusal(self, can: Abilities, *, pass_tools: bool) -> str | None:
        """See `Request`."""
        return f"{self._path.decode()}: not offered by an instance of the Messages API" if can.exact else None

    def plan(self, can: Abilities, *, upstream_model: str | None, pass_tools: bool) -> Plan:
        """See `Request`."""
        model = self._named
        return Plan(
            path=self._path,
            body=with_model(self._body, upstream_model) if upstream_model and self.head.model else self._body,
            way="native",
            stream=lambda about: PassStream(model=model, instance_id=about.instance_id),
            whole=lambda body, about: passed(body, model=model),
        )

    def count(self, can: Abilities, *, upstream_model: str | None) -> Count | None:
        """See `Request`."""
        return None
