"""A child process can be watched, ended and started again, and says why it did not start."""

import signal
import subprocess
import threading

import pytest

from router.demo.process import ChildProcess, StartError

# timeit is the standard library's module that runs a program given as its argument.
SLEEPER = ("timeit", "-n1", "-r1", "import time; print('up', flush=True); time.sleep(60)")
DEAF = ("timeit", "-n1", "-r1", "-s", "import signal", "signal.signal(15, 1); print('up', flush=True); signal.pause()")


def child(*command: str) -> ChildProcess:
    return ChildProcess("the child", command[0], command[1:])


def test_it_runs_with_a_log_and_ends_when_told() -> None:
    with child(*SLEEPER) as process:
        process.wait_until(lambda: "up" in process.log, 10)
        assert process.running
        assert repr(process) == f"<ChildProcess the child pid {process.pid}>"
    assert (process.running, process.returncode) == (False, -signal.SIGTERM)
    assert repr(process) == "<ChildProcess the child ended -15>"


def test_one_that_does_not_listen_is_killed_after_the_grace() -> None:
    process = child(*DEAF).start()
    process.wait_until(lambda: "up" in process.log, 10)
    process.stop(grace_s=0.1)
    assert process.returncode == -signal.SIGKILL


def test_a_suspended_one_stands_still_when_suspend_returns() -> None:
    counting = "import itertools, sys\nfor it in itertools.count():\n    print(it, flush=True)"
    with child("timeit", "-n1", "-r1", counting) as process:
        for _ in range(20):
            process.wait_until(lambda: "1" in process.log, 10)
            process.suspend()
            stood = process.log
            threading.Event().wait(0.01)
            assert process.log == stood
            process.resume()


def test_suspending_one_that_has_ended_does_nothing() -> None:
    process = child("timeit", "-n1", "-r1", "import os; os._exit(0)").start()
    process.wait(10)
    process.suspend()
    process.stop()


def test_a_suspended_one_can_be_stopped() -> None:
    process = child(*SLEEPER).start()
    process.wait_until(lambda: "up" in process.log, 10)
    process.suspend()
    process.stop()
    assert process.returncode == -signal.SIGTERM


def test_after_a_kill_it_starts_again_and_its_log_goes_on() -> None:
    with child(*SLEEPER) as process:
        process.wait_until(lambda: process.log.count("up") == 1, 10)
        process.kill()
        process.start()
        process.wait_until(lambda: process.log.count("up") == 2, 10)


def test_it_does_not_start_twice() -> None:
    with child(*SLEEPER) as process, pytest.raises(RuntimeError, match="already runs"):
        process.start()


def test_one_that_ends_before_it_is_ready_shows_its_last_lines() -> None:
    with (
        child("timeit", "-n1", "-r1", "import os; print('cannot go on', flush=True); os._exit(3)") as process,
        pytest.raises(StartError, match=r"the child ended with code 3(.|\n)*  cannot go on"),
    ):
        process.wait_until(lambda: False, 10)


def test_one_that_is_never_ready_is_told_after_the_deadline() -> None:
    with child(*SLEEPER) as process, pytest.raises(StartError, match=r"not ready within 0\.1 s"):
        process.wait_until(lambda: False, 0.1)


def test_before_the_first_start_there_is_nothing_to_ask_or_to_stop() -> None:
    process = child(*SLEEPER)
    process.stop()
    process.kill()
    assert (process.running, process.returncode, process.log) == (False, None, "")
    with pytest.raises(RuntimeError, match="never started"):
        _ = process.pid


def test_waiting_for_one_that_goes_on_times_out() -> None:
    with child(*SLEEPER) as process, pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
