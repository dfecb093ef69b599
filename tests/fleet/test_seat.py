import pytest

from router.fleet.closing import Arrival, Closing
from router.fleet.fleet import Asked
from router.fleet.health import Health
from router.fleet.seat import Seat
from tests.fleet import sample


@pytest.mark.parametrize(("listed", "slots"), [(None, 0), (3, 3)])
def test_a_new_seat_knows_only_what_the_registry_says(listed: int | None, slots: int) -> None:
    seat = Seat(sample.instance("a", listed))
    assert (Health(), None, slots, 0, 0) == (
        seat.row.health,
        seat.row.facts,
        seat.row.slots,
        seat.row.busy,
        seat.row.closing,
    )
    assert ([], None) == (seat.closing, seat.model)


def test_a_seat_that_is_not_known_to_serve_takes_no_call_however_many_slots_it_has() -> None:
    assert 0 == Seat(sample.instance("a", 3)).row.free


@pytest.mark.parametrize(
    ("busy", "closing", "in_use"),
    [(0, 0, False), (1, 0, True), (0, 1, True), (2, 1, True)],
)
def test_a_seat_is_in_use_while_a_call_of_ours_runs_there_or_may(busy: int, closing: int, in_use: bool) -> None:
    seat = Seat(sample.instance("a", 4))
    seat.row = sample.row("a", busy=busy)
    seat.closing = [Closing(1.0, Arrival())] * closing
    assert in_use is seat.in_use


def test_what_is_closing_at_one_seat_is_not_at_another() -> None:
    one, two = Seat(sample.instance("a")), Seat(sample.instance("a"))
    one.closing.append(Closing(1.0, Arrival()))
    assert (True, False) == (one.in_use, two.in_use)


def test_its_repr_is_a_line_for_an_operator() -> None:
    seat = Seat(sample.instance("a", 2))
    seat.row = sample.row("a", busy=2)
    assert "Seat(a, serving, 2 busy, 0 closing)" == repr(seat)


def test_notes_about_a_moment_do_not_change() -> None:
    closing, asked = Closing(1.0, Arrival()), Asked(at_s=3.0)
    with pytest.raises(AttributeError):
        closing.closed_s = 2.0  # type: ignore[misc]  # that is the point
    with pytest.raises(AttributeError):
        asked.at_s = 2.0  # type: ignore[misc]
