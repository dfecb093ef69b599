"""The contenders: our three policies, and what else stands in front of llama-servers, each at its best setting."""

from collections.abc import Callable
from functools import partial

from benchmarks import contenders, launch
from benchmarks.answers import Protocol
from benchmarks.contenders import Contender
from benchmarks.launch import Place
from router.config.schema import InstanceEntry, RouterFile

SLOTS = 2
# Two blocks of a key and a value row of 32 numbers of 2 bytes: the tiny model's KV cache.
BYTES_PER_TOKEN = 2 * 2 * 32 * 2
OURS = "llama-router"


def known(cache_ram_mib: int = 0) -> dict[str, Contender]:
    """All contenders by name, in the order of the table. `cache_ram_mib`: what each server has, told to ours."""
    shelf = contenders.known()
    ours = {f"{OURS}-{policy}": _ours(shelf[OURS], policy, cache_ram_mib) for policy in _policies()}
    peers = {
        "haproxy-session-hash": _haproxy(
            shelf["haproxy"], "hdr(x-claude-code-session-id)\n    hash-type consistent", "", "the session header hashed"
        ),
        "haproxy-leastconn": _haproxy(
            shelf["haproxy"], "leastconn", f" maxconn {SLOTS}", f"leastconn, maxconn {SLOTS} a server, its queue"
        ),
        "sglang-router": shelf["sglang-router"],
        "vllm-router": shelf["vllm-router"],
    }
    return {name: _named(name, contender) for name, contender in {**ours, **peers}.items()}


def _policies() -> tuple[str, ...]:
    """Those that this tree's registry file knows; one that knows none has the least busy alone."""
    return ("ptx", "sticky", "least") if "placement" in RouterFile.__struct_fields__ else ("least",)


def _ours(contender: Contender, policy: str, cache_ram_mib: int) -> Contender:
    said: dict[str, object] = {}
    if "cache_ram_tokens" in InstanceEntry.__struct_fields__:
        said["cache_ram_tokens"] = cache_ram_mib * 2**20 // BYTES_PER_TOKEN
    rules: dict[str, object] = {}
    if "placement" in RouterFile.__struct_fields__:
        rules["placement"] = {"policy": policy}
    on = f"placement {policy}; keys, metrics, log to a file"
    return _with(contender, on, lambda place: launch.serve(place, said, rules))


def _haproxy(contender: Contender, balance: str, limit: str, on: str) -> Contender:
    return _with(contender, f"{on}; no log, keys or metrics", partial(launch.haproxy, balance=balance, limit=limit))


def _with(contender: Contender, on: str, command: Callable[[Place], list[str]]) -> Contender:
    return Contender(
        name=contender.name,
        protocol=contender.protocol,
        on=on,
        version=contender.version,
        command=command,
        headers=contender.headers,
    )


def _named(name: str, contender: Contender) -> Contender:
    return Contender(
        name=name,
        protocol=contender.protocol,
        on=contender.on + (" (the OpenAI route)" if contender.protocol is Protocol.CHAT else ""),
        version=contender.version,
        command=contender.command,
        headers=contender.headers,
        extra=contender.extra,
        env=contender.env,
    )
