"""The slots of a scripted instance: who computes, who waits, and whose prompt is still in the cache."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import takewhile

import msgspec

from tests.rig.fake_wire import Reply, compact

NONCE = re.compile(r"nonce:[A-Za-z0-9_.-]+")


class Grant(msgspec.Struct, frozen=True):
    slot: int
    prompt_tokens: int
    cached_tokens: int


class Slots:
    """A first-in first-out queue for `total` slots, each remembering its last prompt as the KV cache would.

    Words stand for tokens. Among the idle slots the one with the longest common prefix is taken, otherwise
    the one unused for longest; at least one word is always computed anew.
    """

    def __init__(self, total: int, changed: Callable[[], None] = lambda: None) -> None:
        self.total = total
        self._changed = changed  # called whenever a slot was taken or given back, or a call has to wait
        self.deferred = 0
        self.used = 0
        self.busy: set[int] = set()
        self.prompts: list[list[str]] = [[] for _ in range(total)]
        self._last_use = [0] * total
        self._free = asyncio.Semaphore(total)

    @asynccontextmanager
    async def take(self, words: list[str]) -> AsyncIterator[Grant]:
        self.deferred += 1
        self._changed()
        try:
            await self._free.acquire()
        finally:
            self.deferred -= 1
        grant = self._occupy(words)
        self._changed()
        try:
            yield grant
        finally:
            self.busy.discard(grant.slot)
            self._free.release()
            self._changed()

    def _occupy(self, words: list[str]) -> Grant:
        idle = [slot for slot in range(self.total) if slot not in self.busy]
        slot = max(idle, key=lambda it: (common_prefix(self.prompts[it], words), -self._last_use[it]))
        cached = min(common_prefix(self.prompts[slot], words), max(len(words) - 1, 0))
        self.used += 1
        self._last_use[slot] = self.used
        self.prompts[slot] = words
        self.busy.add(slot)
        return Grant(slot=slot, prompt_tokens=len(words), cached_tokens=cached)


def common_prefix(left: list[str], right: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def prompt_words(body: object) -> list[str]:
    """The words of system, tools and messages in order: the scripted instance's idea of tokens."""
    if not isinstance(body, dict):
        return []
    words = _text_of(body.get("system")).split()
    words += [compact(tool).decode() for tool in body.get("tools") or ()]
    for message in body.get("messages") or ():
        words += [f"<{message.get('role')}>", *_text_of(message.get("content")).split()]
    return words


def nonce_of(body: object) -> str:
    """`nonce:XYZ` as found last in the last user text, or "ok" where there is none."""
    if isinstance(body, dict):
        for message in reversed(body.get("messages") or ()):
            found = NONCE.findall(_text_of(message.get("content"))) if message.get("role") == "user" else []
            if found:
                return str(found[-1])
    return "ok"


def echo(reply_id: str, model: str, body: object, grant: Grant, tokens: int) -> Reply:
    """The answer that can be checked against its own question: see `spoken`."""
    asked = body.get("max_tokens") or body.get("max_completion_tokens") if isinstance(body, dict) else None
    limit = asked if isinstance(asked, int) else tokens
    pieces = spoken(nonce_of(body), min(tokens, limit))
    return Reply(
        id=reply_id,
        model=model,
        text=pieces,
        stop_reason="max_tokens" if limit < tokens else "end_turn",
        prompt_tokens=grant.prompt_tokens,
        cached_tokens=grant.cached_tokens,
    )


def spoken(nonce: str, tokens: int) -> tuple[str, ...]:
    """The nonce and then numbered words: `spoken("nonce:a", 3)` is `("nonce:a", " w1", " w2")`."""
    return (nonce, *(f" w{number}" for number in range(1, tokens)))


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = []
    for block in content:
        if isinstance(block, dict):
            said = block.get("text") or block.get("thinking") or block.get("input")
            parts.append(
                said if isinstance(said, str) else json.dumps(said) if said else _text_of(block.get("content"))
            )
    return " ".join(parts)
