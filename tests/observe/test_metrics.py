from collections.abc import Mapping

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.fleet.health import Event
from router.observe.metrics import Metrics
from router.wire.record import CallRecord, Foreseen
from tests.fleet import sample

NAMES = {
    "llama_router_calls": ("counter", {"endpoint", "model", "instance", "outcome", "cause"}),
    "llama_router_ttft_seconds": ("histogram", {"endpoint", "model", "instance"}),
    "llama_router_itl_seconds": ("histogram", {"endpoint", "model", "instance"}),
    "llama_router_queue_seconds": ("histogram", {"endpoint", "model", "instance"}),
    "llama_router_call_seconds": ("histogram", {"endpoint", "model", "instance"}),
    "llama_router_tokens": ("counter", {"endpoint", "model", "instance", "kind"}),
    "llama_router_foreseen_ttft_error_seconds": ("histogram", {"model", "instance"}),
    "llama_router_foreseen_seconds": ("counter", {"model", "instance", "term"}),
    "llama_router_foreseen_cached": ("counter", {"model", "instance", "found"}),
    "llama_router_ways": ("counter", {"endpoint", "way"}),
    "llama_router_dropped_blocks": ("counter", {"type"}),
    "llama_router_unread_fields": ("counter", {"field"}),
    "llama_router_unread_betas": ("counter", {"beta"}),
    "llama_router_attempts_failed": ("counter", {"instance"}),
    "llama_router_loop_failures": ("counter", {"loop"}),
    "llama_router_refused": ("counter", {"cause"}),
    "llama_router_log_lines_lost": ("counter", set()),
    "llama_router_loop_lag_seconds": ("gauge", set()),
    "llama_router_tasks": ("gauge", set()),
    "llama_router_slots": ("gauge", {"instance"}),
    "llama_router_slots_busy": ("gauge", {"instance"}),
    "llama_router_slots_closing": ("gauge", {"instance"}),
    "llama_router_instance_state": ("gauge", {"instance", "state"}),
    "llama_router_waiting": ("gauge", {"model"}),
}

OK = CallRecord(
    request_id="req_1", endpoint="messages", outcome="ok", model="a-name-of-the-clients", pool="qwen",
    instance_id="rig1", key_id="alice", queue_s=0.5, ttft_s=0.25, itl_s=0.02, duration_s=3.0,
    input_tokens=5, cached_tokens=2, output_tokens=3, failed_on=("rig2", "rig3"),
    way="native", dropped=("server_tool_use",), unread_fields=("speed", "other"), unread_betas=("other",),
)  # fmt: skip
CALL = {"endpoint": "messages", "model": "qwen", "instance": "rig1"}
FORESEEN = Foreseen(
    wait_s=0.25, read_s=0.5, moved_s=0.125, behind_s=8.0, lost_s=2.0, stall_s=4.0,
    cached_tokens=9_000, prompt_tokens=10_000,
)  # fmt: skip
# Placed half a second after it came; its first event another second later, an eighth later than foreseen.
PLACED = msgspec.structs.replace(
    OK, stream=True, queue_s=0.5, ttft_s=1.5, input_tokens=1_000, cached_tokens=9_000, foreseen=FORESEEN
)
PLACE = {"model": "qwen", "instance": "rig1"}


def values(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, labels: Mapping[str, str]) -> float | None:
    return values(metrics).get((name, frozenset(labels.items())))


def of(*records: CallRecord) -> Metrics:
    metrics = Metrics()
    for record in records:
        metrics.record(record)
    return metrics


def test_there_are_these_metrics_with_these_labels_and_no_others() -> None:
    metrics = of(OK, PLACED)
    metrics.refused.series(("head_too_large",)).inc()
    metrics.loop_failures.series(("poll",)).inc()
    fleet = sample.fleet({"qwen": ["rig1"]})
    metrics.watch(lambda: fleet.view, lambda pool: 0)
    metrics.watch_log(lambda: 0)
    families = list(text_string_to_metric_families(metrics.render().decode()))
    assert NAMES == {
        family.name: (family.type, {label for it in family.samples for label in it.labels} - {"le"})
        for family in families
    }
    assert all(family.documentation.endswith(".") for family in families)


def test_every_metric_is_announced_before_the_first_call() -> None:
    fleet = sample.fleet({"qwen": ["rig1"]})
    metrics = Metrics()
    metrics.watch(lambda: fleet.view, lambda pool: 0)
    metrics.watch_log(lambda: 0)
    assert set(NAMES) == {family.name for family in text_string_to_metric_families(metrics.render().decode())}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("llama_router_calls_total", CALL | {"outcome": "ok", "cause": ""}, 2),
        ("llama_router_ttft_seconds_count", CALL, 2),
        ("llama_router_ttft_seconds_sum", CALL, 0.5),
        ("llama_router_ttft_seconds_bucket", CALL | {"le": "0.2"}, 0),
        ("llama_router_ttft_seconds_bucket", CALL | {"le": "0.35"}, 2),
        ("llama_router_itl_seconds_sum", CALL, 0.04),
        ("llama_router_queue_seconds_sum", CALL, 1.0),
        ("llama_router_call_seconds_sum", CALL, 6.0),
        ("llama_router_tokens_total", CALL | {"kind": "input"}, 10),
        ("llama_router_tokens_total", CALL | {"kind": "cached"}, 4),
        ("llama_router_tokens_total", CALL | {"kind": "output"}, 6),
        ("llama_router_ways_total", {"endpoint": "messages", "way": "native"}, 2),
        ("llama_router_dropped_blocks_total", {"type": "server_tool_use"}, 2),
        ("llama_router_unread_fields_total", {"field": "speed"}, 2),
        ("llama_router_unread_fields_total", {"field": "other"}, 2),
        ("llama_router_unread_betas_total", {"beta": "other"}, 2),
        ("llama_router_attempts_failed_total", {"instance": "rig2"}, 2),
        ("llama_router_attempts_failed_total", {"instance": "rig3"}, 2),
        ("llama_router_attempts_failed_total", {"instance": "rig1"}, None),
    ],
)
def test_two_calls_are_counted_as_their_records_say(name: str, labels: dict[str, str], expected: float | None) -> None:
    assert expected == value(of(OK, OK), name, labels)


def test_a_moment_that_never_came_is_not_observed() -> None:
    metrics = of(msgspec.structs.replace(OK, queue_s=None, ttft_s=None, itl_s=None))
    counts = [value(metrics, f"llama_router_{what}_seconds_count", CALL) for what in ("queue", "ttft", "itl", "call")]
    assert [0, 0, 0, 1] == counts


def test_a_moment_that_took_no_time_is_observed() -> None:
    assert 1 == value(of(msgspec.structs.replace(OK, queue_s=0.0)), "llama_router_queue_seconds_count", CALL)


def test_outcomes_and_causes_are_counted_apart() -> None:
    failed = msgspec.structs.replace(OK, outcome="failed", cause="upstream_broke")
    metrics = of(OK, failed, failed)
    counts = [
        value(metrics, "llama_router_calls_total", CALL | {"outcome": outcome, "cause": cause})
        for outcome, cause in (("ok", ""), ("failed", "upstream_broke"))
    ]
    assert [1, 2] == counts


def test_a_call_that_never_got_to_an_instance_is_counted_without_one() -> None:
    metrics = of(CallRecord(request_id="r", endpoint="messages", outcome="refused", cause="model_not_found", model="x"))
    labels = {"endpoint": "messages", "model": "", "instance": "", "outcome": "refused", "cause": "model_not_found"}
    assert 1 == value(metrics, "llama_router_calls_total", labels)


def test_no_label_holds_what_a_caller_wrote() -> None:
    text = of(OK).render().decode()
    for told in ("a-name-of-the-clients", "alice", "req_1"):
        assert told not in text


def test_types_of_blocks_that_nobody_knows_are_counted_under_one_name() -> None:
    metrics = of(msgspec.structs.replace(OK, dropped=("nonce-one", "nonce-two", "container_upload")))
    kinds = ("other", "container_upload", "nonce-one")
    assert [2, 1, None] == [value(metrics, "llama_router_dropped_blocks_total", {"type": kind}) for kind in kinds]
    assert "nonce" not in metrics.render().decode()


def test_a_call_that_went_no_way_is_not_counted_under_one() -> None:
    assert {} == {
        name: count for (name, _), count in values(of(msgspec.structs.replace(OK, way=""))).items() if "ways_t" in name
    }


def test_an_instance_that_counts_backwards_does_not_turn_a_counter_back() -> None:
    odd = msgspec.structs.replace(OK, input_tokens=-7, cached_tokens=-7, output_tokens=-7)
    metrics = of(OK, odd)
    kinds = ("input", "cached", "output")
    assert [5, 2, 3] == [value(metrics, "llama_router_tokens_total", CALL | {"kind": kind}) for kind in kinds]


def test_the_fleet_is_read_at_the_moment_of_a_scrape() -> None:
    fleet = sample.fleet({"qwen": ["rig1", "rig2"]}, slots=4)
    metrics = Metrics()
    metrics.watch(lambda: fleet.view, lambda pool: 3 if pool == "qwen" else 0)
    fleet.lease("rig1")
    left = fleet.lease("rig1")
    assert left is not None
    left.close(1.0)
    fleet.observe("rig2", Event.REFUSED, 1.0)
    now = values(metrics)
    expected: dict[tuple[str, frozenset[tuple[str, str]]], float] = {
        (name, frozenset(labels.items())): float(count)
        for name, labels, count in (
            ("llama_router_slots", {"instance": "rig1"}, 4),
            ("llama_router_slots", {"instance": "rig2"}, 4),
            ("llama_router_slots_busy", {"instance": "rig1"}, 1),
            ("llama_router_slots_busy", {"instance": "rig2"}, 0),
            ("llama_router_slots_closing", {"instance": "rig1"}, 1),
            ("llama_router_slots_closing", {"instance": "rig2"}, 0),
            ("llama_router_instance_state", {"instance": "rig1", "state": "serving"}, 1),
            ("llama_router_instance_state", {"instance": "rig1", "state": "ejected"}, 0),
            ("llama_router_instance_state", {"instance": "rig2", "state": "serving"}, 0),
            ("llama_router_instance_state", {"instance": "rig2", "state": "ejected"}, 1),
            ("llama_router_instance_state", {"instance": "rig2", "state": "loading"}, 0),
            ("llama_router_instance_state", {"instance": "rig2", "state": "unknown"}, 0),
            ("llama_router_waiting", {"model": "qwen"}, 3),
        )
    }
    assert expected == {key: now.get(key) for key in expected}


def test_two_routers_in_one_process_count_apart() -> None:
    first, second = of(OK), Metrics()
    labels = CALL | {"outcome": "ok", "cause": ""}
    assert (1, None) == tuple(value(it, "llama_router_calls_total", labels) for it in (first, second))


def test_lines_that_the_log_has_lost_are_read_at_each_scrape() -> None:
    metrics, lost = Metrics(), [0]
    metrics.watch_log(lambda: lost[0])
    assert 0.0 == value(metrics, "llama_router_log_lines_lost_total", {})
    lost[0] = 3
    assert 3.0 == value(metrics, "llama_router_log_lines_lost_total", {})


# ---------------------------------------------------------------- what was foreseen, and what came


def foreseen(metrics: Metrics, what: str, **labels: str) -> float | None:
    return value(metrics, f"llama_router_foreseen_{what}", PLACE | labels)


@pytest.mark.parametrize(
    ("term", "seconds"),
    [("observed", 2.0), ("wait", 0.5), ("read", 1.0), ("moved", 0.25), ("behind", 16.0), ("lost", 4.0), ("stall", 8.0)],
)
def test_each_term_is_summed_beside_what_was_observed(term: str, seconds: float) -> None:
    assert seconds == foreseen(of(PLACED, PLACED), "seconds_total", term=term)


def errors(metrics: Metrics, le: str = "+Inf") -> float | None:
    """How many errors are not above it. Prometheus has no sum and no count of what may be negative."""
    return foreseen(metrics, "ttft_error_seconds_bucket", le=le)


def test_what_the_call_took_from_others_is_no_part_of_its_error() -> None:
    dearer = msgspec.structs.replace(FORESEEN, lost_s=100.0, stall_s=100.0)
    for it in (FORESEEN, dearer):
        metrics = of(msgspec.structs.replace(PLACED, foreseen=it))
        assert [0, 1, 1] == [errors(metrics, le) for le in ("0.1", "0.2", "+Inf")]


@pytest.mark.parametrize(
    ("took_s", "below", "above"),
    [
        (0.875, "0.0", "-0.05"),
        (0.5, "-0.2", "-0.5"),
        (0.125, "-0.5", "-1.0"),
        (1.0, "0.2", "0.1"),
        (9.0, "10.0", "3.0"),
    ],
)
def test_an_error_falls_on_its_own_side_of_nought(took_s: float, below: str, above: str) -> None:
    metrics = of(msgspec.structs.replace(PLACED, ttft_s=0.5 + took_s))
    assert [1, 0, 1] == [errors(metrics, le) for le in (below, above, "+Inf")]


@pytest.mark.parametrize(
    ("cached_tokens", "found"),
    [
        (9_000, "near"),
        (9_128, "near"),
        (9_278, "near"),  # 3 % of what was found
        (9_279, "more"),
        (8_738, "near"),
        (8_737, "less"),
        (0, "less"),
        (20_000, "more"),
    ],
)
def test_cached_tokens_are_near_more_or_less(cached_tokens: int, found: str) -> None:
    metrics = of(msgspec.structs.replace(PLACED, cached_tokens=cached_tokens))
    counts = {it: foreseen(metrics, "cached_total", found=it) or 0 for it in ("near", "more", "less")}
    assert {"near": 0, "more": 0, "less": 0} | {found: 1} == counts


@pytest.mark.parametrize(("cached_tokens", "found"), [(128, "near"), (129, "more")])
def test_a_few_tokens_are_near_whatever_their_share(cached_tokens: int, found: str) -> None:
    nothing = msgspec.structs.replace(FORESEEN, cached_tokens=0)
    metrics = of(msgspec.structs.replace(PLACED, foreseen=nothing, cached_tokens=cached_tokens))
    assert 1 == foreseen(metrics, "cached_total", found=found)


@pytest.mark.parametrize(
    ("changes", "times", "cached"),
    [
        ({"stream": False}, 0, 1),  # its first event is its last
        ({"ttft_s": None}, 0, 1),
        ({"queue_s": None}, 0, 1),
        ({"cached_tokens": None}, 1, 0),
        ({"foreseen": None}, None, None),
    ],
)
def test_what_cannot_be_held_against_anything_is_not_compared(
    changes: dict[str, object], times: int | None, cached: int | None
) -> None:
    metrics = of(msgspec.structs.replace(PLACED, **changes))
    assert times == errors(metrics)
    assert cached == foreseen(metrics, "cached_total", found="near")
    assert (None if times is None else float(times)) == foreseen(metrics, "seconds_total", term="observed")


def test_each_instance_and_model_is_wrong_for_itself() -> None:
    others = [msgspec.structs.replace(PLACED, instance_id="rig2"), msgspec.structs.replace(PLACED, pool="gpt")]
    metrics = of(PLACED, *others, *others)
    assert [1, 2, 2] == [
        value(metrics, "llama_router_foreseen_cached_total", {"model": model, "instance": id_, "found": "near"})
        for model, id_ in (("qwen", "rig1"), ("qwen", "rig2"), ("gpt", "rig1"))
    ]
