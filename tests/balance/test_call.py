import msgspec
import pytest

from router.balance.call import Call


def test_a_call_of_which_only_the_conversation_is_known_is_placed_by_nothing_else() -> None:
    call = Call(pool="m", session=7)
    assert (None, True, 0.0, frozenset(), False, False, {}) == (
        call.chain,
        call.streams,
        call.arrived_s,
        call.excluded,
        call.begins,
        call.ends,
        call.memo,
    )


def test_a_call_does_not_change_so_that_who_waits_can_be_asked_about_again() -> None:
    call = Call(pool="m", session=7)
    with pytest.raises(AttributeError):
        call.session = 8  # type: ignore[misc]  # that is the test
    assert Call(pool="m", session=7, excluded=frozenset({"a"})) == msgspec.structs.replace(
        call, excluded=frozenset({"a"})
    )


def test_what_is_remembered_of_a_call_does_not_make_it_another() -> None:
    one, other = Call(pool="m", session=7), Call(pool="m", session=7)
    one.memo["a"] = 1
    assert (one, hash(one)) == (other, hash(other))
    assert {} == other.memo
    for name, value in (("pool", "n"), ("session", 8), ("streams", False), ("arrived_s", 1.0), ("ends", True)):
        assert one != msgspec.structs.replace(one, **{name: value})
    assert one != "m"
