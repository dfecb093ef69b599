"""The recorded requests, and which of them are turns of one conversation."""

import itertools
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent


class Captured(NamedTuple):
    """One request with a body; `name`: its file and its line in it."""

    name: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@cache
def captured(path: str = "/v1/messages") -> tuple[Captured, ...]:
    """All requests to this path, whatever their query, in the order in which they were sent."""
    return tuple(it for file in sorted(HERE.glob("*.jsonl")) for it in _of(file) if it.path.split("?")[0] == path)


def _of(file: Path) -> Iterator[Captured]:
    for place, line in enumerate(file.read_text().splitlines(), 1):
        entry = json.loads(line)
        headers = {name.lower(): value for name, value in entry["headers"]}
        if entry["body"]:
            body = json.dumps(entry["body"], ensure_ascii=False).encode()
            yield Captured(f"{file.stem}-{place}", entry["path"], headers, body)


def consecutive_turns() -> list[tuple[Captured, Captured]]:
    """Each request with the one that continues it."""
    pairs = []
    for _, group in itertools.groupby(sorted(captured(), key=_conversation), key=_conversation):
        for earlier, later in itertools.pairwise(group):
            if len(later.fields["messages"]) > len(earlier.fields["messages"]):
                pairs.append((earlier, later))
    return pairs


def _conversation(it: Captured) -> tuple[str, str, str]:
    """A session has a conversation for each agent, and side calls that begin otherwise."""
    first = it.fields["messages"][0]["content"]
    began = first if isinstance(first, str) else first[0]["text"]
    return it.headers.get("x-claude-code-session-id", it.name), it.headers.get("x-claude-code-agent-id", ""), began
