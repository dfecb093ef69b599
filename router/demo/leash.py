"""Run a module so that it dies with its parent: `python -m router.demo.leash PPID MODULE ARGUMENT...`.

Two ties, because neither is enough. The kernel's (Linux only) kills even a stopped child, but goes by the
thread that started it, so the parent gives PPID 0 when that is not its main thread. The pipe's works
everywhere: standard input is held open by the parent alone and ends when the parent does.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tie(parent_pid: int) -> None:
    """Arrange to be killed when the parent dies; at once if it has died already."""
    threading.Thread(target=_die_at_end_of_input, name="leash", daemon=True).start()
    if sys.platform == "linux" and parent_pid:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            _die()


def _die_at_end_of_input() -> None:
    while os.read(0, 1024):
        pass
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
