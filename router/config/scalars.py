"""One scalar of the YAML tree as the value that its type asks for.

Everything here raises ValueError("what is wrong; what to write"); the walk adds the place. The value of a
secret is in none of these texts.
"""

import re
from collections.abc import Mapping

import yaml
from msgspec import inspect

from router.config.forms import FORMS
from router.config.problem import quoted
from router.config.suggest import suggestion

_TAG = "tag:yaml.org,2002:"
_FOUND = {
    "null": "nothing",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "timestamp": "a date",
    "str": "text",
    "map": "a mapping",
    "seq": "a list",
}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def read_scalar(
    node: yaml.ScalarNode, kind: inspect.Type, form: str | None, env: Mapping[str, str]
) -> str | int | float:
    """Read a scalar that is not null; `form` names the way it is written (`forms`), None for plain ones."""
    if form == "secret":
        return _read_secret(node, env)
    if isinstance(kind, inspect.LiteralType):
        return _read_choice(node, [str(value) for value in kind.values])
    if isinstance(kind, inspect.IntType) and form is None:
        return _read_int(node, kind)
    if isinstance(kind, inspect.BoolType):
        return _read_bool(node)
    return _read_form(node, kind, form or "text")


def is_null(node: yaml.Node) -> bool:
    """Say whether nothing, ~ or null stands there."""
    return isinstance(node, yaml.ScalarNode) and tag_of(node) == "null"


def tag_of(node: yaml.Node) -> str:
    """Return what YAML takes the node for: str, int, null, map; for tags of other origin the whole tag."""
    return str(node.tag).removeprefix(_TAG)


def found(node: yaml.Node) -> str:
    """Name what stands there, for "expected ..., found ..."."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return _FOUND.get(tag_of(node), "something else")


def wanted(kind: inspect.Type, form: str | None = None) -> str:
    """Say what belongs there, so that it can follow "write"."""
    if isinstance(kind, inspect.Metadata):
        return wanted(kind.type, str((kind.extra or {}).get("form")))
    if isinstance(kind, inspect.UnionType):
        options = [wanted(option) for option in kind.types if not isinstance(option, inspect.NoneType)]
        return " or ".join(options)
    if isinstance(kind, inspect.StructType):
        return f"a mapping with the keys {', '.join(field.encode_name for field in kind.fields)}"
    if isinstance(kind, inspect.DictType):
        return "names, each with its settings"
    if isinstance(kind, inspect.VarTupleType):
        return f'a list, each entry {wanted(kind.item_type)} (after "- " or inside [ ])'
    if isinstance(kind, inspect.LiteralType):
        return f"one of {', '.join(map(str, kind.values))}" if len(kind.values) > 1 else str(kind.values[0])
    if isinstance(kind, inspect.IntType) and form is None:
        return "a whole number such as 4"
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    return FORMS[form or "text"].wanted


def _read_bool(node: yaml.ScalarNode) -> bool:
    if tag_of(node) != "bool":
        raise ValueError(f"is {quoted(node.value)}; write true or false")
    return str(node.value).lower() in {"true", "yes", "on"}


def _read_form(node: yaml.ScalarNode, kind: inspect.Type, form: str) -> str | int | float:
    rules = FORMS[form]
    if rules.plain_text and tag_of(node) != "str":
        raise ValueError(f"is read by YAML as {found(node)}, not as text; put it in quotes: {quoted(node.value)}")
    value = rules.read(node.value)
    if isinstance(kind, inspect.IntType | inspect.FloatType) and isinstance(value, int | float):
        low = kind.gt if kind.gt is not None else kind.ge
        if low is not None and (value < low or (kind.gt is not None and value == low)):
            raise ValueError(f"is zero; write {rules.wanted}")
    if not isinstance(value, str | int | float):
        raise TypeError(f"form {form} reads {type(value).__name__}")
    return value


def _read_int(node: yaml.ScalarNode, kind: inspect.IntType) -> int:
    if tag_of(node) == "str" and re.fullmatch(r"[0-9]+", node.value):
        raise ValueError("is text; write the number without quotes")
    if not re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,17})", node.value):
        raise ValueError(f"is {quoted(node.value)}; write a whole number in plain digits, such as 4 or 1000")
    value = int(node.value)
    if kind.ge is not None and value < kind.ge:
        raise ValueError(f"is {value}; write a whole number of at least {kind.ge}")
    return value


def _read_choice(node: yaml.ScalarNode, choices: list[str]) -> str:
    if node.value in choices and tag_of(node) == "str":
        return str(node.value)
    reason = f"is {quoted(node.value)}" if tag_of(node) == "str" else f"is read by YAML as {found(node)}"
    listed = ", ".join(choices)
    near = suggestion(node.value, choices, kind="values")
    raise ValueError(f"{reason}; write one of {listed}" + (f" ({near})" if near.startswith("did") else ""))


def _read_secret(node: yaml.ScalarNode, env: Mapping[str, str]) -> str:
    if tag_of(node) != "str":
        raise ValueError(f"is read by YAML as {found(node)}, not as text; put it in quotes")
    for name in _VARIABLE.findall(node.value):
        if name not in env:
            raise ValueError(f"needs the environment variable {name}, which is not set; set it before starting")
        if not env[name]:
            raise ValueError(f"needs the environment variable {name}, which is empty; set it before starting")
    value = _VARIABLE.sub(lambda match: env[match[1]], node.value)
    if "${" in _VARIABLE.sub("", node.value):
        raise ValueError('has a "${" that is no variable; write "${NAME}" with letters, digits and underscores')
    if not value or any(not "!" <= character <= "~" for character in value):
        raise ValueError(
            "has a space, a line break or another character that no key has; check how it was set"
            if value
            else 'is empty text; write "${NAME}", or leave the key out'
        )
    return value
