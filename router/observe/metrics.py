"""Every metric of the router, in one table. Base units; labels from closed sets only, never a caller's text."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from router.fleet.health import State
from router.fleet.view import FleetView
from router.observe.tally import Count, Counter, Histogram
from router.wire.record import CallRecord

# From a cached short turn on a GPU (50 ms) to a cold prefill of a whole context on a CPU (minutes).
TTFT_BUCKETS_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120)
# From speculative decoding (5 ms) to a stream that shares its server with a long prefill (1 s).
ITL_BUCKETS_S = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.35, 0.5, 1)
QUEUE_BUCKETS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
DURATION_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

_CALL = ("endpoint", "model", "instance")


# Types of the Messages API that need the hosted side. A client may write any word there, and a label may not be that.
KNOWN_BLOCKS = frozenset(
    [
        "redacted_thinking", "server_tool_use", "web_search_tool_result", "web_fetch_tool_result",
        "code_execution_tool_result", "bash_code_execution_tool_result", "text_editor_code_execution_tool_result",
        "tool_search_tool_result", "container_upload", "mcp_tool_use", "mcp_tool_result", "compaction",
    ]
)  # fmt: skip


class _Series:
    """What one (endpoint, pool, instance) writes to, resolved once: looking labels up costs more than writing."""

    __slots__ = ("cached", "duration", "input", "itl", "outcomes", "output", "queue", "ttft")

    def __init__(self, metrics: "Metrics", labels: tuple[str, str, str]) -> None:
        self.ttft = metrics.ttft.series(labels)
        self.itl = metrics.itl.series(labels)
        self.queue = metrics.queue.series(labels)
        self.duration = metrics.duration.series(labels)
        self.input = metrics.tokens.series((*labels, "input"))
        self.cached = metrics.tokens.series((*labels, "cached"))
        self.output = metrics.tokens.series((*labels, "output"))
        self.outcomes: dict[tuple[str, str], Count] = {}


class Metrics:
    """The table, in a registry of its own, so that two routers in one process do not meet."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._series: dict[tuple[str, str, str], _Series] = {}
        self.calls = Counter("llama_router_calls", "Calls that are over.", (*_CALL, "outcome", "cause"))
        self.ttft = Histogram(
            "llama_router_ttft_seconds",
            "From the last byte of a request to the first event of its answer.",
            _CALL,
            TTFT_BUCKETS_S,
        )
        self.itl = Histogram(
            "llama_router_itl_seconds",
            "Mean time between two token events, one observation a streamed call.",
            _CALL,
            ITL_BUCKETS_S,
        )
        self.queue = Histogram(
            "llama_router_queue_seconds",
            "From the last byte of a request to its lease on a slot.",
            _CALL,
            QUEUE_BUCKETS_S,
        )
        self.duration = Histogram(
            "llama_router_call_seconds",
            "From the last byte of a request to the end of its answer.",
            _CALL,
            DURATION_BUCKETS_S,
        )
        self.tokens = Counter(
            "llama_router_tokens",
            "Tokens by kind: input (computed), cached (taken from the KV cache), output.",
            (*_CALL, "kind"),
        )
        self.ways = Counter(
            "llama_router_ways", "Calls by the way they went: native, translated or exact.", ("endpoint", "way")
        )
        self.dropped = Counter(
            "llama_router_dropped_blocks",
            "Calls with content blocks that no model here knows and that were left out, by their type.",
            ("type",),
        )
        self.attempts_failed = Counter(
            "llama_router_attempts_failed", "Attempts that failed on an instance.", ("instance",)
        )
        self.loop_failures = Counter(
            "llama_router_loop_failures", "Background loops that failed and were started again.", ("loop",)
        )
        self.refused = Counter("llama_router_refused", "Requests refused before they became a call.", ("cause",))
        self.loop_lag = Gauge(
            "llama_router_loop_lag_seconds", "How late the event loop was at its last look.", registry=self._registry
        )
        self.tasks = Gauge(
            "llama_router_tasks", "Tasks of the event loop: calls, and the loops beside them.", registry=self._registry
        )
        for metric in (
            self.calls, self.ttft, self.itl, self.queue, self.duration, self.tokens,
            self.ways, self.dropped, self.attempts_failed, self.refused, self.loop_failures,
        ):  # fmt: skip
            self._registry.register(metric)

    def record(self, record: CallRecord) -> None:
        """Count one call that is over."""
        key = (record.endpoint, record.pool, record.instance_id)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(self, key)
        outcome = (record.outcome, record.cause)
        count = series.outcomes.get(outcome)
        if count is None:
            count = series.outcomes[outcome] = self.calls.series((*key, *outcome))
        count.inc()
        series.duration.observe(record.duration_s)
        if record.queue_s is not None:
            series.queue.observe(record.queue_s)
        if record.ttft_s is not None:
            series.ttft.observe(record.ttft_s)
        if record.itl_s is not None:
            series.itl.observe(record.itl_s)
        series.input.value += max(0, record.input_tokens or 0)
        series.cached.value += max(0, record.cached_tokens or 0)
        series.output.value += max(0, record.output_tokens or 0)
        if record.way:
            self.ways.series((record.endpoint, record.way)).inc()
        for kind in record.dropped:
            self.dropped.series((kind if kind in KNOWN_BLOCKS else "other",)).inc()
        failed_here = record.outcome == "failed" and record.cause.startswith("upstream_")
        for instance_id in (*record.failed_on, record.instance_id) if failed_here else record.failed_on:
            self.attempts_failed.series((instance_id,)).inc()

    def watch(self, view: Callable[[], FleetView], waiting: Callable[[str], int]) -> None:
        """Read the fleet's gauges when somebody scrapes, instead of writing them on every change."""
        self._registry.register(_FleetCollector(view, waiting))

    def watch_log(self, lost: Callable[[], int]) -> None:
        """Read at each scrape how many lines the log of calls has lost."""
        self._registry.register(_LogCollector(lost))

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self._registry)


class _FleetCollector(Collector):
    """The fleet and the desk at the moment of a scrape."""

    def __init__(self, view: Callable[[], FleetView], waiting: Callable[[str], int]) -> None:
        self._view = view
        self._waiting = waiting

    def collect(self) -> Iterable[Metric]:
        """One family per gauge."""
        view = self._view()
        slots = GaugeMetricFamily("llama_router_slots", "Slots of an instance.", labels=("instance",))
        busy = GaugeMetricFamily("llama_router_slots_busy", "Slots under a lease of ours.", labels=("instance",))
        states = GaugeMetricFamily(
            "llama_router_instance_state", "1 for the state an instance is in.", labels=("instance", "state")
        )
        closing = GaugeMetricFamily(
            "llama_router_slots_closing",
            "Slots whose call is over for us and may not be for the instance.",
            labels=("instance",),
        )
        waiting = GaugeMetricFamily("llama_router_waiting", "Calls that wait for a slot.", labels=("model",))
        for id_, row in view.rows.items():
            slots.add_metric((id_,), row.slots)
            busy.add_metric((id_,), row.busy)
            closing.add_metric((id_,), row.closing)
            for state in State:
                states.add_metric((id_, state.value), float(row.health.state is state))
        for pool in view.registry.pools:
            waiting.add_metric((pool,), self._waiting(pool))
        return (slots, busy, closing, states, waiting)


class _LogCollector(Collector):
    """What the log of calls has lost, since the log itself cannot tell."""

    def __init__(self, lost: Callable[[], int]) -> None:
        self._lost = lost

    def collect(self) -> Iterable[Metric]:
        """One counter."""
        yield CounterMetricFamily(
            "llama_router_log_lines_lost",
            "Lines of the log of calls that could not be written: its pipe was full or closed.",
            value=self._lost(),
        )
