"""The benchmark against itself: no router and no peer is needed."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import answers, bodies, load, measure, mock, overhead, profile_router, report, stand, visits
from benchmarks.answers import Protocol
from benchmarks.jobs import Job, Kind, Window
from benchmarks.visits import Spread, Visit
from router.demo.llama import free_port

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

WINDOW = Window(
    calls=100,
    seconds=2.0,
    cpu_s=0.05,
    others_s=0.0,
    p50_ms=1.5,
    p99_ms=2.0,
    deltas=0,
    alone=0,
    errors=0,
    faults={},
    rss_bytes=30_000_000,
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with stand.mocks(stand.Cores(), 1) as (port,):
        yield port


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("kind", list(Kind))
def test_mock_and_generator_agree(port: int, protocol: Protocol, kind: Kind) -> None:
    deltas = 7 if kind is Kind.STREAM else 0
    job = Job(port=port, protocol=protocol, kind=kind, connections=3, calls=12, seconds=5, deltas=deltas, warm_calls=3)
    window = asyncio.run(load.perform(job))
    assert window.faults == {}
    assert (12, 12 * deltas) == (window.calls, window.deltas)


def test_events_arrive_one_by_one(port: int) -> None:
    job = Job(port=port, protocol=Protocol.MESSAGES, kind=Kind.STREAM, connections=5, calls=5, seconds=5, deltas=20)
    window = asyncio.run(load.perform(job))
    # Not all: on a busy machine a reader that sleeps 10 ms finds two.
    assert window.alone > 0.5 * window.deltas


def test_a_connection_ends_after_a_hundred_requests_and_no_call_is_lost(port: int) -> None:
    job = Job(port=port, protocol=Protocol.CHAT, kind=Kind.PLAIN, connections=1, calls=250, seconds=5)
    assert ((window := asyncio.run(load.perform(job))).calls, window.errors) == (250, 0)


def test_nobody_listening_is_counted_not_waited_for() -> None:
    job = Job(port=free_port(), protocol=Protocol.CHAT, kind=Kind.PLAIN, connections=2, calls=4, seconds=5)
    assert asyncio.run(load.perform(job)).faults == {"connection refused": 4}


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_delta_has_the_same_length_in_both_protocols(protocol: Protocol) -> None:
    assert answers.EVENT_BYTES == len(answers.delta(protocol, 1)) == len(answers.delta(protocol, 99))


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_broken_stream_is_found(protocol: Protocol) -> None:
    first, second = answers.delta(protocol, 1), answers.delta(protocol, 2)
    end = answers.closing(protocol, 10, 0, 2)
    start = answers.opening(protocol, 10, 0)
    assert answers.faults(protocol, start + first + second + end, 2) == ""
    assert answers.faults(protocol, start + first + second, 2) == "stream not complete"
    assert answers.faults(protocol, start + second + first + end, 2) == "deltas lost or out of order"
    assert answers.faults(protocol, b"{}", 0) == "wrong answer"


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_turn_is_the_turn_before_and_two_messages(protocol: Protocol) -> None:
    template = bodies.Template(protocol, 1, {}, size=30_000)
    talk = bodies.Conversation(template, bodies.stamp_of(1))
    first, second = (json.loads(b"".join(talk.next())) for _ in range(2))
    assert len(second["messages"]) - len(first["messages"]) == 2
    for turn in first["messages"]:
        if isinstance(turn["content"], list):
            turn["content"][-1].pop("cache_control", None)  # the marker alone moves on
    assert first["messages"] == second["messages"][:-2]


def test_no_text_of_a_fresh_body_was_in_the_one_before() -> None:
    supply = bodies.fresh([bodies.Template(Protocol.CHAT, 1, {}, size=60_000)])
    first, second = (json.loads(next(supply))["messages"] for _ in range(2))
    assert not {turn["content"] for turn in first} & {turn["content"] for turn in second}


def test_a_long_body_is_as_long_as_it_says() -> None:
    whole = bodies.Template(Protocol.MESSAGES, 1, {}).whole
    assert 400_000 <= len(whole) < 410_000


def test_the_mock_finds_its_orders_wherever_they_are() -> None:
    assert (mock.max_tokens(b'{"max_tokens": 7,"x":1}'), mock.wants_stream(b'{"stream":true}')) == (7, True)
    long = b'{"stream" :false,"max_completion_tokens":9,"x":"' + b"-" * 9000 + b'"}'
    assert (mock.max_tokens(long), mock.wants_stream(long)) == (9, False)


def test_a_childs_cpu_and_memory_are_in_its_parents_tree() -> None:
    inner = "import time; print(1, flush=True); end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    outer = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {inner!r}]); sys.stdin.read(); p.kill()"
    )
    with subprocess.Popen([sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = measure.cpu_s(process.pid)
        time.sleep(0.15)
        assert measure.cpu_s(process.pid) > before + 0.02
        assert len(measure.tree(process.pid)) == 2
        assert measure.rss_bytes(process.pid) > 5_000_000
    assert os.getpid() in measure.tree(os.getppid())


def test_the_cost_of_an_event_is_a_slope() -> None:
    few = _with(WINDOW, calls=100, cpu_s=0.1, deltas=1000)
    many = _with(WINDOW, calls=100, cpu_s=0.3, deltas=11_000, alone=5500)
    one = Visit(name="x", round=0, idle=0.0, plain=WINDOW, lone=WINDOW, few=few, many=many, turns=WINDOW, fresh=WINDOW)
    found = visits.figures([one], {0: _with(WINDOW, p50_ms=1.0)})
    assert pytest.approx(found["event_us"].median) == 20.0
    assert pytest.approx(found["alone_share"].median) == 0.5
    assert pytest.approx(found["plain_us"].median) == 500.0
    assert pytest.approx(found["added_p50_ms"].median) == 0.5


def test_idle_cpu_is_taken_off() -> None:
    one = Visit(
        name="x", round=0, idle=0.01, plain=WINDOW, lone=WINDOW, few=WINDOW, many=WINDOW, turns=WINDOW, fresh=WINDOW
    )
    assert pytest.approx(visits.figures([one], {})["turn_us"].median) == 300.0


def test_the_report_renders(tmp_path: Path) -> None:
    spread = Spread(median=12.34, low=10.0, high=15.0)
    rows = [
        report.Row(name="llama-router", version="1", path="/v1/messages", on="keys", figures={"plain_us": spread}),
        report.Row(
            name="other", version="2", path="/x", on="", figures={}, failure="no answer", faults={"status 503": 2}
        ),
    ]
    made = report.Report(
        date="2026-01-01",
        machine="a CPU, 2 cores",
        python="3.11",
        plan=visits.QUICK,
        pinned=True,
        others=0.1,
        rows=rows,
    )
    text = report.markdown(made)
    assert "| llama-router | 12 (10 - 15) |" in text
    assert "- other: no answer" in text
    assert "status 503" in text
    if report.picture(made, tmp_path / "x.png"):
        assert (tmp_path / "x.png").stat().st_size > 1000


def test_samples_are_told_by_function_and_by_line() -> None:
    noted = "3\t/a/b/c.py:7:inner;/a/b/d.py:9:outer\n1\t/a/b/d.py:4:outer\n4\t/a/b/c.py:2:other\n"
    text = profile_router.table(noted, 5)
    assert " 37.5%  b/c.py:7 inner" in text
    assert " 50.0%  b/d.py:outer" in text


def test_a_quick_run_tells_and_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.json"
    assert overhead.main(["--quick", "--only", "direct", "--json", str(path)]) == 0
    assert "| direct |" in capsys.readouterr().out
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["direct"]


def _with(window: Window, **changes: float) -> Window:
    return Window(**{name: changes.get(name, getattr(window, name)) for name in Window.__struct_fields__})
