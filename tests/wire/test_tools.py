import json
from typing import Any

import pytest

from router.errors import RequestInvalid
from router.wire.tools import PLACEHOLDER, ServerTool, Tool, read_tools


def read(*tools: Any) -> Any:
    return read_tools(json.dumps(tools).encode())


def a_tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object"}, **more}


def test_a_tool_is_its_name_description_and_schema() -> None:
    sent = a_tool("A", type="custom", description='Says "a"', cache_control={}, strict=True, input_examples=[1])
    assert (Tool("A", b'"Says \\"a\\""', b'{"type": "object"}'), Tool("B", b'""', b'{"type": "object"}')) == (
        read(sent, a_tool("B", type=None, description=None)).tools
    )


def test_tools_of_the_hosted_api_are_listed_with_their_place() -> None:
    box = read(a_tool("A"), {"type": "web_search_20250305", "name": "web_search"}, {"type": "mcp_toolset"})
    assert (ServerTool(1, "web_search_20250305", "web_search"), ServerTool(2, "mcp_toolset", "")) == box.server_tools
    assert {"A", "web_search", ""} == box.names()


def test_no_tools_are_no_tools() -> None:
    assert () == read_tools(b"null").tools == read_tools(b"[]").tools


def test_deferred_tools_come_in_the_order_in_which_they_are_first_named() -> None:
    box = read(a_tool("D1", defer_loading=True), a_tool("A"), a_tool("D2", defer_loading=True), a_tool("B"))
    assert ["A", "B"] == [it.name for it in box.known([])]
    assert ["A", "B", "D2"] == [it.name for it in box.known(["D2"])]
    assert ["A", "B", "D2", "D1"] == [it.name for it in box.known(["lost", "D2", "A", "D1", "D2"])]


def test_the_placeholder_for_deferred_tools_is_no_tool() -> None:
    assert ["A"] == [it.name for it in read(a_tool("A"), a_tool(PLACEHOLDER, defer_loading=True)).known([PLACEHOLDER])]


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ([{"input_schema": {}}], r"^tools\.0\.name: field required"),
        ([a_tool("A"), {"name": "B"}], r"^tools\.1\.input_schema: field required"),
        ([a_tool("A", input_schema=[])], r"^tools\.0\.input_schema: must be an object$"),
        ([a_tool("A", description=1)], r"^tools\.0\.description: "),
        (["A"], r"^tools\.0: "),
        ([a_tool("A"), a_tool("A")], r"^tools: Tool names must be unique\.$"),
    ],
)
def test_a_wrong_tool_is_refused_by_its_place(tools: list[Any], said: str) -> None:
    with pytest.raises(RequestInvalid, match=said):
        read(*tools)


def test_tools_that_are_no_list_are_refused() -> None:
    with pytest.raises(RequestInvalid, match=r"^tools: "):
        read_tools(b'{"name":"A"}')
