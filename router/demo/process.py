"""A child process that cannot outlive its parent, with its output at hand."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Self

from router import clock

TAIL_LINES = 30


class StartError(RuntimeError):
    """A child ended, or was not ready in time; the message ends with the last lines that it wrote."""


class ChildProcess:
    """A Python module running as a process of its own, in its own session, so Ctrl-C reaches only us.

    It may be started again after `stop` or `kill`. What it writes goes to a temporary file without a name,
    which `stop` closes; after `kill` it is kept, and the next start appends to it.
    """

    def __init__(self, name: str, module: str, args: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._command = (module, *args)
        self._env = env  # added to ours
        self._popen: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else f"ended {self.returncode}"
        return f"<{type(self).__name__} {self.name} {state}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id, also after the end; RuntimeError before the first start."""
        if self._popen is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it lives; a suspended one does."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """As `subprocess` says it: negative for a signal, None while it runs or before it ever ran."""
        return None if self._popen is None else self._popen.poll()

    @property
    def log(self) -> str:
        """All that it has written since it was last stopped."""
        if self._log is None:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def start(self) -> Self:
        """Start it, without waiting for anything."""
        if self.running:
            raise RuntimeError(f"{self!r} already runs")
        self._log = self._log or tempfile.TemporaryFile()  # noqa: SIM115  # closed by stop
        on_main = threading.current_thread() is threading.main_thread()
        leash = [sys.executable, "-m", "router.demo.leash", str(os.getpid() if on_main else 0)]
        self._popen = subprocess.Popen(  # noqa: S603  # our own modules, no shell
            [*leash, *self._command],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(self._env or {})},
            start_new_session=True,
        )
        return self

    def wait_until(self, ready: Callable[[], bool], deadline_s: float) -> None:
        """Ask `ready` every 20 ms until it says yes; StartError if the process ends or the time does."""
        due = clock.monotonic_s() + deadline_s
        pause = threading.Event()
        while not ready():
            if not self.running:
                raise StartError(f"{self.name} ended with code {self.returncode}.{self.tail()}")
            if clock.monotonic_s() > due:
                raise StartError(f"{self.name} was not ready within {deadline_s:g} s.{self.tail()}")
            pause.wait(0.02)

    def stop(self, grace_s: float = 5.0) -> None:
        """SIGTERM, SIGKILL after the grace, and close the log. Does nothing to one that has ended."""
        if self._popen is not None:
            self.resume()
            self.send(signal.SIGTERM)
            try:
                self._popen.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.kill()
            self._reap()
        if self._log is not None:
            self._log.close()
            self._log = None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self._reap()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, without waiting. Nothing happens to one that has ended."""
        if self._popen is not None and self.running:
            self._popen.send_signal(number)

    def suspend(self) -> None:
        """SIGSTOP, and wait until all its threads stand still: the kernel goes on accepting its connections."""
        if self._popen is not None and self.running:
            self._popen.send_signal(signal.SIGSTOP)
            # A thread in the middle of something may answer once more after the signal was sent.
            os.waitid(os.P_PID, self._popen.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """SIGCONT: go on after `suspend`; otherwise nothing happens."""
        self.send(signal.SIGCONT)

    def wait(self, timeout_s: float) -> int:
        """The return code, once it has ended by itself; subprocess.TimeoutExpired if it has not."""
        if self._popen is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._popen.wait(timeout_s)

    def tail(self) -> str:
        """Its last lines as the end of a message; empty if it wrote nothing."""
        lines = self.log.splitlines()[-TAIL_LINES:]
        return "\n".join(["", "Its last lines:", *(f"  {line}" for line in lines)]) if lines else ""

    def _reap(self) -> None:
        if self._popen is not None:
            self._popen.wait()
            if self._popen.stdin is not None:
                self._popen.stdin.close()
