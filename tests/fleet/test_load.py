import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.fleet.load import HoldTimes, Speed, TokenSizes, retry_after_s

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


# ---------------------------------------------------------------- how fast an instance is


def test_before_an_instance_has_answered_its_speed_is_not_known() -> None:
    assert (None, None) == (Speed().token_s, Speed().written_s)
    assert "Speed[reads unknown, 0.0 ms a token written]" == repr(Speed())


@pytest.mark.parametrize(
    ("start", "end", "work"),
    [
        (0, 0, 0.0),
        (0, 1024, 1024 * (1 + 1 / 64)),
        (0, 32_768, 32_768 * 1.5),  # the last of them takes twice as long as the first
        (32_768, 65_536, 32_768 * 2.5),
        (5000, 4000, 0.0),  # more was warm than it has
    ],
)
def test_a_token_takes_the_longer_the_more_was_read_before_it(start: int, end: int, work: float) -> None:
    assert work == Speed.work(start, end)


@steady
@given(st.lists(st.integers(0, 200_000), min_size=3, max_size=3))
def test_a_prompt_that_is_read_in_two_parts_is_as_much_work_as_in_one(at: list[int]) -> None:
    start, middle, end = sorted(at)
    assert Speed.work(start, end) == pytest.approx(Speed.work(start, middle) + Speed.work(middle, end))


def test_the_first_answer_is_taken_at_its_word_and_each_later_one_for_a_fifth() -> None:
    speed, read, written = Speed(), [], []
    for took_s in (1.0, 2.0, 0.5):
        speed.observe_read(0, 4096, took_s * Speed.work(0, 4096) / 1024)
        speed.observe_written(100, took_s)
        read.append(1024 * (speed.token_s or 0.0))
        written.append(100 * (speed.written_s or 0.0))
    assert [pytest.approx(1.0), pytest.approx(1.2), pytest.approx(1.06)] == read
    assert [pytest.approx(1.0), pytest.approx(1.2), pytest.approx(1.06)] == written
    assert "Speed[reads 966 tokens/s, 10.6 ms a token written]" == repr(speed)


@pytest.mark.parametrize(("tokens", "share"), [(3855, 1.0), (10_000, 1.0), (1933, 0.5), (512, 0.125)])
def test_a_short_reading_counts_for_less(tokens: int, share: float) -> None:
    speed = Speed()
    work = Speed.work(0, tokens)
    speed.observe_read(0, tokens, work)
    speed.observe_read(0, tokens, 2.0 * work)
    assert 1.0 + 0.2 * share == pytest.approx(speed.token_s, rel=0.01)


@pytest.mark.parametrize(("tokens", "took_s", "learns"), [(256, 1.0, True), (255, 1.0, False), (5000, 0.0, False)])
def test_a_short_reading_and_one_that_took_no_time_teach_nothing(tokens: int, took_s: float, learns: bool) -> None:
    speed = Speed()
    speed.observe_read(1000, 1000 + tokens, took_s)
    assert learns is (speed.token_s is not None)


@pytest.mark.parametrize(
    ("tokens", "took_s", "learns"), [(8, 1.0, True), (7, 1.0, False), (-1, 1.0, False), (50, 0, False)]
)
def test_a_short_answer_and_one_that_took_no_time_teach_nothing(tokens: int, took_s: float, learns: bool) -> None:
    speed = Speed()
    speed.observe_written(tokens, took_s)
    assert learns is (speed.written_s is not None)


@steady
@given(token_s=st.floats(1e-6, 1.0), start=st.integers(0, 100_000), count=st.integers(256, 100_000))
def test_a_constant_speed_is_learned_whatever_was_warm(token_s: float, start: int, count: int) -> None:
    speed = Speed()
    for _ in range(3):
        speed.observe_read(start, start + count, token_s * Speed.work(start, start + count))
    assert token_s == pytest.approx(speed.token_s)


# ---------------------------------------------------------------- Retry-After


@pytest.mark.parametrize(
    ("wait_s", "seconds"),
    [(None, 5), (0.0, 1), (0.2, 1), (1.0, 1), (1.001, 2), (29.5, 30), (30.0, 30), (31.0, 30), (86400.0, 30)],
)
def test_a_client_is_told_to_come_back_in_1_to_30_whole_seconds(wait_s: float | None, seconds: int) -> None:
    assert seconds == retry_after_s(wait_s)


def test_what_is_told_when_nothing_is_known_is_the_callers_choice() -> None:
    assert [9, 2] == [retry_after_s(None, default_s=9), retry_after_s(1.5, default_s=9)]
