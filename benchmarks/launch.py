"""The command that starts each router in a place, and the configuration that it writes there first."""

import hashlib
import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.answers import MODEL

KEY = "bench-key"
MASTER_KEY = f"sk-{secrets.token_hex(32)}"  # LiteLLM starts with no weaker one


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one start happens: an empty folder, free loopback ports, and the two mocks' ports."""

    folder: Path
    port: int
    spare_port: int
    mocks: tuple[int, ...]

    @property
    def log(self) -> Path:
        """What the router writes."""
        return self.folder / "log"

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.mocks]


def serve(place: Place, said: dict[str, object] | None = None, rules: dict[str, object] | None = None) -> list[str]:
    """`said`: what the registry says of each instance beside where it is; `rules`: of all, beside the models."""
    keys = place.folder / "keys.yaml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys.write_text(json.dumps({"keys": [{"id": "bench", "sha256": digest, "team": "bench"}]}))
    instances = [{"id": f"mock-{n}", "url": url, **(said or {})} for n, url in enumerate(place.urls)]
    config = place.folder / "router.yaml"  # JSON is YAML
    registry = {"models": {MODEL: {"instances": instances}}, "keys_file": str(keys), **(rules or {})}
    config.write_text(json.dumps(registry))
    listen = f"127.0.0.1:{place.port}"
    return [sys.executable, "-m", "router", "serve", "--config", str(config), "--listen", listen]


def rust(module: str, level: str, place: Place) -> list[str]:
    """The two share a launcher by descent; left alone they look for their workers each 30 s at start."""
    where = ["--host", "127.0.0.1", "--port", str(place.port), "--prometheus-port", str(place.spare_port)]
    policy = ["--policy", "cache_aware", "--log-level", level, "--worker-startup-check-interval", "1"]
    return [sys.executable, "-m", module, *where, *policy, "--worker-urls", *place.urls]


def nginx(place: Place) -> list[str]:
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


def haproxy(place: Place, balance: str = "leastconn", limit: str = "") -> list[str]:
    """`balance`: lines of the backend; `limit`: what is said of each server beside its address."""
    servers = "\n".join(f"    server m{port} 127.0.0.1:{port}{limit}" for port in place.mocks)
    config = f"""global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 2s
    timeout queue 600s
    timeout client 600s
    timeout server 600s
    http-reuse safe
    option http-no-delay
frontend all
    bind 127.0.0.1:{place.port}
    default_backend mocks
backend mocks
    balance {balance}
{servers}
"""
    (place.folder / "haproxy.cfg").write_text(config)
    return ["haproxy", "-f", str(place.folder / "haproxy.cfg"), "-db"]


def litellm(place: Place) -> list[str]:
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
