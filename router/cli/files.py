"""Reading the registry and what it names. The only place that opens them, for `serve`, `check` and reloads."""

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
    return lambda: load(config, listen=listen, env=env)


def load(config: Path, *, listen: str | None, env: Mapping[str, str]) -> Loaded:
    """Read the registry and its keys file, which stands relative to it.

    Raises:
        ConfigInvalid: with every problem of the registry, or the first of the keys file.
        OSError: a file cannot be read.

    """
    file = parse(config.read_bytes(), env, file=str(config))
    if listen is not None:
        file = msgspec.structs.replace(file, listen=_checked(listen, has_keys=file.keys_file is not None))
    if file.keys_file is None:
        return file, None
    keys_path = config.parent / file.keys_file
    return file, parse_keys(keys_path.read_bytes(), file=str(keys_path))


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
    return ConfigProblem(file="--listen", line=1, column=1, path="", reason=reason)
