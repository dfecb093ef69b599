import msgspec

from router.wire import shapes


def test_every_kind_is_found_under_its_own_tag() -> None:
    assert {name: kind.__struct_config__.tag for name, kind in shapes.KINDS.items()} == {
        name: name for name in shapes.KINDS
    }


def test_fields_that_nobody_needs_are_ignored() -> None:
    sent = b'{"type":"tool_result","cache_control":{"type":"ephemeral"},"tool_use_id":"a","content":"b"}'
    assert shapes.ToolResult("a", "b") == msgspec.json.decode(sent, type=shapes.ToolResult)
