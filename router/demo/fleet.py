"""The processes of the demo: llama-servers, the registry file that names them, the router before them."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgspec

from router.demo.llama import LlamaProcess, LlamaSpec, answers_ok, smollm2_path
from router.demo.process import ChildProcess, StartError

MODEL = "smollm2"
CLIENT_MODEL = "claude-local-smollm2"
SLOTS = 2
SLOT_TOKENS = 8192  # all that SmolLM2 was trained for; llama-server caps a larger value to it
CACHE_MIB = 256
LLAMA_READY_S = 120.0
ROUTER_READY_S = 30.0


class Fleet:
    """All of them as one context: entered when everything is ready, left when nothing of it lives."""

    def __init__(self, *, port: int, instances: int, say: Callable[[str], None]) -> None:
        spec = LlamaSpec(
            model_path=smollm2_path(),
            alias=MODEL,
            slots=SLOTS,
            n_ctx=SLOTS * SLOT_TOKENS,
            cache_ram_mib=CACHE_MIB,
        )
        self.port = port
        self.llamas = {f"llama-{number}": LlamaProcess(spec) for number in range(1, instances + 1)}
        self._folder = tempfile.TemporaryDirectory(prefix="llama-router-demo-")
        self.registry = Path(self._folder.name) / "router.yaml"
        listen = ["--config", str(self.registry), "--listen", f"127.0.0.1:{port}"]
        self.router = ChildProcess("the router", "router", ["serve", *listen])
        self._say = say
        self._stack = ExitStack()
        self._mourned: set[str] = set()

    def __repr__(self) -> str:
        return f"<Fleet {self.router!r} {list(self.llamas.values())!r}>"

    @property
    def url(self) -> str:
        """Where the router answers."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._folder)
            for llama in self.llamas.values():
                stack.enter_context(llama)
            for name, llama in self.llamas.items():
                llama.wait_ready(LLAMA_READY_S)
                self._say(f"  {name}  {llama.url}  {SLOTS} slots of {SLOT_TOKENS:,} tokens  pid {llama.pid}")
            self.registry.write_bytes(msgspec.yaml.encode(registry(self.llamas)))
            stack.enter_context(self.router)
            self.router.wait_until(lambda: answers_ok(self.port, "/readyz"), ROUTER_READY_S)
            self._say(f"  router   {self.url}  pid {self.router.pid}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self) -> None:
        """Say, once each, which instances have died; StartError if the router has."""
        for name, llama in self.llamas.items():
            if not llama.running and name not in self._mourned:
                self._mourned.add(name)
                self._say(f"{name} has died ({_cause(llama)}). The router goes on without it.")
        if not self.router.running:
            raise StartError(f"The router has died ({_cause(self.router)}).{self.router.tail()}")


def registry(llamas: dict[str, LlamaProcess]) -> dict[str, object]:
    """The registry file as plain values."""
    model = {
        # Claude Code also calls models that nobody named: the pattern takes those.
        "aliases": [CLIENT_MODEL, "claude-*"],
        "display_name": "SmolLM2 135M",
        # Its template shows no tools to it. Claude Code always sends some; here they are dropped and the call goes on.
        "tools": "pass",
        "instances": [{"id": name, "url": llama.url} for name, llama in llamas.items()],
    }
    return {"models": {MODEL: model}, "deadlines": {"shutdown_grace": "1s"}}


def _cause(process: ChildProcess) -> str:
    code = process.returncode
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
