"""The routers: how each is started, which protocol it speaks, and what of it was switched on."""

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks import launch
from benchmarks.answers import Protocol
from benchmarks.launch import Place


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
    listed = [_ours(), _translated(), _chat(), _sglang(), _vllm(), _nginx(), _haproxy(), _litellm(), _direct()]
    return {contender.name: contender for contender in listed}


def _ours() -> Contender:
    return Contender(
        name="llama-router",
        protocol=Protocol.MESSAGES,
        on="keys, placement, metrics, log to a file",
        version=lambda: _package("llama-router"),
        command=launch.serve,
        headers={"Authorization": f"Bearer {launch.KEY}", "anthropic-version": "2023-06-01"},
    )


def _translated() -> Contender:
    """Ours when every call has to be translated: the instances are said to have no /v1/messages."""
    return Contender(
        name="llama-router-translated",
        protocol=Protocol.MESSAGES,
        on="as llama-router; instances without /v1/messages, so that all is translated both ways",
        version=lambda: _package("llama-router"),
        command=lambda place: launch.serve(place, {"capabilities": {"messages": False}}),
        headers={"Authorization": f"Bearer {launch.KEY}", "anthropic-version": "2023-06-01"},
    )


def _chat() -> Contender:
    """Ours for a client of the OpenAI API."""
    return Contender(
        name="llama-router-chat",
        protocol=Protocol.CHAT,
        on="as llama-router; the client calls /v1/chat/completions",
        version=lambda: _package("llama-router"),
        command=launch.serve,
        headers={"Authorization": f"Bearer {launch.KEY}"},
    )


def _sglang() -> Contender:
    return Contender(
        name="sglang-router",
        protocol=Protocol.CHAT,
        on="cache_aware, metrics, log at its default level, no keys",
        version=lambda: _package("sglang-router"),
        command=lambda place: launch.rust("sglang_router.launch_router", "info", place),
    )


def _vllm() -> Contender:
    return Contender(
        name="vllm-router",
        protocol=Protocol.CHAT,
        on="cache_aware, metrics, log at its default level, no keys",
        version=lambda: _package("vllm-router"),
        command=lambda place: launch.rust("vllm_router.launch_router", "info", place),
    )


def _nginx() -> Contender:
    return Contender(
        name="nginx",
        protocol=Protocol.MESSAGES,
        on="least_conn, access log to a file; no keys, metrics or placement",
        version=lambda: _says(["nginx", "-v"]),
        command=launch.nginx,
    )


def _haproxy() -> Contender:
    return Contender(
        name="haproxy",
        protocol=Protocol.MESSAGES,
        on="leastconn, http-no-delay; no log, keys or placement",
        version=lambda: _says(["haproxy", "-v"]),
        command=launch.haproxy,
    )


def _litellm() -> Contender:
    return Contender(
        name="litellm",
        protocol=Protocol.CHAT,
        on="its defaults, a master key, no database",
        version=lambda: _package("litellm") if importlib.util.find_spec("litellm") else None,
        command=launch.litellm,
        headers={"Authorization": f"Bearer {launch.MASTER_KEY}"},
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": launch.MASTER_KEY},
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
