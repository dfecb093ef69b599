import json
import pathlib
import subprocess
import sys

import msgspec
import pytest

from router.config import schema
from router.config.schema_json import field_docs, router_schema

SHIPPED = pathlib.Path(__file__).parents[2] / "config" / "router.schema.json"
STRUCTS = [value for value in vars(schema).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)]


def test_the_shipped_schema_is_what_the_structs_say() -> None:
    """When this fails: python -m router.config.schema_json > config/router.schema.json."""
    assert json.loads(SHIPPED.read_text()) == router_schema()


def test_the_module_prints_the_shipped_schema() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "router.config.schema_json"],
        cwd=SHIPPED.parents[1],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert SHIPPED.read_bytes() == printed.stdout


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_field_is_documented(struct: type[msgspec.Struct]) -> None:
    docs = field_docs(struct)
    assert set(docs) == set(struct.__struct_fields__)
    assert all(len(text) > 20 and text.endswith(".") for text in docs.values())


def test_values_are_described_as_they_are_written() -> None:
    definitions = msgspec.convert(router_schema()["$defs"], dict[str, dict[str, object]])
    deadlines = msgspec.convert(definitions["Deadlines"]["properties"], dict[str, dict[str, object]])
    assert list(deadlines) == ["connect", "head", "idle", "call", "hold", "shutdown_grace"]
    assert deadlines["connect"]["type"] == "string"
    assert deadlines["shutdown_grace"]["default"] == "3m"
    limits = msgspec.convert(definitions["Limits"]["properties"], dict[str, dict[str, object]])
    assert limits["body"]["default"] == "32MiB"
    assert definitions["InstanceEntry"]["required"] == ["url"]
    assert definitions["InstanceEntry"]["additionalProperties"] is False
