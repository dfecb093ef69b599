"""The JSON Schema of the registry file, for editors: derived from the Structs, with their field docs.

`python -m router.config.schema_json > config/router.schema.json` renews the copy that is shipped; a test
keeps it in step. It knows less than `load`: references between entries are checked only there.
"""

import ast
import json
import sys
import textwrap
from collections.abc import Mapping
from inspect import getsource

import msgspec
from msgspec import NODEFAULT, inspect

from router.config.forms import FORMS
from router.config.schema import RouterFile
from router.config.units import duration_text, size_text

Schema = dict[str, object]


def router_schema() -> Schema:
    """Build the schema of the whole file, in the key names of the YAML."""
    definitions: Schema = {}
    kind = inspect.type_info(RouterFile)
    _schema(kind, definitions)
    root = definitions.pop(RouterFile.__name__)
    head: Schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "llama-router registry",
    }
    if isinstance(root, dict):
        head.update(root)
    return head | {"$defs": definitions}


def field_docs(struct: type) -> Mapping[str, str]:
    """Return the text under each field of a Struct, by attribute name, as one line."""
    (declared,) = ast.parse(textwrap.dedent(getsource(struct))).body
    docs: dict[str, str] = {}
    name: str | None = None
    for statement in declared.body if isinstance(declared, ast.ClassDef) else []:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
        elif name is not None and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            docs[name] = " ".join(str(statement.value.value).split())
            name = None
        else:
            name = None
    return docs


def _schema(kind: inspect.Type, definitions: Schema, form: str | None = None) -> Schema:
    if isinstance(kind, inspect.Metadata):
        return _schema(kind.type, definitions, str((kind.extra or {}).get("form")))
    if isinstance(kind, inspect.UnionType):
        return {"anyOf": [_schema(option, definitions) for option in kind.types]}
    if isinstance(kind, inspect.NoneType):
        return {"type": "null"}
    if isinstance(kind, inspect.LiteralType):
        return {"enum": list(kind.values)}
    if isinstance(kind, inspect.StructType):
        if kind.cls.__name__ not in definitions:
            definitions[kind.cls.__name__] = _struct(kind, definitions)
        return {"$ref": f"#/$defs/{kind.cls.__name__}"}
    return _plain(kind, definitions, form)


def _plain(kind: inspect.Type, definitions: Schema, form: str | None) -> Schema:
    schema: Schema
    if isinstance(kind, inspect.DictType):
        schema = {"type": "object", "additionalProperties": _schema(kind.value_type, definitions)}
        schema["propertyNames"] = _schema(kind.key_type, definitions)
        if kind.min_length:
            schema["minProperties"] = kind.min_length
    elif isinstance(kind, inspect.VarTupleType):
        schema = {"type": "array", "items": _schema(kind.item_type, definitions)}
        if kind.min_length:
            schema["minItems"] = kind.min_length
    elif isinstance(kind, inspect.IntType) and form is None:
        schema = {"type": "integer"}
        if kind.ge is not None:
            schema["minimum"] = kind.ge
    elif isinstance(kind, inspect.BoolType):
        schema = {"type": "boolean"}
    else:
        schema = {"type": "string"}
        if pattern := FORMS[form or "text"].pattern:
            schema["pattern"] = pattern
    return schema


def _struct(kind: inspect.StructType, definitions: Schema) -> Schema:
    docs = field_docs(kind.cls)
    properties: Schema = {}
    for field in kind.fields:
        schema = _schema(field.type, definitions) | {"description": docs[field.name]}
        if field.default is not NODEFAULT and field.default is not None:
            schema["default"] = _as_written(field.default, field.type)
        properties[field.encode_name] = schema
    required = [field.encode_name for field in kind.fields if field.required]
    schema = {"type": "object", "description": (kind.cls.__doc__ or "").partition("\n")[0]}
    schema |= {"properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def _as_written(default: object, kind: inspect.Type) -> object:
    form = (kind.extra or {}).get("form") if isinstance(kind, inspect.Metadata) else None
    if form == "duration" and isinstance(default, float):
        return duration_text(default)
    if form == "size" and isinstance(default, int):
        return size_text(default)
    written: object = msgspec.json.decode(msgspec.json.encode(default))
    return written


if __name__ == "__main__":
    sys.stdout.write(json.dumps(router_schema(), indent=2) + "\n")
