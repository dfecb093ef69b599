"""Busy or stuck: only slots that are busy while the count of decodes stands still for a minute are stuck."""

import pytest

from router.probe.pulse import Pulse
from router.probe.stuck import STUCK_S, StuckWatch


def busy(decodes: int | None) -> Pulse:
    return Pulse(processing=1, decodes=decodes)


def test_slots_that_are_busy_while_nothing_is_decoded_are_stuck_after_the_time() -> None:
    watch = StuckWatch()
    assert not watch.look(busy(7), 0.0)
    assert not watch.look(busy(7), STUCK_S - 0.1)
    assert watch.look(busy(7), STUCK_S)
    assert watch.look(busy(7), STUCK_S + 2)


def test_each_decode_starts_the_time_anew() -> None:
    watch = StuckWatch()
    for turn in range(5):
        assert not watch.look(busy(turn), turn * (STUCK_S - 1))
    assert not watch.look(busy(4), 4 * (STUCK_S - 1) + STUCK_S - 0.1)
    assert watch.look(busy(4), 4 * (STUCK_S - 1) + STUCK_S)


def test_a_restart_that_counts_from_the_beginning_is_a_sign_of_life() -> None:
    watch = StuckWatch()
    watch.look(busy(1000), 0.0)
    assert not watch.look(busy(3), STUCK_S)


@pytest.mark.parametrize("restful", [Pulse(processing=0, decodes=7), Pulse(processing=0, decodes=None)])
def test_idle_slots_are_never_stuck(restful: Pulse) -> None:
    watch = StuckWatch()
    assert not any(watch.look(restful, turn * STUCK_S) for turn in range(4))


def test_the_time_begins_when_the_slots_become_busy() -> None:
    watch = StuckWatch()
    assert not watch.look(Pulse(processing=0, decodes=7), 0.0)
    assert not watch.look(Pulse(processing=0, decodes=7), 1000.0)
    assert not watch.look(busy(7), 1000.0 + STUCK_S - 0.1)
    assert watch.look(busy(7), 1000.0 + STUCK_S)


def test_an_instance_that_tells_no_count_is_never_found_stuck() -> None:
    watch = StuckWatch()
    assert not any(watch.look(busy(None), turn * STUCK_S) for turn in range(4))


def test_after_a_rest_the_time_begins_anew_though_the_count_is_the_same() -> None:
    watch = StuckWatch()
    watch.look(busy(7), 0.0)
    watch.rest()
    assert not watch.look(busy(7), 3600.0)
    assert watch.look(busy(7), 3600.0 + STUCK_S)
