from typing import Any

import msgspec
import pytest

from router.config.schema import Deadlines
from router.errors import (
    ClientGone,
    ModelNotFound,
    NoInstance,
    Overloaded,
    RequestInvalid,
    RouterError,
    UpstreamBroke,
    UpstreamTimedOut,
)
from router.relay.attempt import Attempt
from router.relay.notes import Notes
from router.translate.answer import Usage
from router.translate.repair import NativeStream
from router.wire.record import CallRecord
from tests.fleet import sample


def fresh() -> Notes:
    notes = Notes("req_1", "messages", "alice", "red")
    notes.started_s = 100.0
    notes.model, notes.pool, notes.bytes_in = "coder", "qwen", 42
    return notes


def told(record: CallRecord, *names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def streamed(notes: Notes, *, first_s: float | None, last_s: float | None, events: int, usage: Usage) -> None:
    attempt = Attempt(sample.instance("a"), deadlines=Deadlines(), started_s=notes.started_s)
    attempt.first_event_s, attempt.last_event_s = first_s, last_s
    stream = NativeStream(model="coder", instance_id="a", message_id="msg_1")
    stream._passed, stream.stop_reason = events, "end_turn"
    stream._tally.add(msgspec.json.encode(usage))
    notes.stream = True
    notes.streamed(stream, attempt)


def test_a_call_that_never_became_one_is_still_a_record() -> None:
    record = Notes("req_1", "messages", "", "").record(7.0, RequestInvalid("no"), status=400, bytes_out=None)
    assert (
        CallRecord(request_id="req_1", endpoint="messages", outcome="refused", cause="request_invalid", status=400)
        == record
    )


def test_a_plain_answer_is_written_down_whole() -> None:
    notes = fresh()
    notes.granted(100.25, "a", "place")
    notes.way, notes.dropped = "translated", ("compaction",)
    notes.answered(103.5, 77, Usage(5, 2, 3), "end_turn")
    assert CallRecord(
        request_id="req_1", endpoint="messages", outcome="ok", status=200, key_id="alice", team="red", model="coder",
        pool="qwen", instance_id="a", decision="place", attempts=1, queue_s=0.25, ttft_s=3.5, duration_s=4.0,
        bytes_in=42, bytes_out=77, input_tokens=5, cached_tokens=2, output_tokens=3, stop_reason="end_turn",
        way="translated", dropped=("compaction",),
    ) == notes.record(104.0, None, status=200, bytes_out=None)  # fmt: skip


def test_a_streamed_answer_is_written_down_whole() -> None:
    notes = fresh()
    notes.granted(100.0, "a", "place")
    streamed(notes, first_s=101.0, last_s=103.0, events=5, usage=Usage(5, None, 5))
    record = notes.record(103.5, None, status=200, bytes_out=999)
    expected = {
        "outcome": "ok", "stream": True, "ttft_s": 1.0, "itl_s": 0.5, "duration_s": 3.5, "events": 5,
        "bytes_out": 999, "input_tokens": 5, "cached_tokens": None, "output_tokens": 5, "stop_reason": "end_turn",
    }  # fmt: skip
    assert expected == told(record, *expected)


@pytest.mark.parametrize(
    ("first_s", "last_s", "events", "ttft_s", "itl_s"),
    [
        (101.0, 103.0, 5, 1.0, 0.5),
        (101.0, 101.5, 2, 1.0, 0.5),
        (101.0, 101.5, 1, 1.0, None),
        (101.0, 101.0, 0, 1.0, None),
        (None, None, 0, None, None),
        (100.0000001, 100.0000004, 2, 0.0, 0.0),
    ],
)
def test_the_time_between_tokens_needs_two_of_them(
    first_s: float | None, last_s: float | None, events: int, ttft_s: float | None, itl_s: float | None
) -> None:
    notes = fresh()
    streamed(notes, first_s=first_s, last_s=last_s, events=events, usage=Usage())
    record = notes.record(110.0, None, status=200, bytes_out=0)
    assert (ttft_s, itl_s) == (record.ttft_s, record.itl_s)


@pytest.mark.parametrize(
    ("error", "attempts", "outcome", "cause"),
    [
        (None, 1, "ok", ""),
        (RequestInvalid("no"), 0, "refused", "request_invalid"),
        (ModelNotFound("no"), 0, "refused", "model_not_found"),
        (RequestInvalid("prompt is too long"), 1, "refused", "request_invalid"),
        (Overloaded("no", retry_after_s=1), 0, "refused", "overloaded"),
        (NoInstance("no", retry_after_s=1), 0, "refused", "no_instance"),
        (NoInstance("no", retry_after_s=1), 1, "failed", "no_instance"),
        (UpstreamBroke("no", instance_id="a"), 1, "failed", "upstream_broke"),
        (UpstreamTimedOut("no", instance_id="a"), 3, "failed", "upstream_timed_out"),
        (ClientGone("bye"), 0, "client_gone", "client_gone"),
        (ClientGone("bye"), 2, "client_gone", "client_gone"),
        (RouterError("internal"), 1, "failed", "router_error"),
    ],
)
def test_the_outcome_is_told_by_the_error_and_by_whether_an_instance_was_asked(
    error: RouterError | None, attempts: int, outcome: str, cause: str
) -> None:
    notes = fresh()
    for _ in range(attempts):
        notes.granted(100.5, "a", "place")
    record = notes.record(101.0, error, status=500, bytes_out=None)
    assert (outcome, cause, attempts, 500) == (record.outcome, record.cause, record.attempts, record.status)


def test_the_last_of_several_attempts_is_told_with_those_that_failed() -> None:
    notes = fresh()
    notes.granted(100.5, "a", "place")
    notes.failed_on = (*notes.failed_on, "a")
    notes.granted(102.0, "b", "place")
    record = notes.record(103.0, None, status=200, bytes_out=1)
    expected = {"instance_id": "b", "attempts": 2, "failed_on": ("a",), "queue_s": 2.0}
    assert expected == told(record, *expected)


def test_a_record_is_made_of_what_was_known_when_it_was_made() -> None:
    notes = fresh()
    first = notes.record(101.0, None, status=200, bytes_out=0)
    notes.granted(102.0, "a", "place")
    assert ("", 0) == (first.instance_id, first.attempts)
    assert first != notes.record(101.0, None, status=200, bytes_out=0)


def test_no_record_holds_what_was_said() -> None:
    notes = fresh()
    notes.answered(101.0, 10, Usage(1, 1, 1), "end_turn")
    assert b"secret" not in msgspec.json.encode(notes.record(102.0, RequestInvalid("secret"), status=400, bytes_out=0))
