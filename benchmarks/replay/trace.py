"""The trace, read: which sessions there are, how far each is played, and on which side of the split it stands."""

import enum
import gzip
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from router.sim.claude_code import Entry, Session

FEWEST_TURNS = 8
_GZIP_MAGIC = b"\x1f\x8b"


class Split(enum.StrEnum):
    """Which sessions are played: a rule is tuned on some and told of on others."""

    ALL = "all"
    TUNE = "tune"
    HELD_OUT = "held-out"


def read(path: Path) -> list[Session]:
    """Read a trace, JSON lines, compressed or not.

    Raises:
        ValueError: a line is not a session; the message has its number.

    """
    data = path.read_bytes()
    return decode((gzip.decompress(data) if data.startswith(_GZIP_MAGIC) else data).splitlines())


def decode(lines: Iterable[bytes]) -> list[Session]:
    """Return the session of each line."""
    decoder = msgspec.json.Decoder(Session)
    sessions = []
    for number, line in enumerate(lines, 1):
        try:
            sessions.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            raise ValueError(f"line {number} is not a session: {error}") from None
    return sessions


def playable(sessions: Sequence[Session], split: Split, longest_tokens: int) -> list[Session]:
    """Return those of the split, cut off before the first prompt that is too long; the short ones are left out."""
    cut = [_cut(session, longest_tokens) for session in sessions if split in (Split.ALL, side(session.id))]
    return [session for session in cut if turns(session) >= FEWEST_TURNS]


def turns(session: Session) -> int:
    """How many calls its main strand has."""
    return len(session.requests) - agents(session)


def agents(session: Session) -> int:
    """How many sub-agents it has."""
    return sum(bool(entry.requests) for entry in session.requests)


def side(session_id: str) -> Split:
    """Where a session belongs, by its id alone: whatever else a trace holds, it stays there."""
    odd = hashlib.blake2b(session_id.encode(), digest_size=1).digest()[0] & 1
    return Split.HELD_OUT if odd else Split.TUNE


def _cut(session: Session, longest_tokens: int) -> Session:
    return msgspec.structs.replace(session, requests=_within(session.requests, longest_tokens))


def _within(entries: tuple[Entry, ...], longest_tokens: int) -> tuple[Entry, ...]:
    kept: list[Entry] = []
    for entry in entries:
        if entry.requests:
            inner = _within(entry.requests, longest_tokens)
            if inner:
                kept.append(msgspec.structs.replace(entry, requests=inner))
        elif entry.in_tokens > longest_tokens:
            break
        elif entry.runs:
            kept.append(entry)
    return tuple(kept)
