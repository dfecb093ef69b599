"""The types of the fixtures that start things, and whether the things are gone."""

import os
import time
from pathlib import Path
from typing import Protocol

import pytest

from router.demo.llama import LlamaProcess, LlamaSpec
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Script
from tests.rig.router import RouterProcess


class StartFake(Protocol):
    def __call__(self, script: Script = (), **options: object) -> FakeInstance: ...


class StartLlama(Protocol):
    def __call__(self, spec: LlamaSpec | None = None, **changes: object) -> LlamaProcess: ...


class StartRouter(Protocol):
    def __call__(self, config: str, *, ready: str | None = "/readyz") -> RouterProcess: ...


def assert_gone(pid: int, within_s: float = 5.0) -> None:
    """Wait until the process has ended; a zombie that nobody has reaped yet counts as ended."""
    due = time.monotonic() + within_s
    while _lives(pid):
        if time.monotonic() > due:
            pytest.fail(f"process {pid} is still there")
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
