import pytest

from router.fleet.health import State
from tests.fleet import sample


@pytest.mark.parametrize(
    ("state", "slots", "busy", "serving", "free", "busy_share"),
    [
        (State.SERVING, 4, 0, True, 4, 0.0),
        (State.SERVING, 4, 1, True, 3, 0.25),
        (State.SERVING, 4, 4, True, 0, 1.0),
        (State.SERVING, 2, 3, True, 0, 1.5),  # its slots became fewer while it was busy
        (State.SERVING, 0, 0, False, 0, 1.0),  # nobody knows its slots yet
        (State.UNKNOWN, 4, 0, False, 0, 0.0),
        (State.LOADING, 4, 0, False, 0, 0.0),
        (State.EJECTED, 4, 2, False, 0, 0.5),
    ],
)
def test_a_row_says_what_a_new_call_could_have(
    state: State, slots: int, busy: int, *, serving: bool, free: int, busy_share: float
) -> None:
    row = sample.row("a", slots=slots, busy=busy, state=state)
    assert (serving, free, busy_share) == (row.serving, row.free, row.busy_share)


def test_the_rows_of_a_pool_come_in_the_files_order() -> None:
    view = sample.view(sample.row("b"), sample.row("a"), sample.row("c"))
    assert ["b", "a", "c"] == [row.instance.id for row in view.pool_rows("m")]


def test_a_pool_shows_its_own_rows_only() -> None:
    view = sample.fleet({"m": ["a", "b"], "n": ["b", "c"]}).view
    assert (["a", "b"], ["b", "c"]) == tuple([row.instance.id for row in view.pool_rows(pool)] for pool in ("m", "n"))
