"""From the file to the fleet: instances by id, pools by name, and how a model name finds its pool.

Built whole or not at all; nothing in a Registry ever changes.
"""

import difflib
import re
from collections.abc import Mapping
from functools import cached_property
from urllib.parse import urlsplit

import msgspec

from router.config.schema import InstanceEntry, ModelEntry, RouterFile
from router.errors import ModelNotFound
from router.fleet.instance import Instance, InstanceId

MAX_NAME_CHARS = 200


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """The instances that serve one model. `default_max_tokens` None: a request must bring its own.

    `upstream_models`: what an instance calls this model, where that is not what the client calls it. `pass_tools`: also
    to a model whose template does not show them.
    """

    name: str
    aliases: tuple[str, ...]
    display_name: str
    instance_ids: tuple[InstanceId, ...]
    upstream_models: Mapping[InstanceId, str] = {}
    default_max_tokens: int | None = None
    pass_tools: bool = False


class Registry(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Everything the file names. `dict=True` only for the cached name tables below."""

    instances: Mapping[InstanceId, Instance]
    pools: Mapping[str, Pool]

    @cached_property
    def _exact(self) -> dict[str, Pool]:
        table = {alias: pool for pool in self.pools.values() for alias in pool.aliases if "*" not in alias}
        return table | dict(self.pools)

    @cached_property
    def _globs(self) -> list[tuple[re.Pattern[str], Pool]]:
        """Longest pattern first; the same length by the file's order."""
        globs = [(alias, pool) for pool in self.pools.values() for alias in pool.aliases if "*" in alias]
        globs.sort(key=lambda entry: -len(entry[0]))
        return [(_glob_pattern(alias), pool) for alias, pool in globs]

    def names(self) -> list[str]:
        """Every name that a client can ask for and that is not a pattern, in the file's order."""
        return [
            name
            for pool in self.pools.values()
            for name in (pool.name, *(alias for alias in pool.aliases if "*" not in alias))
        ]

    def resolve(self, name: str) -> Pool:
        """Find the pool: exact name, then alias, then the longest pattern.

        Raises:
            ModelNotFound: naming the nearest names that exist.

        """
        if pool := self._exact.get(name):
            return pool
        # Client's text: a longer one would keep patterns with several stars busy for seconds.
        for pattern, pool in self._globs if len(name) <= MAX_NAME_CHARS else ():
            if pattern.fullmatch(name):
                return pool
        told = name[:MAX_NAME_CHARS]
        raise ModelNotFound(f"model: {told!r} is not served here; {_nearest(told, self.names())}")


def _nearest(name: str, names: list[str]) -> str:
    if near := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        return "did you mean " + " or ".join(f'"{candidate}"' for candidate in near) + "? GET /v1/models lists all"
    return "there are " + ", ".join(f'"{candidate}"' for candidate in names[:5]) + "; GET /v1/models lists all"


def _glob_pattern(glob: str) -> re.Pattern[str]:
    """Only `*` means something, since model names hold brackets and question marks."""
    return re.compile(".*".join(re.escape(part) for part in glob.split("*")), re.DOTALL)


def build(file: RouterFile) -> Registry:
    """Turn a checked file into a registry. One URL under several models is one instance in several pools."""
    instances: dict[InstanceId, Instance] = {}
    pools: dict[str, Pool] = {}
    for name, model in file.models.items():
        for entry in model.instances:
            known = instances.get(entry.instance_id)
            in_pools = (*(known.pools if known else ()), name)
            instances[entry.instance_id] = msgspec.structs.replace(_instance(entry), pools=in_pools)
        pools[name] = _pool(name, model)
    return Registry(instances=instances, pools=pools)


def _pool(name: str, model: ModelEntry) -> Pool:
    return Pool(
        name=name,
        aliases=tuple(model.aliases),
        display_name=model.display_name or name,
        instance_ids=tuple(entry.instance_id for entry in model.instances),
        upstream_models={entry.instance_id: entry.model for entry in model.instances if entry.model},
        default_max_tokens=model.defaults.max_tokens,
        pass_tools=model.tools == "pass",
    )


def _instance(entry: InstanceEntry) -> Instance:
    url = urlsplit(entry.url)
    tls = url.scheme == "https"
    return Instance(
        id=entry.instance_id,
        address=url.hostname or "",
        port=url.port or (443 if tls else 80),
        authority=url.netloc,
        tls=tls,
        prefix=url.path.rstrip("/"),
        host=entry.host,
        gpus=tuple(entry.gpus),
        slots=entry.slots,
        api_key=entry.api_key,
        ca_file=entry.ca_file,
        cache_ram_tokens=None if entry.cache_ram_tokens == "auto" else entry.cache_ram_tokens,
        kv_unified=entry.kv_unified,
        dialect=entry.dialect,
        capabilities=entry.capabilities,
    )
