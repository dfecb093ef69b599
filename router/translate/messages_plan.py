"""How a call of the Messages API goes to an instance."""

import msgspec

from router.errors import RequestInvalid
from router.translate.asked import Asked
from router.translate.echo import begun_thinking
from router.translate.fidelity import Abilities, Exact, Native, Refused, Translated, Way, way
from router.translate.forced import forced_name, forced_tools
from router.translate.plan import (
    CHAT_COUNT_PATH,
    CHAT_PATH,
    COUNT_PATH,
    MESSAGES_PATH,
    TOKENIZE_PATH,
    About,
    Count,
    Plan,
)
from router.translate.repair import NativeStream, repair_message
from router.translate.request import chat_body, native_body
from router.translate.response import message_of
from router.translate.splice import with_max_tokens, with_model, without_foreign_thoughts
from router.translate.stream import ChatToMessages
from router.translate.thinking import levers
from router.wire.anthropic import MessagesHead
from router.wire.canonical import Canonical, canonical

_NOTHING = frozenset((b"", b"null", b"[]"))


class MessagesRequest(Asked[MessagesHead]):
    """A call of the Messages API. Its canonical form is made once, and only if an instance needs it."""

    def __init__(self, head: MessagesHead, body: bytes) -> None:
        super().__init__(head, body)
        self._canonical: Canonical | None = None
        self._ways: dict[tuple[Abilities, bool], Way] = {}

    @property
    def max_tokens(self) -> int | None:
        """See `Request`."""
        return self.head.max_tokens

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
            case Translated():
                return self._translated(self.canonical, can, upstream_model)
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
            return Count(
                COUNT_PATH, native_body(call, model=upstream_model or self.head.model, extra=levers(call, can))
            )
        body = chat_body(call, model=upstream_model or self.head.model, llama=can.llama, extra=levers(call, can))
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
                return Refused(f"{name}: {self.head.model} runs on an instance of ours, which has none; leave it out")
        return way(self.canonical, can, model=self.head.model, pass_tools=pass_tools)

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
        omit, silent, thought = _omit(call), call.max_tokens == 0, begun_thinking(call)
        return Plan(
            path=MESSAGES_PATH,
            body=native_body(call, model=upstream_model or self.head.model, extra=levers(call, can)),
            way="native",
            stream=lambda about: self._native_stream(about, omit_thinking=omit, silent=silent, stop=call.stop),
            whole=lambda body, about: repair_message(
                body,
                model=self.head.model,
                message_id=about.message_id,
                prefill=call.prefill,
                thought=thought,
                omit_thinking=omit,
                silent=silent,
                stop=call.stop,
            ),
        )

    def _native_stream(
        self,
        about: About,
        *,
        omit_thinking: bool = False,
        silent: bool = False,
        keep_ids: bool = False,
        stop: tuple[str, ...] | None = None,
    ) -> NativeStream:
        return NativeStream(
            model=self.head.model,
            instance_id=about.instance_id,
            message_id=about.message_id,
            omit_thinking=omit_thinking,
            silent=silent,
            keep_ids=keep_ids,
            stop=stop,
        )

    def _translated(self, call: Canonical, can: Abilities, upstream_model: str | None) -> Plan:
        omit, silent = _omit(call), call.max_tokens == 0
        model = self.head.model
        forced = forced_name(forced_tools(call)) if can.llama else ""
        single = call.tool_choice is not None and not call.tool_choice.parallel
        return Plan(
            path=CHAT_PATH,
            body=chat_body(call, model=upstream_model or model, llama=can.llama, extra=levers(call, can)),
            way="translated",
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
                thought=begun_thinking(call) if can.llama else "",
                omit_thinking=omit,
                silent=silent,
                stop=call.stop,
                forced=forced,
                single=single,
            ),
        )


def _omit(call: Canonical) -> bool:
    return call.thinking is not None and call.thinking.omitted
