import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.units import (
    Rate,
    duration_text,
    rate_text,
    read_duration,
    read_rate,
    read_size,
    size_text,
    size_words,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("20s", 20.0), ("1.5m", 90.0), ("1h", 3600.0), ("2d", 172800.0), ("0s", 0.0), ("20 s", 20.0)],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert seconds == read_duration(text)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("20", "such as 20s"),
        ("1.5", "such as 1.5s"),
        ("-5s", "is negative"),
        ("5 fortnights", "unknown unit fortnights"),
        ("20S", "write s"),
        ("1h30m", "one number and one unit"),
        ("1:30", "one number and one unit"),
        ("1e3s", "one number and one unit"),
        ("", "one number and one unit"),
        ("2 years", "unknown unit years"),
        ("9999d", "longer than a year"),
        ("9" * 400 + "s", "plain number"),
        ("1_000s", "plain number"),
        ("٣s", "one number and one unit"),
    ],
)
def test_what_is_no_duration_is_told_what_to_write(text: str, phrase: str) -> None:
    with pytest.raises(ValueError, match="; ") as caught:
        read_duration(text)
    assert phrase in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("64KiB", 65536), ("32MiB", 33554432), ("10MB", 10_000_000), ("1.5kB", 1500), ("1GiB", 2**30)],
)
def test_a_size_is_read_as_bytes(text: str, size: int) -> None:
    assert size == read_size(text)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [("32", "such as 32MiB"), ("32mib", "write MiB"), ("32M", "unknown unit M"), ("9000000GiB", "larger than any")],
)
def test_what_is_no_size_is_told_what_to_write(text: str, phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase):
        read_size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("600/min", Rate(count=600, period_s=60.0)),
        ("10 / s", Rate(count=10, period_s=1.0)),
        ("5000/hour", Rate(count=5000, period_s=3600.0)),
        ("1/d", Rate(count=1, period_s=86400.0)),
    ],
)
def test_a_rate_is_read_as_a_count_and_a_period(text: str, rate: Rate) -> None:
    assert rate == read_rate(text)


@pytest.mark.parametrize(("text", "phrase"), [("600", "such as 600/min"), ("600/fortnight", "s, min, h or day")])
def test_what_is_no_rate_is_told_what_to_write(text: str, phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase):
        read_rate(text)


@given(st.integers(min_value=0, max_value=10**9).map(lambda milliseconds: milliseconds / 1000))
def test_a_written_duration_is_read_back_as_the_same_seconds(seconds: float) -> None:
    assert seconds == pytest.approx(read_duration(duration_text(seconds)), rel=1e-12)


@given(st.integers(min_value=0, max_value=2**50))
def test_a_written_size_is_read_back_as_the_same_bytes(size_bytes: int) -> None:
    assert size_bytes == read_size(size_text(size_bytes))


@given(st.integers(min_value=0, max_value=10**14), st.sampled_from([1.0, 60.0, 3600.0, 86400.0]))
def test_a_written_rate_is_read_back_as_the_same_rate(count: int, period_s: float) -> None:
    rate = Rate(count=count, period_s=period_s)
    assert rate == read_rate(rate_text(rate))


@given(st.text())
def test_no_text_makes_a_reader_fail_in_another_way(text: str) -> None:
    for read in (read_duration, read_size, read_rate):
        with contextlib.suppress(ValueError):
            read(text)


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (64 * 1024, "64 KiB"),
        (32 * 2**20, "32 MiB"),
        (32 * 2**20 + 1, "32 MiB"),
        (10_000_000, "9.5 MiB"),
        (3 * 2**30, "3 GiB"),
        (2**50, "1048576 GiB"),
        (2**20 - 1, "1024 KiB"),
    ],
)
def test_a_size_in_a_sentence_is_short(size_bytes: int, words: str) -> None:
    assert words == size_words(size_bytes)
