import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from router.observe.tally import Count, Counter, Histogram, Tally

steady = settings(derandomize=True, max_examples=200, deadline=None)


@pytest.mark.parametrize(
    ("values", "buckets", "total"),
    [
        ([], [("1.0", 0), ("2.0", 0), ("+Inf", 0)], 0),
        ([0.5], [("1.0", 1), ("2.0", 1), ("+Inf", 1)], 0.5),
        ([1.0], [("1.0", 1), ("2.0", 1), ("+Inf", 1)], 1.0),  # a bucket holds its bound
        ([1.5, 2.0], [("1.0", 0), ("2.0", 2), ("+Inf", 2)], 3.5),
        ([9.0], [("1.0", 0), ("2.0", 0), ("+Inf", 1)], 9.0),
        ([-1.0, 0.0], [("1.0", 2), ("2.0", 2), ("+Inf", 2)], -1.0),
    ],
)
def test_a_value_is_counted_in_every_bucket_that_it_fits(
    values: list[float], buckets: list[tuple[str, float]], total: float
) -> None:
    tally = Tally((1, 2))
    for value in values:
        tally.observe(value)
    assert (buckets, total) == (tally.buckets(), tally.sum)


@steady
@given(values=st.lists(st.floats(0, 20), max_size=20))
def test_buckets_count_what_is_at_most_their_bound(values: list[float]) -> None:
    tally = Tally((0.5, 1, 5))
    for value in values:
        tally.observe(value)
    expected = [float(sum(value <= bound for value in values)) for bound in (0.5, 1, 5, float("inf"))]
    assert expected == [count for _, count in tally.buckets()]


def test_one_combination_of_labels_is_one_series() -> None:
    counter, histogram = Counter("c", "C.", ("a",)), Histogram("h", "H.", ("a",), (1,))
    assert counter.series(("x",)) is counter.series(("x",))
    assert counter.series(("x",)) is not counter.series(("y",))
    assert histogram.series(("x",)) is histogram.series(("x",))
    assert histogram.series(("x",)) is not histogram.series(("y",))


def test_a_count_grows_by_one_or_by_what_is_said() -> None:
    count = Count()
    count.inc()
    count.inc(2.5)
    assert 3.5 == count.value


def test_both_are_exposed_as_the_client_library_exposes_its_own() -> None:
    registry = CollectorRegistry()
    counter, histogram = (
        Counter("calls", "All calls.", ("who",)),
        Histogram("wait_seconds", "Waiting.", ("who",), (0.5, 1)),
    )
    registry.register(counter)
    registry.register(histogram)
    counter.series(('a"b',)).inc(3)
    histogram.series(("x",)).observe(0.75)
    assert (
        "# HELP calls_total All calls.\n"
        "# TYPE calls_total counter\n"
        'calls_total{who="a\\"b"} 3.0\n'
        "# HELP wait_seconds Waiting.\n"
        "# TYPE wait_seconds histogram\n"
        'wait_seconds_bucket{le="0.5",who="x"} 0.0\n'
        'wait_seconds_bucket{le="1.0",who="x"} 1.0\n'
        'wait_seconds_bucket{le="+Inf",who="x"} 1.0\n'
        'wait_seconds_count{who="x"} 1.0\n'
        'wait_seconds_sum{who="x"} 0.75\n'
    ) == generate_latest(registry).decode()  # fmt: skip
