import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.translate.arguments import Arguments

steady = settings(derandomize=True, max_examples=500, deadline=None)
_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('"\\{}[]ab\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"\\{}x', max_size=4), inner, max_size=3),
    max_leaves=8,
)
_objects = st.dictionaries(st.text('"\\{}[]ä', max_size=4), _json, max_size=4)


def added(*pieces: str) -> Arguments:
    arguments = Arguments()
    for piece in pieces:
        arguments.add(piece)
    return arguments


@steady
@given(value=_objects, indent=st.none() | st.integers(0, 2))
def test_an_object_is_whole_at_its_last_bracket_and_not_before(value: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    arguments = Arguments()
    for at, letter in enumerate(text):
        assert not arguments.done, text[:at]
        arguments.add(letter)
    assert (True, False, True, text) == (arguments.done, arguments.broken, arguments.is_object(), arguments.text)
    arguments.add(" \n")
    assert arguments.is_object()
    arguments.add("}")
    assert (True, False) == (arguments.broken, arguments.is_object())


@steady
@given(text=st.text('{}[]"\\:1a, ', max_size=12), cut=st.integers(0, 12))
def test_any_text_is_an_object_exactly_when_json_says_so_in_any_cut(text: str, cut: int) -> None:
    try:
        expected = not text.strip() or isinstance(json.loads(text), dict)
    except ValueError:
        expected = False
    assert expected == added(text).is_object() == added(text[:cut], text[cut:]).is_object()
    states = [(it.begun, it.done, it.broken) for it in (added(text), added(text[:cut], text[cut:]))]
    assert states[0] == states[1]


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_nothing_is_an_object_without_fields(text: str) -> None:
    assert (True, False) == (added(text).is_object(), added(text).done)


@pytest.mark.parametrize("text", ["null", "[1]", '"x"', "7", " x", "}"])
def test_what_does_not_begin_as_an_object_is_broken_at_once(text: str) -> None:
    assert added(text).broken


def test_it_tells_its_state() -> None:
    told = [repr(added(text)) for text in ('{"a":[', "{}", "7")]
    assert [
        "Arguments(6 characters, depth 2)",
        "Arguments(2 characters, done)",
        "Arguments(1 characters, broken)",
    ] == told


def test_a_long_object_costs_its_length_once() -> None:
    """A file to write: each piece ends like code does, in a bracket inside a string."""
    begun_s = time.process_time()
    arguments = added('{"x":"')
    for _ in range(20_000):
        arguments.add("if (a) { b(); }\\n")
    arguments.add('"}')
    assert arguments.is_object()
    assert time.process_time() - begun_s < 3
