"""A histogram and a counter that cost a few tenths of a microsecond to write; they are rendered when somebody scrapes.

prometheus-client's own take about a microsecond for each observation, and a call makes eight. The exposition stays its.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString  # how the format writes a bound

Labels = tuple[str, ...]


class Tally:
    """One series of a histogram: how many observations fell into each bucket, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value; a bucket holds what is at most its bound."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, as the exposition format wants them."""
        total = 0
        rows = []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            rows.append((str(floatToGoString(bound)), float(total)))  # type: ignore[no-untyped-call]
        return rows

    @property
    def sum(self) -> float:
        """The sum of all values."""
        return self._sum


class Histogram:
    """A histogram with labels; `series` resolves them once, and is kept by whoever writes often."""

    def __init__(self, name: str, documentation: str, labels: Labels, bounds: Sequence[float]) -> None:
        self.name = name
        self._documentation = documentation
        self._labels = labels
        self._bounds = bounds
        self._series: dict[Labels, Tally] = {}

    def series(self, labels: Labels) -> Tally:
        """The tally of one combination of label values."""
        return self._series.setdefault(labels, Tally(self._bounds))

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """For the registry."""
        family = HistogramMetricFamily(self.name, self._documentation, labels=self._labels)
        for labels, tally in self._series.items():
            family.add_metric(labels, buckets=tally.buckets(), sum_value=tally.sum)
        yield family


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add; never less than 0."""
        self.value += amount


class Counter:
    """A counter with labels."""

    def __init__(self, name: str, documentation: str, labels: Labels) -> None:
        self.name = name
        self._documentation = documentation
        self._labels = labels
        self._series: dict[Labels, Count] = {}

    def series(self, labels: Labels) -> Count:
        """The count of one combination of label values."""
        return self._series.setdefault(labels, Count())

    def collect(self) -> Iterable[CounterMetricFamily]:
        """For the registry."""
        family = CounterMetricFamily(self.name, self._documentation, labels=self._labels)
        for labels, count in self._series.items():
            family.add_metric(labels, count.value)
        yield family
