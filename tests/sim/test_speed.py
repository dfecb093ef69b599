import pytest

from router.sim.speed import Speed


def test_prefill_is_as_fast_as_it_was_measured_at_both_ends() -> None:
    speed = Speed()
    assert 3500 == pytest.approx(100 / speed.prefill_s(0, 100), rel=0.01)
    assert 1200 == pytest.approx(100 / speed.prefill_s(65_536, 65_636), rel=0.01)


def test_reading_in_pieces_takes_as_long_as_at_once() -> None:
    speed = Speed()
    pieces = sum(speed.prefill_s(begin, begin + 2048) for begin in range(0, 65_536, 2048))
    assert speed.prefill_s(0, 65_536) == pytest.approx(pieces)


def test_more_sequences_and_longer_ones_take_longer() -> None:
    speed = Speed()
    assert 0.007 == speed.decode_s(1, 0.0) == speed.decode_s(0, 0.0)
    assert 0.007 + 3 * 0.0018 + 200_000 * 60e-9 == pytest.approx(speed.decode_s(4, 200_000))


def test_half_the_speed_takes_twice_the_time_but_for_copies() -> None:
    whole, half = Speed(), Speed(factor=0.5)
    assert 2 * whole.prefill_s(100, 900) == pytest.approx(half.prefill_s(100, 900))
    assert 2 * whole.decode_s(3, 1000) == pytest.approx(half.decode_s(3, 1000))
    assert 1.0 == whole.copy_s(61_000) == half.copy_s(61_000)
