"""Every metric of the router, in one table. Base units; labels from closed sets only, never a caller's text."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from router.fleet.health import State
from router.fleet.view import FleetView
from router.observe.tally import Count, Counter, Histogram
from router.wire.record import CallRecord, Foreseen

# From a cached short turn on a GPU (50 ms) to a cold prefill of a whole context on a CPU (minutes).
TTFT_BUCKETS_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120)
# From speculative decoding (5 ms) to a stream that shares its server with a long prefill (1 s).
ITL_BUCKETS_S = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.35, 0.5, 1)
QUEUE_BUCKETS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
DURATION_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

# How far the prediction of a first token may be off, either way. Of what may be negative the exposition format has
# buckets alone; the mean is in the sums of `llama_router_foreseen_seconds`.
ERROR_BUCKETS_S = (-10, -3, -1, -0.5, -0.2, -0.1, -0.05, 0, 0.05, 0.1, 0.2, 0.5, 1, 3, 10)

_CALL = ("endpoint", "model", "instance")
_PLACE = ("model", "instance")
# A count of cached tokens that is off by less than this is as good as right (`balance.mirror.near`).
NEAR_TOKENS, NEAR_SHARE = 128, 0.03


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


class _ByName(dict[str, Count]):
    """The series of a counter with one label, each resolved once."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def __missing__(self, name: str) -> Count:
        count = self[name] = self._counter.series((name,))
        return count


class _Place:
    """What one (pool, instance) writes to, of predictions."""

    __slots__ = ("behind", "error", "less", "lost", "more", "moved", "near", "observed", "read", "stall", "wait")

    def __init__(self, metrics: "Metrics", labels: tuple[str, str]) -> None:
        self.error = metrics.foreseen_error.series(labels)
        self.observed, self.wait, self.read, self.moved, self.behind, self.lost, self.stall = (
            metrics.foreseen.series((*labels, term))
            for term in ("observed", "wait", "read", "moved", "behind", "lost", "stall")
        )
        self.near, self.more, self.less = (
            metrics.foreseen_cached.series((*labels, found)) for found in ("near", "more", "less")
        )


class Metrics:
    """The table, in a registry of its own, so that two routers in one process do not meet."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._places: dict[tuple[str, str], _Place] = {}
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
        self.foreseen_error = Histogram(
            "llama_router_foreseen_ttft_error_seconds",
            "From lease to first event, less what was foreseen when the instance was chosen.",
            _PLACE,
            ERROR_BUCKETS_S,
        )
        self.foreseen = Counter(
            "llama_router_foreseen_seconds",
            "What placed calls were foreseen to cost, by term; `observed`: what they took from lease to first event.",
            (*_PLACE, "term"),
        )
        self.foreseen_cached = Counter(
            "llama_router_foreseen_cached",
            "Placed calls by what was found warm: near what was foreseen, more, or less.",
            (*_PLACE, "found"),
        )
        self.ways = Counter(
            "llama_router_ways", "Calls by the way they went: native, translated or exact.", ("endpoint", "way")
        )
        self.dropped = Counter(
            "llama_router_dropped_blocks",
            "Calls with content blocks that no model here knows and that were left out, by their type.",
            ("type",),
        )
        self.unread_fields = Counter(
            "llama_router_unread_fields",
            "Calls with a field that only the hosted API knows (or nobody: other) and that was passed over.",
            ("field",),
        )
        self.unread_betas = Counter(
            "llama_router_unread_betas",
            "Calls that asked for a beta that only the hosted API has (or nobody: other) and went on without.",
            ("beta",),
        )
        self._fields, self._betas = _ByName(self.unread_fields), _ByName(self.unread_betas)
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
            self.foreseen_error, self.foreseen, self.foreseen_cached,
            self.ways, self.dropped, self.unread_fields, self.unread_betas,
            self.attempts_failed, self.refused, self.loop_failures,
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
        if record.foreseen is not None:
            self._compare(record, record.foreseen)
        if record.way:
            self.ways.series((record.endpoint, record.way)).inc()
        for kind in record.dropped:
            self.dropped.series((kind if kind in KNOWN_BLOCKS else "other",)).inc()
        for name in record.unread_fields:
            self._fields[name].inc()
        for name in record.unread_betas:
            self._betas[name].inc()
        failed_here = record.outcome == "failed" and record.cause.startswith("upstream_")
        for instance_id in (*record.failed_on, record.instance_id) if failed_here else record.failed_on:
            self.attempts_failed.series((instance_id,)).inc()

    def _compare(self, record: CallRecord, foreseen: Foreseen) -> None:
        """Hold what was foreseen against what happened, so that placement can be wrong in public."""
        place = self._places.get((record.pool, record.instance_id))
        if place is None:
            key = (record.pool, record.instance_id)
            place = self._places[key] = _Place(self, key)
        if record.ttft_s is not None and record.queue_s is not None and record.stream:
            took_s = record.ttft_s - record.queue_s
            place.error.observe(took_s - foreseen.ttft_s)
            place.observed.value += took_s
            place.wait.value += foreseen.wait_s
            place.read.value += foreseen.read_s
            place.moved.value += foreseen.moved_s
            place.behind.value += foreseen.behind_s
            place.lost.value += foreseen.lost_s
            place.stall.value += foreseen.stall_s
        if record.cached_tokens is not None:
            more = record.cached_tokens - foreseen.cached_tokens
            near = max(NEAR_TOKENS, NEAR_SHARE * record.cached_tokens)
            (place.near if abs(more) <= near else place.more if more > 0 else place.less).inc()

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
