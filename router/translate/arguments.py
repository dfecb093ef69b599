"""A tool call's arguments, which come in pieces: whether they are one JSON object yet, known at every piece.

Each piece is looked at once, for quotes and brackets only. Whether the whole is JSON is asked once, at the end.
"""

import re

import msgspec

from router.wire.reading import read

_MARKS = re.compile(r'\\(?:.|\Z)|["{}\[\]]', re.DOTALL)
_SPACE = " \t\n\r"
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Arguments:
    """The pieces so far.

    `begun`: more than blanks has come. `done`: the brackets have closed. `broken`: it does not begin as an object, or
    goes on after its end; what is added then is not looked at any more.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "_pieces", "begun", "broken", "done")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._depth = 0
        self._in_string = self._escaped = False
        self.begun = self.done = self.broken = False

    def __repr__(self) -> str:
        state = "broken" if self.broken else "done" if self.done else f"depth {self._depth}"
        return f"Arguments({sum(map(len, self._pieces))} characters, {state})"

    @property
    def text(self) -> str:
        """All pieces, joined; empty when nothing has come."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def add(self, piece: str) -> None:
        """Take the next piece."""
        if not piece:
            return
        self._pieces.append(piece)
        if self.broken:
            return
        rest = piece if self.begun else piece.lstrip(_SPACE)
        if not self.begun and rest:
            self.begun = True
            self.broken = rest[0] != "{"
        if self.done:
            self.broken = bool(rest.strip(_SPACE))
        elif rest and not self.broken:
            self._scan(rest)

    def is_object(self) -> bool:
        """Say whether the whole is one JSON object. Nothing, or blanks alone, is an object without fields."""
        if not self.begun:
            return True
        if not self.done or self.broken:
            return False
        try:
            read(_object, self.text.encode())
        except (msgspec.DecodeError, UnicodeEncodeError):
            return False
        return True

    def _scan(self, piece: str) -> None:
        start = 1 if self._escaped else 0
        self._escaped = False
        for mark in _MARKS.finditer(piece, start):
            what = mark[0]
            if what == '"':
                self._in_string = not self._in_string
            elif self._in_string:
                self._escaped = what == "\\"
            elif what in "{[":
                self._depth += 1
            elif what in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.done = True
                    self.broken = bool(piece[mark.end() :].strip(_SPACE))
                    return
