"""The routers: how each is started, which protocol it speaks, and what of it was switched on."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.answers import MODEL, Protocol

KEY = "bench-key"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one start happens: an empty folder, free loopback ports, and the two mocks' ports."""

    folder: Path
    port: int
    spare_port: int
    mocks: tuple[int, ...]

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.mocks]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A router that can stand between the generator and the mocks."""

    name: str
    protocol: Protocol
    on: str
    """What was switched on, for the reader of the table."""
    version: Callable[[], str | None]
    """None when it is not installed."""
    command: Callable[[Place], list[str]] | None
    """Writes what it needs into the place; None is no router at all."""
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, object] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    default: bool = True


def known() -> dict[str, Contender]:
    """All contenders by name, in the order of the table."""
    listed = [_ours(), _translated(), _sglang(), _vllm(), _nginx(), _haproxy(), _litellm(), _direct()]
    return {contender.name: contender for contender in listed}


def _ours() -> Contender:
    return Contender(
        name="llama-router",
        protocol=Protocol.MESSAGES,
        on="keys, placement, metrics, log to a file",
        version=lambda: _package("llama-router"),
        command=_serve,
        headers={"Authorization": f"Bearer {KEY}", "anthropic-version": "2023-06-01"},
    )


def _translated() -> Contender:
    """Ours when a request asks for what llama-server's native path would lose."""
    return Contender(
        name="llama-router-translated",
        protocol=Protocol.MESSAGES,
        on="as llama-router, each call translated to chat completions and back",
        version=lambda: _package("llama-router"),
        command=_serve,
        headers={"Authorization": f"Bearer {KEY}", "anthropic-version": "2023-06-01"},
        extra={"thinking": {"type": "disabled"}},
        default=False,
    )


def _sglang() -> Contender:
    return Contender(
        name="sglang-router",
        protocol=Protocol.CHAT,
        on="cache_aware, metrics, log level warn, no keys",
        version=lambda: _package("sglang-router"),
        command=lambda place: _rust("sglang_router.launch_router", "info", place),
    )


def _vllm() -> Contender:
    return Contender(
        name="vllm-router",
        protocol=Protocol.CHAT,
        on="cache_aware, metrics, log level warn, no keys",
        version=lambda: _package("vllm-router"),
        command=lambda place: _rust("vllm_router.launch_router", "info", place),
    )


def _nginx() -> Contender:
    return Contender(
        name="nginx",
        protocol=Protocol.MESSAGES,
        on="least_conn, access log to a file; no keys, metrics or placement",
        version=lambda: _says(["nginx", "-v"]),
        command=_nginx_command,
    )


def _haproxy() -> Contender:
    return Contender(
        name="haproxy",
        protocol=Protocol.MESSAGES,
        on="leastconn, http-no-delay; no log, keys or placement",
        version=lambda: _says(["haproxy", "-v"]),
        command=_haproxy_command,
    )


def _litellm() -> Contender:
    return Contender(
        name="litellm",
        protocol=Protocol.CHAT,
        on="its defaults, no keys, no database",
        version=lambda: _package("litellm") if importlib.util.find_spec("litellm") else None,
        command=_litellm_command,
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1"},
        default=False,
    )


def _direct() -> Contender:
    return Contender(
        name="direct",
        protocol=Protocol.MESSAGES,
        on="no router: the generator on one mock",
        version=lambda: "",
        command=None,
    )


def _serve(place: Place) -> list[str]:
    keys = place.folder / "keys.yaml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys.write_text(json.dumps({"keys": [{"id": "bench", "sha256": digest, "team": "bench"}]}))
    instances = [{"id": f"mock-{n}", "url": url} for n, url in enumerate(place.urls)]
    config = place.folder / "router.yaml"  # JSON is YAML
    config.write_text(json.dumps({"models": {MODEL: {"instances": instances}}, "keys_file": str(keys)}))
    listen = f"127.0.0.1:{place.port}"
    return [sys.executable, "-m", "router", "serve", "--config", str(config), "--listen", listen]


def _rust(module: str, level: str, place: Place) -> list[str]:
    """The two share a launcher by descent; left alone they look for their workers each 30 s at start."""
    where = ["--host", "127.0.0.1", "--port", str(place.port), "--prometheus-port", str(place.spare_port)]
    policy = ["--policy", "cache_aware", "--log-level", level, "--worker-startup-check-interval", "1"]
    return [sys.executable, "-m", module, *where, *policy, "--worker-urls", *place.urls]


def _nginx_command(place: Place) -> list[str]:
    servers = " ".join(f"server 127.0.0.1:{port};" for port in place.mocks)
    temps = " ".join(
        f"{kind}_temp_path {place.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    # 1 MB of body buffer, or every 400 KB body goes through a file.
    config = f"""{user} worker_processes 1; daemon off; pid {place.folder}/pid;
        error_log {place.folder}/error.log warn;
        events {{ worker_connections 4096; }}
        http {{ access_log {place.folder}/access.log; {temps}
            client_max_body_size 64m; client_body_buffer_size 1m;
            upstream mocks {{ least_conn; {servers} keepalive 256; }}
            server {{ listen 127.0.0.1:{place.port};
                location / {{ proxy_pass http://mocks; proxy_http_version 1.1;
                    proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 600s; }} }} }}
        """
    (place.folder / "nginx.conf").write_text(config)
    return ["nginx", "-p", str(place.folder), "-c", "nginx.conf", "-e", f"{place.folder}/error.log"]


def _haproxy_command(place: Place) -> list[str]:
    servers = "\n".join(f"    server m{port} 127.0.0.1:{port}" for port in place.mocks)
    config = f"""global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 2s
    timeout client 600s
    timeout server 600s
    http-reuse safe
    option http-no-delay
frontend all
    bind 127.0.0.1:{place.port}
    default_backend mocks
backend mocks
    balance leastconn
{servers}
"""
    (place.folder / "haproxy.cfg").write_text(config)
    return ["haproxy", "-f", str(place.folder / "haproxy.cfg"), "-db"]


def _litellm_command(place: Place) -> list[str]:
    models = [
        {
            "model_name": MODEL,
            "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"},
        }
        for url in place.urls
    ]
    config = place.folder / "litellm.yaml"
    config.write_text(json.dumps({"model_list": models}))
    program = str(Path(sys.executable).parent / "litellm")
    return [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(place.port)]


def _package(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _says(command: list[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)
    return found.group() if found else "?"
