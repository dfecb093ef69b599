"""Counts that are remembered: of the same prompt in the same model, for a while."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.relay import counted as counted_room
from router.relay.counted import Counted

steady = settings(derandomize=True, max_examples=200, deadline=None)


def test_what_was_counted_is_known_and_nothing_else() -> None:
    counted = Counted()
    counted.put(counted.key("pool", "model", b"{}"), 7)
    assert 7 == counted.get(counted.key("pool", "model", b"{}"))
    others = [("other", "model", b"{}"), ("pool", "other", b"{}"), ("pool", None, b"{}"), ("pool", "model", b"{} ")]
    assert [None] * len(others) == [counted.get(counted.key(*other)) for other in others]


def test_no_tokens_at_all_are_a_count() -> None:
    counted = Counted()
    counted.put(counted.key("pool", None, b""), 0)
    assert 0 == counted.get(counted.key("pool", None, b""))


@steady
@given(
    st.lists(
        st.tuples(st.sampled_from(["p", "q"]), st.sampled_from([None, "m", "n"]), st.binary(max_size=3)), unique=True
    )
)
def test_each_prompt_has_a_key_of_its_own(asked: list[tuple[str, str | None, bytes]]) -> None:
    counted = Counted()
    for number, one in enumerate(asked):
        counted.put(counted.key(*one), number)
    assert list(range(len(asked))) == [counted.get(counted.key(*one)) for one in asked]


def test_the_one_that_was_not_asked_for_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted_room, "_MOST", 3)
    counted = Counted()
    one, two, three, four = (counted.key("p", None, body) for body in (b"1", b"2", b"3", b"4"))
    for key in (one, two, three):
        counted.put(key, 1)
    assert 1 == counted.get(one)
    counted.put(four, 4)
    assert [1, None, 1, 4] == [counted.get(key) for key in (one, two, three, four)]
    assert "Counted[3]" == repr(counted)


def test_a_reload_forgets_everything() -> None:
    counted = Counted()
    key = counted.key("p", "m", b"{}")
    counted.put(key, 1)
    counted.clear()
    assert (None, "Counted[0]") == (counted.get(key), repr(counted))
