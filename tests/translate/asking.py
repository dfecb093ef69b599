"""Calls of each kind, instances that can do more or less, and what both make of each other."""

import json
from typing import Any

from router.translate.answer import AnswerStream
from router.translate.chat_plan import ChatRequest
from router.translate.fidelity import Abilities
from router.translate.messages_plan import MessagesRequest
from router.translate.passing_plan import PassRequest
from router.translate.plan import About, Plan, Request
from router.wire.anthropic import decode_messages
from router.wire.chat import decode_chat
from router.wire.passing import decode_passing
from tests.rig import fake_chat
from tests.rig.fake_wire import Reply
from tests.wire.canonical_samples import tool

ABOUT = About(instance_id="one", message_id="msg_1", created_s=1_795_363_657, guess_tokens=5)
LLAMA = Abilities()
OLD_LLAMA = Abilities(messages=False)
VLLM = Abilities(llama=False, messages=False)
HOSTED = Abilities(exact=True, llama=False, chat=False)
REPLY = Reply(id="x", model="theirs", text=("a", "b"), prompt_tokens=7, cached_tokens=3)
TOOL = tool("look")
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}
HI = [{"role": "user", "content": "hi"}]


def body_of(**fields: Any) -> bytes:
    body = {"model": "asked", "max_tokens": 9, "messages": HI} | fields
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def messages(**fields: Any) -> MessagesRequest:
    body = body_of(**fields)
    return MessagesRequest(decode_messages(body), body)


def chat(**fields: Any) -> ChatRequest:
    body = body_of(**fields)
    return ChatRequest(decode_chat(body), body)


def passing(path: bytes = b"/v1/embeddings", **fields: Any) -> PassRequest:
    body = json.dumps(fields).encode()
    return PassRequest(decode_passing(body), body, path)


def plan(request: Request, can: Abilities, *, model: str | None = None, pass_tools: bool = False) -> Plan:
    return request.plan(can, upstream_model=model, pass_tools=pass_tools)


def sent(made: Plan) -> Any:
    return json.loads(made.body)


def played(stream: AnswerStream, raw: bytes) -> bytes:
    said = stream.feed(raw) + stream.finish()
    assert (stream.ended, stream.error) == (True, None)
    return said


def chat_raw(reply: Reply) -> bytes:
    return b"".join(fake_chat.chat_frames(reply, include_usage=True))
