"""Our router as a process of its own, for tests that look at it from outside.

with RouterProcess(registry([fake], poll={"every": "100ms"})) as router:
    router.wait_ready()
    httpx.post(f"{router.url}/v1/messages", json=...)
    assert "Traceback" not in router.log
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

import pytest
import yaml

from router.demo.llama import answers_ok, free_port
from router.demo.process import ChildProcess
from tests.rig.tee import Tee

MODEL = "test-model"


class HasUrl(Protocol):
    @property
    def url(self) -> str: ...


Listed = str | HasUrl | Mapping[str, object]


class RouterProcess(ChildProcess):
    """`python -m router serve` on a free port of 127.0.0.1 (or `port`), with its log at hand."""

    def __init__(
        self,
        config: str,
        *,
        port: int = 0,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        module: str = "router",
    ) -> None:
        """`module`: what is run instead, such as `tests.rig.impatient`."""
        self.port = port or free_port()
        self._config = config
        self._tee: Tee | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="router-test-")
        self.config_path = Path(self._folder.name) / "router.yaml"
        listen = ["--config", str(self.config_path), "--listen", f"127.0.0.1:{self.port}"]
        super().__init__("router", module, ["serve", *listen, *args], env)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def watched_url(self) -> str:
        """The same through a tee that holds every event stream to the rules: for clients other than our own."""
        if self._tee is None:
            self._tee = Tee(self.port).__enter__()
        return self._tee.url

    def start(self) -> Self:
        self.write_config(self._config)
        return super().start()

    def stop(self, grace_s: float = 10.0) -> None:
        tee, self._tee = self._tee, None
        try:
            if tee is not None:
                tee.__exit__(None, None, None)
        finally:
            super().stop(grace_s)
            self._folder.cleanup()

    def write_config(self, config: str) -> None:
        """Replace the registry file; whether the running router reads it is its own affair."""
        self._config = config
        self.config_path.parent.mkdir(exist_ok=True)
        self.config_path.write_text(config)

    def wait_ready(self, deadline_s: float = 20.0, path: str = "/readyz") -> None:
        """Return once the path answers 200; use /healthz where no instance is meant to be up."""
        self.wait_until(lambda: answers_ok(self.port, path), deadline_s)

    def wait_logged(self, text: str, deadline_s: float = 10.0) -> None:
        """Return once the log contains the text."""
        self.wait_until(lambda: text in self.log, deadline_s)

    @property
    def rss_bytes(self) -> int:
        """Resident memory, as the kernel counts it."""
        status = (self._proc() / "status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])

    @property
    def open_files(self) -> int:
        """File descriptors in use, sockets included."""
        return sum(1 for _ in (self._proc() / "fd").iterdir())

    def _proc(self) -> Path:
        if sys.platform != "linux":
            pytest.skip("looks at the process through /proc")
        return Path("/proc") / str(self.pid)


def registry(
    instances: Sequence[Listed], *, model: str = MODEL, aliases: Sequence[str] = ("claude-*",), **top: object
) -> str:
    """A registry file with one model: its instances are URLs, things with a `url`, or whole entries.

    `top` are the other keys of the file, as it spells them, such as `poll={"every": "100ms"}`; `models` adds
    more models.
    """
    listed = [
        entry if isinstance(entry, Mapping) else {"url": entry if isinstance(entry, str) else entry.url}
        for entry in instances
    ]
    more = top.pop("models", {})
    assert isinstance(more, Mapping)
    entry = {"aliases": list(aliases), "instances": [dict(it) for it in listed]}
    return yaml.safe_dump({"models": {model: entry, **more}, **top}, sort_keys=False)
