import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.ids import for_client, for_instance

LEGAL = re.compile(r"toolu_[a-zA-Z0-9_-]+")
near_misses = st.lists(st.sampled_from(["toolu_", "hex_", "call_", "41", "6a", "é", "a", "."]), min_size=1).map("".join)
upstream_ids = st.one_of(st.text(min_size=1), near_misses)


@given(upstream_ids)
def test_an_instance_gets_back_the_id_that_it_chose(upstream_id: str) -> None:
    assert upstream_id == for_instance(for_client(upstream_id, "toolu_none"))


@given(upstream_ids)
def test_a_client_always_sees_a_legal_id(upstream_id: str) -> None:
    assert LEGAL.fullmatch(for_client(upstream_id, "toolu_none"))


@given(st.one_of(st.text(), near_misses, near_misses.map("toolu_hex_".__add__)))
def test_reading_any_client_id_twice_gives_the_same_and_never_nothing(client_id: str) -> None:
    assert for_instance(client_id) == for_instance(client_id)
    assert bool(client_id) == bool(for_instance(client_id))


@given(near_misses.map("toolu_".__add__))
def test_an_id_of_ours_is_written_back_the_same(client_id: str) -> None:
    found = for_instance(client_id)
    assert found == client_id or client_id == for_client(found, "toolu_none")


def test_a_call_without_an_id_gets_the_fallback() -> None:
    assert "toolu_7" == for_client("", "toolu_7")


@pytest.mark.parametrize(
    ("upstream_id", "client_id"),
    [
        ("call_abc", "toolu_call_abc"),
        ("J9xQ", "toolu_J9xQ"),
        ("functions.Bash:0", "toolu_hex_66756e6374696f6e732e426173683a30"),
        ("toolu_01", "toolu_hex_746f6f6c755f3031"),
        ("hex_1", "toolu_hex_6865785f31"),
    ],
)
def test_the_table_of_the_module(upstream_id: str, client_id: str) -> None:
    assert client_id == for_client(upstream_id, "toolu_none")


@pytest.mark.parametrize(
    ("client_id", "instance_id"),
    [("call_1", "call_1"), ("toolu_", "toolu_"), ("toolu_hex_zz", "toolu_hex_zz"), ("toolu_01ABC", "01ABC"), ("", "")],
)
def test_ids_of_others_are_kept_or_shortened_alike_each_time(client_id: str, instance_id: str) -> None:
    assert instance_id == for_instance(client_id)
