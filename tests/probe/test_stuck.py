"""Busy or stuck: slots that are busy for a minute while the count of decodes stands still, or nobody answers."""

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


def test_a_question_without_an_answer_is_no_movement() -> None:
    watch = StuckWatch()
    assert not watch.look(busy(7), 0.0)
    assert not watch.look(None, STUCK_S - 0.1)
    assert watch.look(None, STUCK_S)
    assert watch.look(busy(7), STUCK_S + 1)
    assert not watch.look(busy(8), STUCK_S + 2)


def test_who_never_answers_is_stuck_after_the_time() -> None:
    watch = StuckWatch()
    assert [False, False, True] == [
        watch.look(None, now_s) for now_s in (100.0, 100.0 + STUCK_S - 0.1, 100.0 + STUCK_S)
    ]


@pytest.mark.parametrize("pulse", [busy(None), Pulse(processing=0, decodes=7), busy(7)])
def test_any_answer_after_silence_is_movement_where_it_shows_nothing_else(pulse: Pulse) -> None:
    watch = StuckWatch()
    watch.look(None, 0.0)
    assert not watch.look(pulse, STUCK_S)
    assert not watch.look(None, 2 * STUCK_S - 0.1)


def test_a_token_is_movement() -> None:
    watch = StuckWatch()
    watch.look(None, 0.0)
    watch.moved(10.0)
    watch.moved(5.0)
    assert not watch.look(None, STUCK_S)
    assert watch.look(None, 10.0 + STUCK_S)


def test_a_token_before_the_first_look_begins_no_time() -> None:
    watch = StuckWatch()
    watch.moved(1.0)
    assert not watch.look(None, 1000.0)


def test_after_a_rest_silence_begins_anew() -> None:
    watch = StuckWatch()
    watch.look(None, 0.0)
    watch.rest()
    assert not watch.look(None, 3600.0)
