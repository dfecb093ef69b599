"""The demo works as its user sees it: starts, answers, tells what happens, and leaves nothing behind."""

import os
import re
import signal
import socket
from collections.abc import Iterator

import pytest

from router.demo.llama import free_port
from router.demo.process import ChildProcess
from tests.rig.llama import need_llama
from tests.rig.start import assert_gone

UP_S, DOWN_S = 90.0, 30.0
UP = "Ctrl-C stops everything."


def demo(*args: str, port: int = 0) -> ChildProcess:
    need_llama()
    return ChildProcess("the demo", "router", ["demo", "--port", str(port or free_port()), *args])


@pytest.fixture
def up() -> Iterator[ChildProcess]:
    """A demo that stays up and has said all that it has to say."""
    with demo() as running:
        running.wait_until(lambda: UP in running.log, UP_S)
        yield running


def pids(running: ChildProcess) -> dict[str, int]:
    """The processes that the demo says it has started."""
    return {name: int(pid) for name, pid in re.findall(r"^  (\S+) .* pid (\d+)$", running.log, re.MULTILINE)}


def test_once_streams_an_answer_and_shows_that_both_instances_serve() -> None:
    with demo("--once") as running:
        assert running.wait(UP_S) == 0, running.log
        said = running.log
        started = pids(running)
    assert set(started) == {"llama-1", "llama-2", "router"}
    assert re.search(r"> In one sentence, what is a llama\?\n.+\n\(streamed by llama-[12]\)", said)
    assert "llama-1" in said.partition("at once were served by:")[2]
    assert "llama-2" in said.partition("at once were served by:")[2]
    for pid in started.values():
        assert_gone(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_every_process_that_it_started(up: ChildProcess, number: signal.Signals) -> None:
    started = pids(up)
    assert len(started) == 3
    up.send(number)
    assert up.wait(DOWN_S) == 0
    assert up.log.endswith("Stopped; nothing is left running.\n")
    for pid in started.values():
        assert_gone(pid)


def test_even_a_killed_demo_leaves_nothing_behind(up: ChildProcess) -> None:
    started = pids(up)
    up.kill()
    for pid in started.values():
        assert_gone(pid)


def test_it_says_when_an_instance_has_died_and_the_router_goes_on(up: ChildProcess) -> None:
    os.kill(pids(up)["llama-1"], signal.SIGKILL)
    up.wait_until(lambda: "llama-1 has died (signal 9). The router goes on without it." in up.log, 10)
    assert up.running


def test_it_ends_with_the_routers_last_lines_when_the_router_has_died(up: ChildProcess) -> None:
    started = pids(up)
    os.kill(started["router"], signal.SIGKILL)
    assert up.wait(DOWN_S) == 1
    assert "The router has died (signal 9)." in up.log
    for pid in started.values():
        assert_gone(pid)


def test_a_busy_port_is_told_with_the_way_out_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with demo(port=port) as running:
            assert running.wait(UP_S) == 1
            said = running.log
    other_port = port + 1 if port < 65535 else 8001
    assert said == (
        f"The demo ends: port {port} is taken by another program. Try another: llama-router demo --port {other_port}\n"
    )
