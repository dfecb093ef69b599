"""The requests: small ones, and the 400 KB ones of a coding agent.

The shape of a long body is that of a Claude Code session (system blocks with a billing line, twelve tools, a
mid-conversation system entry, then pairs of a short assistant turn with a tool call and a longer tool result,
cache_control on the newest message only), less the fields that llama-server's native path would lose. For the
OpenAI protocol the same turns in that protocol's shape. The text is made up and looks like code, so that it
has the quotes and line breaks that JSON must escape.
"""

import json
import random
from collections.abc import Iterator

from benchmarks.answers import MODEL, Protocol

BODY_BYTES = 400_000
STAMP = b"0123456789abcdef"  # stands in every text of a template; each conversation puts its own there
TURN_TEXT = 2200  # bytes of a tool result; with the call and the JSON around it a turn is about 3 KB
SMALL_TOKENS = 16

Json = dict[str, object]


def small(deltas: int, extra: Json) -> bytes:
    """A small request, which reads the same in both protocols; `deltas` above 0 asks for a stream."""
    turns = [{"role": "user", "content": "Say in one short line what a router is."}]
    body: Json = {"model": MODEL, "max_tokens": deltas or SMALL_TOKENS, "messages": turns}
    return _json(body | ({"stream": True} if deltas else {}) | extra)


class Template:
    """A body of about `size` bytes, to be stamped; turns can be added to its copies."""

    def __init__(self, protocol: Protocol, seed: int, extra: Json, size: int = BODY_BYTES) -> None:
        self._protocol = protocol
        self._extra = extra
        self._text = Prose(seed)
        self.head = b'{"model":"%s","messages":[' % MODEL.encode()
        self.tail = self._tail()
        entries = self._opening()
        length = len(self.tail) + sum(map(len, entries))
        while length < size:
            turn = self.turn(len(entries), last=False)
            entries += turn
            length += sum(map(len, turn)) + 2
        self.entries = b",".join(entries)
        newest = self.turn(len(entries), last=True)
        self.whole = b"".join([self.head, self.entries, b",", b",".join(newest), self.tail])

    def turn(self, number: int, *, last: bool) -> list[bytes]:
        """An assistant's tool call and its result; `last` marks the newest message for caching."""
        call = f"toolu_{number:024d}"
        said = f"{STAMP.decode()} {self._text.line()}"
        given = {"file_path": f"/srv/project/part_{number}.py", "limit": 200}
        result = f"{STAMP.decode()}\n{self._text.piece(TURN_TEXT)}"
        if self._protocol is Protocol.CHAT:
            function: Json = {"name": "Read", "arguments": json.dumps(given)}
            tool_calls = [{"id": call, "type": "function", "function": function}]
            return [
                _json({"role": "assistant", "content": said, "tool_calls": tool_calls}),
                _json({"role": "tool", "tool_call_id": call, "content": result}),
            ]
        asked = {"type": "tool_use", "id": call, "name": "Read", "input": given}
        block: Json = {"tool_use_id": call, "type": "tool_result", "content": result}
        block |= _cached() if last else {}
        return [
            _json({"role": "assistant", "content": [{"type": "text", "text": said}, asked]}),
            _json({"role": "user", "content": [block]}),
        ]

    def rewind(self, number: int) -> None:
        """Make the next turn say what it said before under that number."""
        self._text.rewind(number)

    def _opening(self) -> list[bytes]:
        reminder = f"<system-reminder>\nconv-{STAMP.decode()}\n{self._text.piece(600)}\n</system-reminder>"
        place = f"# Environment {STAMP.decode()}\n{self._text.piece(9000)}"
        if self._protocol is Protocol.CHAT:
            system: Json = {"role": "system", "content": f"{STAMP.decode()} {self._text.piece(6800)}"}
            turns: list[Json] = [
                system,
                {"role": "user", "content": reminder},
                {"role": "system", "content": place},
            ]
        else:
            first = [{"type": "text", "text": reminder}]
            turns = [{"role": "user", "content": first}, {"role": "system", "content": place}]
        return [_json(turn) for turn in turns]

    def _tail(self) -> bytes:
        tools = [self._tool(number) for number in range(12)]
        body: Json = {"tools": tools, "max_tokens": SMALL_TOKENS, "stream": False}
        if self._protocol is Protocol.MESSAGES:
            billing = "x-anthropic-billing-header: cc_version=2.1.330.636; cc_entrypoint=cli; cch=00000;"
            prompt = f"{STAMP.decode()} {self._text.piece(6800)}"
            system = [
                {"type": "text", "text": billing},
                {"type": "text", "text": "You are a coding agent.", **_cached()},
                {"type": "text", "text": prompt, **_cached()},
            ]
            body = {"system": system, "metadata": {"user_id": STAMP.decode()}} | body
        return b"]," + _json(body | self._extra)[1:]

    def _tool(self, number: int) -> Json:
        name = "Read" if number == 0 else f"Tool{number}"
        about = f"{STAMP.decode()} {self._text.piece(2000)}"
        fields = {f"field_{n}": {"type": "string", "description": self._text.line()} for n in range(5)}
        schema = {"type": "object", "properties": fields, "required": ["field_0"]}
        if self._protocol is Protocol.CHAT:
            function = {"name": name, "description": about, "parameters": schema}
            return {"type": "function", "function": function}
        return {"name": name, "description": about, "input_schema": schema}


class Conversation:
    """One client's session: each body is the one before with a turn more."""

    def __init__(self, template: Template, stamp: bytes) -> None:
        self.stamp = stamp
        self._head = template.head + template.entries.replace(STAMP, stamp)
        self._tail = template.tail.replace(STAMP, stamp)
        self._template = template
        self._turn = 0

    def next(self) -> list[bytes]:
        """The pieces of the next body; cch, the checksum in the billing line, changes with every request."""
        number = 100_000 + self._turn
        self._turn += 1
        marked = self._stamped(number, last=True)
        tail = self._tail.replace(b"cch=00000;", b"cch=%05x;" % (int(self.stamp, 16) * number & 0xFFFFF), 1)
        pieces = [self._head, b",", marked, tail]
        self._head += b"," + self._stamped(number, last=False)
        return pieces

    def _stamped(self, number: int, *, last: bool) -> bytes:
        # The same text with and without the mark: only the marker may move on.
        self._template.rewind(number)
        return b",".join(self._template.turn(number, last=last)).replace(STAMP, self.stamp)


def fresh(templates: list[Template]) -> Iterator[bytes]:
    """Bodies of which no text was ever sent before: every text begins with the body's own stamp."""
    number = 0
    while True:
        template = templates[number % len(templates)]
        number += 1
        yield template.whole.replace(STAMP, stamp_of(number, salt=1))


def stamp_of(number: int, salt: int = 0) -> bytes:
    """16 hex digits that look unlike those of the neighbours."""
    return b"%016x" % random.Random(number * 2 + salt).getrandbits(64)


class Prose:
    """An endless supply of made-up code."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._pool = _pool(self._dice)

    def rewind(self, seed: int) -> None:
        """Say the same again from here on."""
        self._dice.seed(seed)

    def line(self) -> str:
        return self.piece(90).replace("\n", " ")

    def piece(self, size: int) -> str:
        start = self._dice.randrange(len(self._pool) - size)
        return self._pool[start : start + size]


def _pool(dice: random.Random) -> str:
    syllables = ("ra", "to", "min", "el", "qua", "ser", "vi", "ka", "lo", "den", "pu", "shi")
    words = ["".join(dice.choices(syllables, k=dice.randint(1, 4))) for _ in range(1500)]
    lines = []
    for _ in range(6000):
        name, left, right = dice.choices(words, k=3)
        indent = "    " * dice.randint(0, 3)
        lines.append(f'{indent}{name} = {left}("{right}", {dice.randint(0, 999)})')
    return "\n".join(lines)


def _cached() -> Json:
    return {"cache_control": {"type": "ephemeral"}}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
