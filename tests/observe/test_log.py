import asyncio
import errno
import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from router.observe.log import CallLog, set_up_logging
from router.wire.record import CallRecord, Foreseen

pytestmark = pytest.mark.anyio

RECORD = CallRecord(
    request_id="req_1", endpoint="messages", outcome="failed", cause="upstream_broke", status=502, key_id="alice",
    team="red", model='a "model"\nof two lines, ä', pool="qwen", instance_id="rig1", decision="place", way="translated",
    dropped=("server_tool_use",), unread_fields=("speed",), unread_betas=("other",), stream=True,
    attempts=2, failed_on=("rig2",), causes=("upstream_broke",), queue_s=0.0,
    foreseen=Foreseen(
        wait_s=0.1, read_s=0.1, moved_s=0.0, behind_s=0.0, lost_s=0.2, stall_s=0.0, cached_tokens=3, prompt_tokens=4
    ),
    ttft_s=0.25, itl_s=0.02, duration_s=3.0,
    bytes_in=1, bytes_out=2, events=3, input_tokens=4, cached_tokens=0, output_tokens=5, stop_reason="end_turn",
)  # fmt: skip
LEAST = CallRecord(request_id="req_2", endpoint="messages", outcome="ok")


class Out(io.BytesIO):
    """Remembers how often it was written to."""

    writes = 0

    def write(self, data: object) -> int:
        self.writes += 1
        return super().write(data)  # type: ignore[arg-type]


async def written(*records: CallRecord) -> tuple[bytes, int]:
    out = Out()
    log = CallLog(out)
    for record in records:
        log.record(record)
    await asyncio.sleep(0)
    return out.getvalue(), out.writes


@pytest.mark.parametrize("records", [(RECORD,), (LEAST,), (RECORD, LEAST, RECORD)])
async def test_a_record_is_one_line_of_json(records: tuple[CallRecord, ...]) -> None:
    data, _ = await written(*records)
    assert data.endswith(b"\n")
    lines = data.decode().splitlines()
    assert len(records) == len(lines)
    for record, line in zip(records, lines, strict=True):
        fields = json.loads(line)
        del fields["at"]
        assert json.loads(msgspec.json.encode(record)) == fields


async def test_a_line_holds_nothing_but_the_time_and_the_fields_of_the_record() -> None:
    data, _ = await written(RECORD)
    assert ["at", *CallRecord.__struct_fields__] == list(json.loads(data))


async def test_the_time_is_utc_to_the_millisecond() -> None:
    data, _ = await written(LEAST)
    at = json.loads(data)["at"]
    assert len("2026-01-01T00:00:00.000+00:00") == len(at)
    told = datetime.fromisoformat(at)
    assert timedelta(0) == told.utcoffset()
    assert abs(datetime.now(UTC) - told) < timedelta(minutes=1)


async def test_the_lines_of_one_turn_of_the_loop_are_written_at_once() -> None:
    data, writes = await written(*[LEAST] * 50)
    assert (50, 1) == (data.count(b"\n"), writes)


async def test_the_next_turn_is_written_too() -> None:
    out = Out()
    log = CallLog(out)
    for _ in range(2):
        log.record(LEAST)
        assert "CallLog[1 lines wait, 0 lost]" == repr(log)
        await asyncio.sleep(0)
    assert (2, 2, "CallLog[0 lines wait, 0 lost]") == (out.getvalue().count(b"\n"), out.writes, repr(log))


async def test_a_closed_pipe_loses_lines_and_no_call() -> None:
    out = io.BytesIO()
    log = CallLog(out)
    out.close()
    log.record(LEAST)
    log.record(LEAST)
    await asyncio.sleep(0)
    assert 2 == log.lost


class Full(io.BytesIO):
    """A disk without room."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "no space left")


async def test_a_full_disk_loses_lines_and_no_call() -> None:
    log = CallLog(Full())
    log.record(LEAST)
    await asyncio.sleep(0)
    log.record(LEAST)
    await asyncio.sleep(0)
    assert 2 == log.lost


# ---------------------------------------------------------------- everything else


@pytest.fixture
def loggers() -> Iterator[dict[str, logging.Logger]]:
    """The loggers that are set up, as they were before when the test is over."""
    found = {name: logging.getLogger(name) for name in ("llama_router", "uvicorn.error", "httpx", "somebody.else")}
    before = {name: (it.level, it.handlers, it.propagate) for name, it in found.items()}
    yield found
    for name, (level, handlers, propagate) in before.items():
        found[name].setLevel(level)
        found[name].handlers = handlers
        found[name].propagate = propagate


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", logging.DEBUG), ("info", logging.INFO), ("warning", logging.WARNING), ("error", logging.ERROR)],
)
def test_our_logger_has_the_configured_level(
    loggers: dict[str, logging.Logger], level: str, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(level)  # type: ignore[arg-type]
    loggers["llama_router"].log(expected, "instance %s: gone", "rig1")
    loggers["llama_router"].log(expected - 1, "too low")
    told = capsys.readouterr()
    assert ("", 1) == (told.out, len(told.err.splitlines()))
    assert told.err.endswith(f"{logging.getLevelName(expected)} instance rig1: gone\n")


def test_other_loggers_are_left_alone_and_the_client_of_the_probes_is_quiet(
    loggers: dict[str, logging.Logger], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (
        loggers["somebody.else"].level,
        list(loggers["somebody.else"].handlers),
        loggers["somebody.else"].propagate,
    )
    set_up_logging("debug")
    assert before == (
        loggers["somebody.else"].level,
        list(loggers["somebody.else"].handlers),
        loggers["somebody.else"].propagate,
    )
    loggers["httpx"].info("HTTP Request: GET http://10.0.0.7:8080/health")
    loggers["uvicorn.error"].info("Started server process")
    assert "" == capsys.readouterr().err


def test_setting_up_twice_writes_once(loggers: dict[str, logging.Logger], capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info")
    set_up_logging("info")
    loggers["llama_router"].warning("once")
    assert 1 == len(capsys.readouterr().err.splitlines())
