"""A child dies with the process that started it, however that one ends."""

import subprocess
import sys

import pytest

from tests.rig.start import assert_gone

PROGRAM = """
import os, signal, threading
from router.demo.process import ChildProcess
code = "import signal; print('up', flush=True); signal.pause()"
child = ChildProcess("the child", "timeit", ["-n1", "-r1", code])
def start():
    child.start()
    child.wait_until(lambda: "up" in child.log, 10)
"""
STARTS = {
    "from the main thread": "start()\n",
    "from another thread": "it = threading.Thread(target=start); it.start(); it.join()\n",
    "suspended": "start(); child.suspend()\n",
}
ENDS = {
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "ended in a hurry": "os._exit(0)",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_a_child_dies_with_its_parent(start: str, end: str) -> None:
    if "suspend" in start and sys.platform != "linux":
        pytest.skip("only Linux kills a stopped child with its parent")
    program = f"{PROGRAM}{start}print(child.pid, flush=True)\n{end}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=30)
    assert_gone(int(ended.stdout))


def test_a_child_survives_the_thread_that_started_it() -> None:
    program = f"{PROGRAM}{STARTS['from another thread']}print(child.running, flush=True)\nchild.stop()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=30)
    assert ended.stdout == b"True\n"
