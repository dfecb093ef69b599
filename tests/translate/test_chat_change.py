import json
from typing import Any

import msgspec
import pytest

from router.translate.chat_change import Change, fits, is_part, rewritten
from router.translate.chat_chunk import NamedCall, read_chunk
from router.wire.openai import FunctionPart

CHUNK: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "m", "x": [1e400]}
FIRST: dict[str, Any] = {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}
LATER: dict[str, Any] = {"index": 0, "function": {"arguments": "{"}}


def data_of(delta: object, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}
    return json.dumps({**CHUNK, "choices": [choice], **more}).replace("Infinity", "1e400").encode()


def told(data: bytes, *changes: Change) -> Any:
    out = rewritten(data, read_chunk(data), list(changes), completion_id="chatcmpl-1", created_s=7)
    return json.loads(out) if out else None


def test_what_nobody_changes_stays() -> None:
    data = data_of({"role": "assistant", "content": "a", "y": {"z": 1}})
    assert json.loads(data) == told(data, Change(None))


def test_a_text_that_is_none_goes_and_so_does_a_choice_that_had_nothing_else() -> None:
    assert {"role": "assistant"} == told(data_of({"role": "assistant", "content": "a"}), Change(None, mute=True))[
        "choices"
    ][0]["delta"]
    assert told(data_of({"content": "a"}), Change(None, mute=True)) is None
    assert [{}] == [it["delta"] for it in told(data_of({"content": "a"}), Change("stop", mute=True))["choices"]]
    used = told(data_of({"content": "a"}, usage={"prompt_tokens": 1}), Change(None, mute=True))
    assert ([], {"prompt_tokens": 1}) == (used["choices"], used["usage"])


def test_calls_are_changed_left_out_and_added() -> None:
    data = data_of({"tool_calls": [{**LATER, "index": 4, "id": "u", "s": 1}, LATER]})
    change = Change(None, parts=[LATER, None], more=[FIRST])
    assert [{**LATER, "s": 1}, FIRST] == told(data, change)["choices"][0]["delta"]["tool_calls"]
    assert "tool_calls" not in told(data_of({"tool_calls": []}), Change(None, parts=[]))["choices"][0]["delta"]


@pytest.mark.parametrize("name", ["id", "object", "created", "choices"])
def test_what_fits_has_every_field(name: str) -> None:
    data = data_of({})
    assert fits(data)
    lacking = {key: value for key, value in msgspec.json.decode(data.replace(b"1e400", b"1")).items() if key != name}
    assert not fits(msgspec.json.encode(lacking))


@pytest.mark.parametrize("name", ["index", "delta", "finish_reason"])
def test_so_has_each_of_its_choices(name: str) -> None:
    assert not fits(data_of({}).replace(f'"{name}"'.encode(), b'"another"'))


@pytest.mark.parametrize(
    ("part", "changes", "exact"),
    [
        (FIRST, {}, True), (FIRST, {"index": 1}, False), (FIRST, {"index": None}, False), (FIRST, {"id": "u"}, False),
        (FIRST, {"type": None}, False), (FIRST, {"function": None}, False),
        (FIRST, {"function": FunctionPart(name="f", arguments={})}, False),
        (LATER, {"id": None, "function": FunctionPart(arguments="{")}, True),
        (LATER, {"function": FunctionPart(arguments="{")}, False),
        (LATER, {"id": None, "function": FunctionPart(name="f", arguments="{")}, False),
        (None, {}, False),
    ],
)  # fmt: skip
def test_a_piece_is_as_it_has_to_be_or_not(part: dict[str, Any] | None, changes: dict[str, Any], exact: bool) -> None:
    came = NamedCall(index=0, id="t", type="function", function=FunctionPart(name="f", arguments=""))
    assert exact is is_part(msgspec.structs.replace(came, **changes), part)


def test_a_change_that_changes_nothing_is_none() -> None:
    (choice,) = read_chunk(data_of({})).choices or ()
    assert not Change(None).of(choice)
    for change in (Change("stop"), Change(None, parts=[]), Change(None, more=[FIRST]), Change(None, mute=True)):
        assert change.of(choice)
