"""The keys file: `keys: [{id, sha256, team}]`. It holds sums, so that reading it gives nobody a key."""

import re
from typing import Annotated

import msgspec
import yaml

from router.config.problem import ConfigInvalid, ConfigProblem


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key. `sha256`: the sum of the key's bytes in hex; `printf %s KEY | sha256sum` prints it.

    `admin`: it may use /admin from other machines.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{64}$")]
    admin: bool = False
    team: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""


class KeysFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    keys: tuple[KeyEntry, ...]


_PATH = re.compile(r"(.*) - at `\$\.?(.*)`$")
_SUM = re.compile(r"[0-9a-fA-F]{16,}")  # most of one: somebody put it in the wrong place


def parse_keys(data: bytes, *, file: str) -> tuple[KeyEntry, ...]:
    """Read a keys file.

    Raises: ConfigInvalid: it is not YAML, a field is missing or unknown, an id stands twice. No message
    holds a sum.
    """
    try:
        entries = msgspec.convert(yaml.safe_load(data), KeysFile).keys
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _invalid(file, line, column, "", f"not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise _invalid(file, 1, 1, "", "not valid YAML") from None
    except msgspec.ValidationError as error:
        match = _PATH.match(str(error))
        reason, path = match.groups() if match else (str(error), "")
        if "regex" in reason:
            reason = "is not written as expected: id in letters, digits, '.', '_', '-'; sha256 in 64 hex digits"
        raise _invalid(file, _line_of(data, path), 1, path, reason.replace("`", "")) from None
    except ValueError as error:  # PyYAML: a date or a time that is none
        raise _invalid(file, 1, 1, "", f"not valid YAML: {error}") from None
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        if entry.id in seen:
            path = f"keys[{index}].id"
            raise _invalid(file, _line_of(data, path), 1, path, f'"{entry.id}" stands twice; each key has its own id')
        seen.add(entry.id)
    return entries


def _invalid(file: str, line: int, column: int, path: str, reason: str) -> ConfigInvalid:
    return ConfigInvalid(
        (ConfigProblem(file=file, line=line, column=column, path=path, reason=_SUM.sub("[...]", reason)),)
    )


def _line_of(data: bytes, path: str) -> int:
    """The line where the entry of `keys[N]...` begins; 1 when that cannot be told."""
    index = re.match(r"keys\[(\d+)\]", path)
    root = yaml.compose(data, Loader=yaml.SafeLoader)
    if index is None or not isinstance(root, yaml.MappingNode):
        return 1
    for key, value in root.value:
        if key.value == "keys" and isinstance(value, yaml.SequenceNode) and int(index[1]) < len(value.value):
            return int(value.value[int(index[1])].start_mark.line) + 1
    return 1
