"""Reading the registry and what it names. The only place that opens them, for `serve`, `check` and reloads."""

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from router.config.address import is_loopback, read_listen, split_listen
from router.config.keys import KeyEntry, parse_keys
from router.config.load import parse
from router.config.problem import ConfigInvalid, ConfigProblem
from router.config.schema import RouterFile

Loaded = tuple[RouterFile, tuple[KeyEntry, ...] | None]


def loader(config: Path, *, listen: str | None, env: Mapping[str, str]) -> Callable[[], Loaded]:
    """Bind the arguments, for whoever reads again later."""
    return lambda: load(config, listen=listen, env=env, name=lambda path: path.name)


def load(config: Path, *, listen: str | None, env: Mapping[str, str], name: Callable[[Path], str] = str) -> Loaded:
    """Read the registry and what it names, which stands relative to it.

    `name`: how files are called in problems. On the command line by their path; a running router answers and logs only
    their last part, since its log and its answers name no place on its machine.

    Raises:
        ConfigInvalid: with every problem of the registry, or the first of the keys file.
        OSError: a file cannot be read.

    """
    file = _with_ca_files(parse(config.read_bytes(), env, file=name(config)), config, name)
    if listen is not None:
        file = msgspec.structs.replace(file, listen=_checked(listen, has_keys=file.keys_file is not None))
    if file.keys_file is None:
        return file, None
    keys_path = config.parent / file.keys_file
    return file, parse_keys(keys_path.read_bytes(), file=name(keys_path))


def _with_ca_files(file: RouterFile, config: Path, name: Callable[[Path], str]) -> RouterFile:
    """Find each ca_file relative to the registry and see that it can be used, before a call depends on it."""
    models = {}
    for title, model in file.models.items():
        instances = []
        for index, instance in enumerate(model.instances):
            if instance.ca_file is not None:
                path = config.parent / instance.ca_file
                _check_ca_file(path, name(config), f"models.{title}.instances[{index}].ca_file")
                instance = msgspec.structs.replace(instance, ca_file=str(path))
            instances.append(instance)
        models[title] = msgspec.structs.replace(model, instances=tuple(instances))
    return msgspec.structs.replace(file, models=models)


def _check_ca_file(path: Path, file: str, where: str) -> None:
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no PEM certificate"
        reason = f"cannot be used: {why}; paths are relative to the registry"
        raise ConfigInvalid([ConfigProblem(file=file, line=1, column=1, path=where, reason=reason)]) from None


def _checked(listen: str, *, has_keys: bool) -> str:
    """The same rules for --listen as for the file's own address."""
    try:
        read_listen(listen)
    except ValueError as error:
        raise ConfigInvalid([_problem(str(error))]) from None
    if not has_keys and not is_loopback(split_listen(listen)[0]):
        raise ConfigInvalid(
            [_problem("other machines could connect, and without a keys_file nobody would be asked for a key; add one")]
        )
    return listen


def _problem(reason: str) -> ConfigProblem:
    return ConfigProblem(file="--listen", line=0, column=0, path="", reason=reason)
