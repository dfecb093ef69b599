import json
from typing import Any

import pytest

from router.errors import RequestInvalid
from router.wire.anthropic import decode_messages
from router.wire.params import (
    Sampling,
    Thinking,
    ToolChoice,
    read_output,
    read_sampling,
    read_stop,
    read_thinking,
    read_tool_choice,
)
from router.wire.tools import Tool, Toolbox

BOX = Toolbox((Tool("A", b'""', b"{}"),))


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (None, None),
        ({"type": "auto"}, ToolChoice("auto")),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("any", parallel=False)),
        ({"type": "tool", "name": "A"}, ToolChoice("tool", "A")),
        ({"type": "none"}, ToolChoice("none")),
    ],
)
def test_a_tool_choice_is_read(sent: Any, found: ToolChoice | None) -> None:
    assert found == read_tool_choice(raw(sent), BOX)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"type": "tool"}, r"^tool_choice\.name: field required"),
        ({"type": "tool", "name": "B"}, r"^tool_choice\.name: tool 'B' not found in provided tools$"),
        (
            {"type": "required"},
            r"""^tool_choice\.type: must not be 'required'; one of "auto", "any", "tool", "none"$""",
        ),
        ({}, r'^tool_choice\.type: field required; one of "auto", "any", "tool", "none"$'),
        ("auto", r"^tool_choice: "),
    ],
)
def test_a_wrong_tool_choice_is_refused(sent: Any, said: str) -> None:
    with pytest.raises(RequestInvalid, match=said):
        read_tool_choice(raw(sent), BOX)


def test_nobody_can_be_made_to_call_one_of_no_tools() -> None:
    with pytest.raises(RequestInvalid, match=r"^tool_choice: may only be specified while providing tools$"):
        read_tool_choice(b'{"type":"any"}', Toolbox())
    assert ToolChoice("auto") == read_tool_choice(b'{"type":"auto"}', Toolbox())


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (None, None),
        ({"type": "disabled"}, Thinking("disabled")),
        ({"type": "adaptive", "display": "omitted"}, Thinking("adaptive", None, omitted=True)),
        ({"type": "adaptive", "display": "updates"}, Thinking("adaptive")),
        ({"type": "enabled", "budget_tokens": 1024, "display": "summarized"}, Thinking("enabled", 1024)),
        ({"type": "between_tools"}, Thinking("between_tools")),
    ],
)
def test_thinking_is_read(sent: Any, found: Thinking | None) -> None:
    assert found == read_thinking(raw(sent))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"type": "enabled"}, r"^thinking\.budget_tokens: field required"),
        ({"type": "enabled", "budget_tokens": 1023}, r"^thinking\.budget_tokens: .*greater than or equal to 1024$"),
        ({"type": "enabled", "budget_tokens": "a"}, r"^thinking\.budget_tokens: "),
        (
            {"type": "deep"},
            r"""^thinking\.type: must not be 'deep'; one of "disabled", "adaptive", "enabled", "between_tools"$""",
        ),
        (True, r"^thinking: "),
    ],
)
def test_wrong_thinking_is_refused(sent: Any, said: str) -> None:
    with pytest.raises(RequestInvalid, match=said):
        read_thinking(raw(sent))


def test_effort_and_schema_are_read_each_on_its_own() -> None:
    schema = {"type": "json_schema", "schema": {"type": "object"}}
    assert ("xhigh", None) == read_output(b'{"effort":"xhigh","task_budget":1}')
    assert (None, b'{"type": "object"}') == read_output(raw({"format": schema, "effort": None}))
    assert (None, None) == read_output(b"{}") == read_output(b"null") == read_output(b"")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (
            {"effort": "minimal"},
            r"""^output_config\.effort: must not be 'minimal'; one of "low", "medium", "high", "xhigh", "max"$""",
        ),
        (
            {"format": {"type": "json_object"}},
            r"""^output_config\.format\.type: must not be 'json_object'; it can only be "json_schema"$""",
        ),
        ({"format": {"type": "json_schema"}}, r"^output_config\.format\.schema: field required"),
        ({"format": {"type": "json_schema", "schema": "x"}}, r"^output_config\.format\.schema: must be an object$"),
    ],
)
def test_a_wrong_output_config_is_refused(sent: Any, said: str) -> None:
    with pytest.raises(RequestInvalid, match=said):
        read_output(raw(sent))


def test_stop_sequences_are_read() -> None:
    assert ("a", "\n") == read_stop(b'["a","\\n"]')
    assert () == read_stop(b"null") == read_stop(b"[]") == read_stop(b"")


@pytest.mark.parametrize("sent", ["a", [1], [""], [None]])
def test_stop_sequences_that_are_not_texts_are_refused(sent: Any) -> None:
    with pytest.raises(RequestInvalid, match=r"^stop_sequences"):
        read_stop(raw(sent))


def sampling(**fields: Any) -> Sampling:
    return read_sampling(decode_messages(raw({"model": "m", "messages": [{"role": "user", "content": "a"}]} | fields)))


def test_numbers_for_sampling_stay_as_they_were_written_in_any_range() -> None:
    assert Sampling(b"2.0", b"1", b"40") == sampling(temperature=2.0, top_p=1, top_k=40)
    assert Sampling(b"-1") == sampling(temperature=-1, top_p=None)
    assert Sampling() == sampling()


@pytest.mark.parametrize("fields", [{"temperature": "0.5"}, {"top_p": [1]}, {"top_k": 1.5}, {"top_k": True}])
def test_what_is_no_number_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestInvalid, match=f"^{next(iter(fields))}: "):
        sampling(**fields)
