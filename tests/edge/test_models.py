from typing import Any

import msgspec
import pytest
from anthropic.types import ModelInfo as AnthropicModel
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Model as OpenAIModel

from router.edge.models import MAX_LIMIT, Entry, _entry, _page
from router.errors import RequestInvalid
from router.fleet.instance import Facts
from router.fleet.registry import Pool
from router.fleet.view import Row
from tests.fleet import sample

steady = settings(derandomize=True, max_examples=300, deadline=None)

POOL = Pool(name="qwen3-coder", aliases=("coder",), display_name="Qwen 3 Coder", instance_ids=("a", "b"))
AT, AT_S = "2026-01-01T00:00:00Z", 1767225600


def entry(*facts: Facts | None, name: str = "qwen3-coder") -> Entry:
    rows: list[Row] = [sample.row(f"i{at}", facts=fact) for at, fact in enumerate(facts)]
    return _entry(name, POOL, rows, AT, AT_S)


# ---------------------------------------------------------------- one model


def test_an_entry_has_the_keys_of_both_lists() -> None:
    told = entry(Facts(slots=1, ctx_tokens=4096))
    assert {
        "type": "model", "id": "qwen3-coder", "display_name": "Qwen 3 Coder", "created_at": AT, "lifecycle": "active",
        "max_input_tokens": 4096, "max_tokens": 4096, "line": None, "deprecated_at": None, "retires_at": None,
        "object": "model", "created": AT_S, "owned_by": "llama-router",
    } == {key: value for key, value in told.items() if key != "capabilities"}  # fmt: skip


@pytest.mark.parametrize(
    "facts", [(), (None,), (Facts(slots=1),), (Facts(slots=1, ctx_tokens=8, vision=True, thinking=True),)]
)
def test_both_sdks_take_an_entry_to_the_letter(facts: tuple[Facts | None, ...]) -> None:
    told = msgspec.json.decode(msgspec.json.encode(entry(*facts)))
    assert "qwen3-coder" == AnthropicModel.model_validate(told).id
    assert "qwen3-coder" == OpenAIModel.model_validate(told).id


def test_an_alias_is_shown_under_its_own_name_with_the_models() -> None:
    told = entry(Facts(slots=1), name="coder")
    assert ("coder", "Qwen 3 Coder (coder)") == (told["id"], told["display_name"])


SMALL = Facts(slots=1, ctx_tokens=4096, vision=False, tools=False, thinking=False)
LARGE = Facts(slots=1, ctx_tokens=8192, vision=True, tools=True, thinking=True)
SILENT = Facts(slots=1)


@pytest.mark.parametrize(
    ("facts", "ctx_tokens", "vision", "tools", "thinking"),
    [
        ((LARGE,), 8192, True, True, True),
        ((SMALL,), 4096, False, False, False),
        ((LARGE, SMALL), 4096, False, False, False),
        ((SMALL, LARGE), 4096, False, False, False),
        ((LARGE, LARGE), 8192, True, True, True),
        ((LARGE, None), 8192, True, True, True),
        ((SILENT,), None, False, True, False),
        ((LARGE, SILENT), 8192, False, True, False),
    ],
)
def test_of_several_instances_the_smallest_and_the_least_is_promised(
    facts: tuple[Facts | None, ...], ctx_tokens: int | None, vision: bool, tools: bool, thinking: bool
) -> None:
    told = entry(*facts)
    can = told["capabilities"]
    assert (ctx_tokens, ctx_tokens) == (told["max_input_tokens"], told["max_tokens"])
    assert (vision, tools, thinking) == tuple(can[name]["supported"] for name in ("image_input", "tools", "thinking"))


@pytest.mark.parametrize("facts", [(), (None, None)])
def test_where_nothing_is_known_nothing_is_promised(facts: tuple[Facts | None, ...]) -> None:
    told = entry(*facts)
    assert (None, None, None) == (told["max_input_tokens"], told["max_tokens"], told["capabilities"])


def test_capabilities_have_every_key_that_the_messages_api_names() -> None:
    can = entry(LARGE)["capabilities"]
    for name in (
        "batch", "citations", "code_execution", "context_management", "effort", "image_input", "pdf_input",
        "server_tools", "structured_outputs", "thinking",
    ):  # fmt: skip
        assert isinstance(can[name]["supported"], bool), name


# ---------------------------------------------------------------- pages


def entries(count: int) -> list[Entry]:
    return [{"id": f"m{at}"} for at in range(1, count + 1)]


def page(count: int, limit: int, after_id: str | None = None, before_id: str | None = None) -> dict[str, Any]:
    return _page(entries(count), limit, after_id, before_id)


def ids(told: dict[str, Any]) -> list[str]:
    return [it["id"] for it in told["data"]]


@pytest.mark.parametrize(
    ("limit", "after_id", "before_id", "expected", "has_more"),
    [
        (20, None, None, ["m1", "m2", "m3", "m4", "m5"], False),
        (5, None, None, ["m1", "m2", "m3", "m4", "m5"], False),
        (4, None, None, ["m1", "m2", "m3", "m4"], True),
        (2, "m2", None, ["m3", "m4"], True),
        (2, "m3", None, ["m4", "m5"], False),
        (2, "m4", None, ["m5"], False),
        (2, "m5", None, [], False),
        (2, None, "m5", ["m3", "m4"], True),  # the ones right before it, in the list's order
        (2, None, "m3", ["m1", "m2"], False),
        (2, None, "m2", ["m1"], False),
        (2, None, "m1", [], False),
        (9, "m1", "m5", ["m2", "m3", "m4"], False),
        (9, "m4", "m2", [], False),
    ],
)
def test_a_page_is_what_stands_after_or_before_the_cursor(
    limit: int, after_id: str | None, before_id: str | None, expected: list[str], has_more: bool
) -> None:
    told = page(5, limit, after_id, before_id)
    assert (expected, has_more) == (ids(told), told["has_more"])
    ends = (expected[0], expected[-1]) if expected else (None, None)
    assert (*ends, "list") == (told["first_id"], told["last_id"], told["object"])


@pytest.mark.parametrize("cursor", ["after_id", "before_id"])
@pytest.mark.parametrize("id_", ["m9", "", "M1"])
def test_a_cursor_that_nobody_was_given_is_refused_by_its_name(cursor: str, id_: str) -> None:
    with pytest.raises(RequestInvalid, match=f"^{cursor}: "):
        _page(entries(5), 2, **{"after_id": None, "before_id": None, cursor: id_})


@steady
@given(count=st.integers(0, 9), limit=st.integers(1, 4))
def test_whoever_follows_last_id_sees_every_model_once_and_comes_to_an_end(count: int, limit: int) -> None:
    told = page(count, limit)
    seen = ids(told)
    while told["has_more"]:
        told = page(count, limit, after_id=told["last_id"])
        assert told["data"], "more was promised"
        seen += ids(told)
    assert [it["id"] for it in entries(count)] == seen


@steady
@given(count=st.integers(1, 9), limit=st.integers(1, 4))
def test_whoever_follows_first_id_sees_every_model_once_from_behind(count: int, limit: int) -> None:
    last = f"m{count}"
    told = page(count, limit, before_id=last)
    seen = [*ids(told), last]
    while told["has_more"]:
        told = page(count, limit, before_id=told["first_id"])
        assert told["data"], "more was promised"
        seen = ids(told) + seen
    assert [it["id"] for it in entries(count)] == seen


def test_a_page_may_be_as_large_as_the_hosted_apis() -> None:
    assert 1000 == MAX_LIMIT
