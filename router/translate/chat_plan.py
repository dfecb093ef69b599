"""How a call of OpenAI's chat completions goes to an instance."""

from router.errors import RequestInvalid
from router.translate.asked import Asked
from router.translate.chat_forced import ForcedChat, forced_chat, has_tools
from router.translate.chat_plain import repair_completion
from router.translate.chat_prepare import prepare
from router.translate.chat_repair import ChatStream
from router.translate.chat_request import anthropic_version, messages_body
from router.translate.chat_response import completion_of
from router.translate.chat_stream import MessagesToChat
from router.translate.fidelity import TOOLS_HIDDEN, Abilities
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
from router.wire.chat import ChatHead

# Where an OpenAI client says nothing and the Messages API must be told.
DEFAULT_MAX_TOKENS = 4096


class ChatRequest(Asked[ChatHead]):
    """A call of OpenAI's chat completions."""

    def __init__(self, head: ChatHead, body: bytes) -> None:
        super().__init__(head, body)
        self._max_tokens: int | None = None
        self._forced: ForcedChat | None = None
        self._forced_known = False

    @property
    def max_tokens(self) -> int | None:
        """See `Request`."""
        return self.head.answer_tokens

    @property
    def opening(self) -> tuple[bytes, bytes]:
        """See `Request`."""
        system, user = (
            next((bytes(message.content) for message in self.head.messages if message.role in roles), b"")
            for roles in (("system", "developer"), ("user",))
        )
        return system, user

    def complete(self, max_tokens: int) -> None:
        """See `Request`."""
        self._max_tokens = max_tokens

    def refusal(self, can: Abilities, *, pass_tools: bool) -> str | None:
        """See `Request`. Else such clients know what they ask their server for."""
        if can.exact:
            return None
        if not can.tools and not pass_tools and has_tools(self.head):
            return TOOLS_HIDDEN.format(model=self.head.model)
        try:
            self._forced_at(can)
        except RequestInvalid as error:
            return error.message
        return None

    def plan(self, can: Abilities, *, upstream_model: str | None, pass_tools: bool) -> Plan:
        """See `Request`."""
        if can.exact:
            return self._translated(upstream_model)
        if (reason := self.refusal(can, pass_tools=pass_tools)) is not None:
            raise RequestInvalid(reason)
        return self._native(can, upstream_model)

    def count(self, can: Abilities, *, upstream_model: str | None) -> Count:
        """See `Request`."""
        plan = self.plan(can, upstream_model=upstream_model, pass_tools=True)
        return Count(COUNT_PATH if can.exact else CHAT_COUNT_PATH if can.llama else TOKENIZE_PATH, plan.body)

    def _native(self, can: Abilities, upstream_model: str | None) -> Plan:
        model, usage_asked, forced = self.head.model, self.head.usage_asked, self._forced_at(can)
        body = prepare(
            self._body,
            self.head,
            model=upstream_model,
            default_max_tokens=self._max_tokens,
            forced=forced,
            switch=can.switch,
        )
        return Plan(
            path=CHAT_PATH,
            body=body,
            way="native",
            stream=lambda about: ChatStream(
                model=model,
                instance_id=about.instance_id,
                usage_asked=usage_asked,
                completion_id=_completion_id(about),
                created_s=about.created_s,
                forced=forced,
            ),
            whole=lambda body, about: repair_completion(
                body, model=model, completion_id=_completion_id(about), created_s=about.created_s, forced=forced
            ),
        )

    def _forced_at(self, can: Abilities) -> ForcedChat | None:
        """The call that has to be enforced there. Raises RequestInvalid as `forced_chat` does."""
        if not can.llama:
            return None
        if not self._forced_known:
            self._forced, self._forced_known = forced_chat(self.head, self._body), True
        return self._forced

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
