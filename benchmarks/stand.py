"""Starts and stops what one visit needs: two mocks, a router on a core of its own, the generator."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks import bodies, measure
from benchmarks.contenders import Contender
from benchmarks.jobs import Job, Window
from benchmarks.launch import Place
from router.demo.llama import free_port

START_S = 60.0
STOP_S = 10.0
MOCKS = 2


class StartFailed(Exception):
    """A router did not come up; the message has the end of its log."""


class Cores:
    """One core for the router alone, another for all that measures it; the same one if there is no second."""

    def __init__(self) -> None:
        allowed = measure.cores()
        self.router = allowed[0]
        self.rest = allowed[1] if len(allowed) > 1 else allowed[0]
        self.shared = len(allowed) < 2


class Generator:
    """The load generator's process; it outlives the routers, so that its bodies are made once."""

    def __init__(self, core: int) -> None:
        self._process = _start([sys.executable, "-m", "benchmarks.load"], core, subprocess.PIPE)

    def do(self, job: Job) -> Window:
        """Have a job done; it ends by itself, faults and all."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        process.stdin.flush()
        return msgspec.json.decode(process.stdout.readline(), type=Window)

    def close(self) -> None:
        _stop(self._process)


@contextmanager
def generator(cores: Cores) -> Iterator[Generator]:
    """A generator that is gone at the end."""
    made = Generator(cores.rest)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def mocks(cores: Cores, count: int = MOCKS) -> Iterator[tuple[int, ...]]:
    """The ports of fresh mock instances."""
    started = []
    try:
        ports = []
        for _ in range(count):
            process = _start([sys.executable, "-m", "benchmarks.mock"], cores.rest, subprocess.PIPE)
            started.append(process)
            assert process.stdout is not None
            ports.append(int(process.stdout.readline()))
        yield tuple(ports)
    finally:
        for process in started:
            _stop(process)


@contextmanager
def router(contender: Contender, upstream: Sequence[int], cores: Cores) -> Iterator[tuple[int, int]]:
    """The port and the pid of a running router on the router's core; pid 0 stands for none.

    Raises:
        StartFailed: it ended, or did not answer a call within START_S.

    """
    with standing(contender, upstream, cores.router) as (place, pid):
        yield place.port, pid


@contextmanager
def standing(contender: Contender, upstream: Sequence[int], core: int | None) -> Iterator[tuple[Place, int]]:
    """A running router's place, which is gone afterwards, and its pid. `core` None: it runs where there is room.

    Raises:
        StartFailed: it ended, or did not answer a call within START_S.

    """
    with TemporaryDirectory(prefix="bench-") as folder:
        place = Place(folder=Path(folder), port=free_port(), spare_port=free_port(), mocks=tuple(upstream))
        if contender.command is None:
            yield dataclasses.replace(place, port=upstream[0]), 0
            return
        with place.log.open("wb") as out:
            process = _start(contender.command(place), core, out.fileno(), contender.env)
        try:
            _await_answer(contender, place, process)
            yield place, process.pid
        finally:
            _stop(process)


def _start(
    command: list[str], core: int | None, out: int, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start on a core: affinity is inherited, and a runtime that counts its cores at start sees one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    stdin = subprocess.PIPE if out == subprocess.PIPE else subprocess.DEVNULL
    errors = None if out == subprocess.PIPE else subprocess.STDOUT
    try:
        return subprocess.Popen(command, stdin=stdin, stdout=out, stderr=errors, env=os.environ | (env or {}))
    finally:
        os.sched_setaffinity(0, before)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started, and its children if it will not end them itself."""
    family = measure.tree(process.pid) if process.poll() is None else []
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait(STOP_S)
    if process.stdout is not None:
        process.stdout.close()


def _await_answer(contender: Contender, place: Place, process: subprocess.Popen[bytes]) -> None:
    """Call until a call is answered: only that says that a router knows its instances."""
    deadline = time.monotonic() + START_S
    said = "no answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = f"ended with {process.returncode}"
            break
        said = _ask(contender, place.port)
        if said == "200":
            return
        time.sleep(0.1)
    raise StartFailed(f"{said}\n{place.log.read_text(errors='replace')[-2000:]}")


def _ask(contender: Contender, port: int) -> str:
    """The status of one small call, or what went wrong."""
    body = bodies.small(0, contender.extra)
    headers = {"Content-Type": "application/json", "Connection": "close", **contender.headers}
    lines = [f"POST {contender.protocol.value} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
            wire.sendall("\r\n".join(lines).encode() + body)
            first = wire.recv(4096)
    except OSError as error:
        return str(error)
    return first[9:12].decode("latin-1")
