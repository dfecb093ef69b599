"""The walk over the YAML tree, guided by the Structs: every value by its type, every slip with its mark.

msgspec's own conversion stops at the first error and knows no lines, so it is not used here; its type
information is.
"""

from collections.abc import Mapping
from typing import Final

import yaml
from msgspec import inspect

from router.config.forms import FORMS
from router.config.problem import Path, quoted
from router.config.reading import Reading
from router.config.scalars import found, is_null, read_scalar, tag_of, wanted
from router.config.suggest import nearest, suggestion
from router.config.tree import mark_of

UNREAD: Final = object()
"""Stands for a value that could not be read; its problem has been reported."""

_TAGS = {"map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value"}
_LATER = {"hosted", "overflow", "redis"}  # documented as coming, and too like "hosts" for a suggestion


class Walk:
    """Reads a tree into Structs; everything found goes into `reading`."""

    def __init__(self, reading: Reading, env: Mapping[str, str]) -> None:
        self._reading = reading
        self._env = env
        self._optional: set[Path] = set()

    def __repr__(self) -> str:
        return f"Walk({self._reading!r})"

    def read(self, node: yaml.Node, kind: inspect.Type, path: Path, form: str | None = None) -> object:
        """Read one node as `kind`, or report what is wrong with it and return UNREAD."""
        if isinstance(kind, inspect.Metadata):
            return self.read(node, kind.type, path, str((kind.extra or {}).get("form")))
        self._reading.marks[path] = mark_of(node)
        if isinstance(kind, inspect.UnionType):
            value = self._read_union(node, kind, path)
        else:
            value = self._read_one(node, kind, path, form)
        if value is not UNREAD:
            self._reading.values[path] = value
        return value

    def _read_union(self, node: yaml.Node, kind: inspect.UnionType, path: Path) -> object:
        options = [option for option in kind.types if not isinstance(option, inspect.NoneType)]
        if is_null(node) and len(options) < len(kind.types):
            return None
        for option in options:
            if isinstance(option, inspect.LiteralType) and isinstance(node, yaml.ScalarNode):
                if node.value in option.values:
                    return node.value
                if len(options) > 1 and tag_of(node) not in ("int", "null"):
                    self._reading.report(path, f"is {quoted(node.value)}", f"write {wanted(kind)}")
                    return UNREAD
        return self.read(node, options[0], path)

    def _read_one(self, node: yaml.Node, kind: inspect.Type, path: Path, form: str | None) -> object:
        if tag_of(node) not in _TAGS:
            self._reading.report(path, "has a YAML tag (!)", "write the plain value without it")
            return UNREAD
        if isinstance(node, yaml.MappingNode) and isinstance(kind, inspect.StructType):
            return self._read_struct(node, kind, path)
        if isinstance(node, yaml.MappingNode) and isinstance(kind, inspect.DictType):
            return self._read_mapping(node, kind, path)
        if isinstance(node, yaml.SequenceNode) and isinstance(kind, inspect.VarTupleType):
            return self._read_list(node, kind, path)
        collection = isinstance(kind, inspect.StructType | inspect.DictType | inspect.VarTupleType)
        if collection or is_null(node) or not isinstance(node, yaml.ScalarNode):
            reason = "is empty" if is_null(node) else f"is {found(node)}"
            instead = ", or leave the key out" if is_null(node) and path in self._optional else ""
            self._reading.report(path, reason, f"write {wanted(kind, form)}{instead}")
            return UNREAD
        try:
            return read_scalar(node, kind, form, self._env)
        except ValueError as error:
            self._report_error(path, error)
            return UNREAD

    def _read_struct(self, node: yaml.MappingNode, kind: inspect.StructType, path: Path) -> object:
        fields = {field.encode_name: field for field in kind.fields}
        values: dict[str, object] = {}
        for key, child in self._entries(node, path):
            if key in fields:
                if not fields[key].required:
                    self._optional.add((*path, key))
                values[fields[key].name] = self.read(child, fields[key].type, (*path, key))
            else:
                self._report_unknown(path, key, list(fields))
        for name, field in fields.items():
            if field.required and field.name not in values:
                values[field.name] = UNREAD
                if (*path, name) not in self._reading.meant:
                    self._reading.report((*path, name), "is missing", f"write {wanted(field.type)}")
        required = {field.name for field in kind.fields if field.required}
        if any(values[name] is UNREAD for name in required):
            return UNREAD
        return kind.cls(**{name: value for name, value in values.items() if value is not UNREAD})

    def _read_mapping(self, node: yaml.MappingNode, kind: inspect.DictType, path: Path) -> object:
        if kind.min_length and not node.value:
            self._reading.report(path, "is empty", "write at least one name with its settings")
        values: dict[str, object] = {}
        form = str((kind.key_type.extra or {}).get("form")) if isinstance(kind.key_type, inspect.Metadata) else "text"
        for key, child in self._entries(node, path):
            try:
                FORMS[form].read(key)
            except ValueError as error:
                self._report_error((*path, key), error, at=self._reading.key_marks[(*path, key)])
            value = self.read(child, kind.value_type, (*path, key))
            if value is not UNREAD:
                values[key] = value
        return values

    def _read_list(self, node: yaml.SequenceNode, kind: inspect.VarTupleType, path: Path) -> object:
        if kind.min_length and not node.value:
            self._reading.report(path, "is an empty list", f"write at least one entry: {wanted(kind.item_type)}")
            return UNREAD
        values = [self.read(child, kind.item_type, (*path, index)) for index, child in enumerate(node.value)]
        return tuple(value for value in values if value is not UNREAD)

    def _entries(self, node: yaml.MappingNode, path: Path) -> list[tuple[str, yaml.Node]]:
        entries: list[tuple[str, yaml.Node]] = []
        for key_node, child in node.value:
            at = mark_of(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._reading.report(path, f"has {found(key_node)} as a key", "write a plain name", at=at)
                continue
            key = str(key_node.value)
            if tag_of(key_node) == "merge":
                hint = "write the keys out, or repeat a whole value with & and *"
                self._reading.report((*path, key), "merging mappings is not supported", hint, at=at)
            elif tag_of(key_node) != "str":
                reason = f"the key is read by YAML as {found(key_node)}, not as text"
                self._reading.report((*path, key), reason, f"put it in quotes: {quoted(key)}", at=at)
            elif (*path, key) in self._reading.key_marks:
                first = self._reading.key_marks[(*path, key)][0]
                self._reading.report((*path, key), f"is there twice, first on line {first}", "keep one", at=at)
            else:
                self._reading.key_marks[(*path, key)] = at
                entries.append((key, child))
        return entries

    def _report_unknown(self, path: Path, key: str, known: list[str]) -> None:
        hint = suggestion(key, known, kind="keys")
        near = nearest(key, known)
        if key in _LATER:
            hint = f"this release does not have it; known keys: {', '.join(known)}"
        elif near is not None:
            self._reading.meant.add((*path, near))
        at = self._reading.key_marks[(*path, key)]
        self._reading.report((*path, key), "unknown key", hint, at=at)

    def _report_error(self, path: Path, error: ValueError, *, at: tuple[int, int] | None = None) -> None:
        reason, _, hint = str(error).partition("; ")
        self._reading.report(path, reason, hint or None, at=at)
