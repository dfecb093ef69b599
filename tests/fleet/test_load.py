import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.fleet.load import HoldTimes, TokenSizes, retry_after_s

steady = settings(derandomize=True, max_examples=300, deadline=None)
times_s = st.floats(0.0, 3600.0)


# ---------------------------------------------------------------- how long a slot is held


def test_before_the_first_call_is_over_nothing_is_promised() -> None:
    assert HoldTimes().wait_s("m", ahead=0, slots=4) is None


def test_the_first_call_is_taken_at_its_word_and_each_later_one_for_a_tenth() -> None:
    times = HoldTimes()
    means = []
    for held_s in (10.0, 20.0, 0.0):
        times.observe("m", held_s)
        means.append(times.wait_s("m", ahead=0, slots=1))
    assert [10.0, 11.0, pytest.approx(9.9)] == means


@pytest.mark.parametrize(
    ("ahead", "slots", "wait_s"),
    [(0, 1, 10.0), (0, 4, 2.5), (3, 4, 10.0), (7, 4, 20.0), (1, 0, None), (1, -1, None)],
)
def test_the_slots_give_out_one_place_after_another(ahead: int, slots: int, wait_s: float | None) -> None:
    times = HoldTimes()
    times.observe("m", 10.0)
    assert wait_s == times.wait_s("m", ahead=ahead, slots=slots)


def test_each_pool_has_its_own_times() -> None:
    times = HoldTimes()
    times.observe("m", 10.0)
    times.observe("n", 2.0)
    assert [10.0, 2.0, None] == [times.wait_s(pool, ahead=0, slots=1) for pool in ("m", "n", "o")]
    assert "HoldTimes[m 10.00 s, n 2.00 s]" == repr(times)


def test_after_a_change_of_load_about_twenty_calls_tell_the_new_time() -> None:
    times = HoldTimes()
    times.observe("m", 100.0)
    for _ in range(20):
        times.observe("m", 1.0)
    assert 13.0 == pytest.approx(times.wait_s("m", ahead=0, slots=1), abs=0.1)


@steady
@given(held=st.lists(times_s, min_size=1, max_size=30))
def test_the_mean_stays_among_what_was_seen(held: list[float]) -> None:
    times = HoldTimes()
    for held_s in held:
        times.observe("m", held_s)
    mean_s = times.wait_s("m", ahead=0, slots=1)
    assert mean_s is not None
    assert min(held) - 1e-9 <= mean_s <= max(held) + 1e-9


# ---------------------------------------------------------------- how many bytes make a token


def test_before_anything_is_known_four_bytes_are_a_token() -> None:
    assert 1000.0 == TokenSizes().guess_tokens("m", 4000)


def test_each_call_moves_the_guess_by_a_tenth_for_its_own_pool() -> None:
    sizes = TokenSizes()
    sizes.observe("m", 6000, 1000)
    assert [1000.0, 1050.0] == [sizes.guess_tokens(pool, 4200) for pool in ("m", "n")]
    assert "TokenSizes[m 4.20]" == repr(sizes)


@pytest.mark.parametrize(("prompt_tokens", "guess"), [(0, 1000.0), (255, 1000.0), (256, 4000 / 103.6)])
def test_a_short_prompt_tells_nothing_since_its_json_outweighs_it(prompt_tokens: int, guess: float) -> None:
    sizes = TokenSizes()
    sizes.observe("m", 256_000, prompt_tokens)
    assert guess == pytest.approx(sizes.guess_tokens("m", 4000))


@steady
@given(body_bytes=st.integers(1, 10**8), prompt_tokens=st.integers(256, 10**6))
def test_what_is_always_the_same_is_guessed_right_in_the_end(body_bytes: int, prompt_tokens: int) -> None:
    sizes = TokenSizes()
    for _ in range(400):
        sizes.observe("m", body_bytes, prompt_tokens)
    assert prompt_tokens == pytest.approx(sizes.guess_tokens("m", body_bytes), rel=1e-3)


# ---------------------------------------------------------------- Retry-After


@pytest.mark.parametrize(
    ("wait_s", "seconds"),
    [(None, 5), (0.0, 1), (0.2, 1), (1.0, 1), (1.001, 2), (29.5, 30), (30.0, 30), (31.0, 30), (86400.0, 30)],
)
def test_a_client_is_told_to_come_back_in_1_to_30_whole_seconds(wait_s: float | None, seconds: int) -> None:
    assert seconds == retry_after_s(wait_s)


def test_what_is_told_when_nothing_is_known_is_the_callers_choice() -> None:
    assert [9, 2] == [retry_after_s(None, default_s=9), retry_after_s(1.5, default_s=9)]
