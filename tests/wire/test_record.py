import msgspec
import pytest

from router.wire.record import CallRecord

LEAST = CallRecord(request_id="req_1", endpoint="messages", outcome="ok")


def test_a_record_has_these_fields_and_a_new_one_must_be_asked_whether_it_may_be_logged() -> None:
    assert (
        "request_id", "endpoint", "outcome", "cause", "status", "key_id", "team", "model", "pool", "instance_id",
        "decision", "way", "dropped", "unread_fields", "unread_betas", "stream", "attempts", "failed_on", "causes",
        "queue_s", "foreseen", "ttft_s", "itl_s", "duration_s", "bytes_in", "bytes_out", "events", "input_tokens",
        "cached_tokens", "output_tokens", "stop_reason",
    ) == CallRecord.__struct_fields__  # fmt: skip


def test_what_never_came_is_not_written() -> None:
    assert b'{"request_id":"req_1","endpoint":"messages","outcome":"ok"}' == msgspec.json.encode(LEAST)


def test_a_zero_that_was_measured_is_told_from_a_moment_that_never_came() -> None:
    record = msgspec.structs.replace(LEAST, queue_s=0.0, cached_tokens=0)
    assert {"queue_s": 0.0, "cached_tokens": 0}.items() <= msgspec.json.decode(msgspec.json.encode(record)).items()


def test_a_record_never_changes() -> None:
    with pytest.raises(AttributeError):
        LEAST.status = 500  # type: ignore[misc]


def test_a_record_is_read_back_as_it_was_written() -> None:
    record = msgspec.structs.replace(LEAST, failed_on=("rig1",), ttft_s=0.25, stream=True)
    assert record == msgspec.json.decode(msgspec.json.encode(record), type=CallRecord)
