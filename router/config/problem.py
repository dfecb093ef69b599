"""What is wrong with a registry file, told so that it can be put right without the manual."""

import json
import re
from collections.abc import Iterable

import msgspec

from router.errors import RouterError

Path = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


class ConfigProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, and what to write instead.

    `line` and `column` count from 1 and point at the value, or at the key when the key is what is wrong; 0: it is no
    file but an option of the command line.
    `path` is empty when the file could not be read as YAML. No text here holds the value of a secret.
    """

    file: str
    line: int
    column: int
    path: str
    reason: str
    hint: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        what = f"{self.path}: {self.reason}" if self.path else self.reason
        return where + what + (f"; {self.hint}" if self.hint else "")


class ConfigInvalid(RouterError):
    """The registry file cannot run: every problem found in it, in the order of the file."""

    problems: tuple[ConfigProblem, ...]

    def __init__(self, problems: Iterable[ConfigProblem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def path_text(path: Path) -> str:
    """Write a path as `models.qwen.instances[0].url`; a key with dots or spaces is quoted in brackets."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{quoted(step)}]"
    return text


def quoted(text: str) -> str:
    """Put text from the file in quotes, on one line, escaped to ASCII and cut to a readable length."""
    return json.dumps(text if len(text) <= 60 else text[:57] + "...")
