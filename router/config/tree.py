"""The bytes of a registry file as a YAML tree with marks, or the reason why they are none.

Only the tree is built here; no tag is ever turned into an object, so a file can hold nothing but data.
"""

import re

import yaml

from router.config.problem import ConfigInvalid, ConfigProblem

# What PyYAML says (how it begins), what that means here, and what to do about it.
_SYNTAX = (
    ("found character '\\t'", "a tab where YAML wants spaces", "indent with spaces only"),
    (
        "found undefined alias",
        "a * that no anchor (&) belongs to",
        "put a value that begins with * in quotes",
    ),
    (
        "mapping values are not allowed",
        "a colon where no key can stand",
        "indent the line like its neighbours, or put the value in quotes",
    ),
    ("could not find expected ':'", "a line that is no key", "write it as key: value"),
    ("expected ',' or ']'", "a list that is never closed", "close it with ] and put commas between entries"),
    ("expected ',' or '}'", "a mapping that is never closed", "close it with } and put commas between keys"),
    (
        "expected <block end>",
        "a line that belongs to nothing above it",
        "indent it exactly like its neighbours",
    ),
    ("found unexpected end of stream", "a quote that is never closed", "close it on the same line"),
    ("but found another document", "a second document", "remove the --- and what follows it"),
    ("second occurrence", "an anchor (&) that is defined twice", "give each anchor its own name"),
    (
        "found unknown escape character",
        "an unknown escape in double quotes",
        "use single quotes, or write \\\\",
    ),
    ("found character", "a character that cannot begin a value", "put the value in quotes"),
)


def compose(data: bytes, *, file: str) -> yaml.Node:
    """Build the tree of one YAML document; raises ConfigInvalid with one problem if there is none."""
    text = _decoded(data, file=file)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line, column = _position(text[: error.position])
        raise _invalid(
            file,
            line,
            column,
            "a character that YAML does not allow",
            "remove it; the file must be plain text",
        ) from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, file=file) from None
    except RecursionError:
        raise _invalid(file, 1, 1, "nested too deeply", "this file needs five levels at most") from None
    except (ValueError, OverflowError):
        # PyYAML hands "\U00110000" to chr() as it is.
        raise _invalid(file, 1, 1, 'an escape such as "\\U..." that is no character', "write the text") from None
    if root is None:
        raise _invalid(file, 1, 1, "the file is empty", 'write at least "models:" with one model and its instances')
    return root


def mark_of(node: yaml.Node) -> tuple[int, int]:
    """Return line and column of a node, counted from 1."""
    return node.start_mark.line + 1, node.start_mark.column + 1


def _decoded(data: bytes, *, file: str) -> str:
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line, column = _position(data[: error.start].decode("utf-8"))
        raise _invalid(file, line, column, "not UTF-8 text", "save the file as UTF-8") from None


def _syntax_error(error: yaml.MarkedYAMLError, *, file: str) -> ConfigInvalid:
    said = error.problem or error.context or ""
    # A quote or bracket that stays open is noticed at the end of the file; where it opens helps more.
    mark = error.problem_mark or error.context_mark
    if "end of stream" in said or (mark is not None and said.startswith("expected ',' or")):
        mark = error.context_mark or mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    for beginning, reason, hint in _SYNTAX:
        if said.startswith(beginning):
            return _invalid(file, line, column, reason, hint)
    # The rest is rare. Names from the file are left out, because one of them may be a key.
    said = re.sub(r"'[^'<]{2,}'", "it", said)
    return _invalid(file, line, column, f"not valid YAML: {said}", "see the line above too")


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _invalid(file: str, line: int, column: int, reason: str, hint: str) -> ConfigInvalid:
    return ConfigInvalid([ConfigProblem(file=file, line=line, column=column, path="", reason=reason, hint=hint)])
