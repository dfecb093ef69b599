"""From the bytes of a registry file to a checked RouterFile, or to every problem in it; opens nothing."""

from collections.abc import Mapping

import msgspec

from router.config import tree
from router.config.agree import check_agreement, effective_key
from router.config.problem import ConfigInvalid
from router.config.reading import Reading
from router.config.schema import HostEntry, ModelEntry, RouterFile
from router.config.walk import Walk

_FILE_TYPE = msgspec.inspect.type_info(RouterFile)


def parse(data: bytes, env: Mapping[str, str], *, file: str = "router.yaml") -> RouterFile:
    """Read a registry file; `env` fills in "${NAME}", `file` is only its name for the problems.

    In what is returned every instance has its id and, where its host has one, its key, and URLs have no
    slash at the end. Files named in it (`keys_file`, `ca_file`) are not looked at. Raises ConfigInvalid
    and nothing else.
    """
    root = tree.compose(data, file=file)
    reading = Reading(file=file)
    registry = Walk(reading, env).read(root, _FILE_TYPE, ())
    check_agreement(reading)
    if reading.problems or not isinstance(registry, RouterFile):
        raise ConfigInvalid(reading.problems)
    models = {name: _settled(model, registry.hosts) for name, model in registry.models.items()}
    return msgspec.structs.replace(registry, models=models)


def _settled(model: ModelEntry, hosts: Mapping[str, HostEntry]) -> ModelEntry:
    """Fill in what an instance takes from elsewhere: its id from the URL, its key from the host."""
    instances = tuple(
        msgspec.structs.replace(
            instance, id=instance.instance_id, api_key=effective_key(instance, hosts.get(instance.host or ""))
        )
        for instance in model.instances
    )
    return msgspec.structs.replace(model, instances=instances)
