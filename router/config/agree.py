"""Checks between entries of the registry file: what each line alone cannot know.

They look at the values that could be read, so a file with a slip in one place still hears about the others.
"""

from router.config.address import is_loopback, split_listen
from router.config.problem import Path, path_text, quoted
from router.config.reading import Reading
from router.config.schema import HostEntry, InstanceEntry
from router.config.suggest import suggestion


def check_agreement(reading: Reading) -> None:
    """Report every place where two entries of `reading` contradict each other."""
    _check_listen(reading)
    instances = [(path, value) for path, value in reading.values.items() if isinstance(value, InstanceEntry)]
    _check_hosts(reading)
    _check_processes(reading, instances)
    _check_ca_files(reading)
    _check_aliases(reading)


def effective_key(instance: InstanceEntry, host: HostEntry | None) -> str | None:
    """The key that an instance is called with: its own, else its host's."""
    if instance.api_key is not None or host is None:
        return instance.api_key
    return host.api_key


def _check_listen(reading: Reading) -> None:
    listen = reading.values.get(("listen",))
    if not isinstance(listen, str) or is_loopback(split_listen(listen)[0]):
        return
    keys = ("keys_file",)
    if (keys in reading.marks and reading.values.get(keys, "") is not None) or keys in reading.meant:
        return
    reading.report(
        ("listen",),
        "other machines can reach this address, and without keys_file anybody could use it",
        'add "keys_file: keys.yaml", or listen on 127.0.0.1 only',
    )


def _check_hosts(reading: Reading) -> None:
    hosts = reading.names("hosts")
    for path, host in _instance_values(reading, "host"):
        if hosts and host not in hosts:
            hint = suggestion(host, hosts, kind="hosts")
            reading.report(path, f"the host {quoted(host)} is not under hosts", hint)


def _check_processes(reading: Reading, instances: list[tuple[Path, InstanceEntry]]) -> None:
    """One URL is one process: it has one id and one set of settings, and stands once in a pool."""
    by_url: dict[str, tuple[Path, InstanceEntry]] = {}
    by_id: dict[str, tuple[Path, InstanceEntry]] = {}
    for path, entry in instances:
        twin_path, twin = by_url.setdefault(entry.url, (path, entry))
        if twin_path[:2] == path[:2] and twin_path != path:
            hint = "list each server once in a model; slots says how many calls it runs at a time"
            reading.report((*path, "url"), f"is the same server as {path_text(twin_path)}", hint)
        elif twin_path != path:
            _check_twins(reading, path, entry, twin_path, twin)
        name_path, namesake = by_id.setdefault(entry.instance_id, (path, entry))
        if namesake.url != entry.url:
            reading.report(
                (*path, "id"),
                f"the id {quoted(entry.instance_id)} is already that of {path_text(name_path)}",
                "give each server its own id",
            )


def _check_twins(reading: Reading, path: Path, entry: InstanceEntry, twin_path: Path, twin: InstanceEntry) -> None:
    settings = {
        "id": entry.instance_id == twin.instance_id,
        "host": entry.host == twin.host,
        "gpus": entry.gpus == twin.gpus,
        "slots": entry.slots == twin.slots,
        "api_key": _key(reading, entry) == _key(reading, twin),
        "ca_file": entry.ca_file == twin.ca_file,
        "cache_ram_tokens": entry.cache_ram_tokens == twin.cache_ram_tokens,
        "kv_unified": entry.kv_unified == twin.kv_unified,
        "dialect": entry.dialect == twin.dialect,
        "capabilities": entry.capabilities == twin.capabilities,
    }
    for name, same in settings.items():
        if not same and _known(reading, (*path, name)) and _known(reading, (*twin_path, name)):
            reading.report(
                (*path, name),
                f"differs from that of {path_text(twin_path)}, which is the same server (same url)",
                f"write the same {name} in both places",
            )


def _known(reading: Reading, path: Path) -> bool:
    """Say whether a value was read or left out; one that could not be read has its own problem already."""
    return path not in reading.marks or path in reading.values


def _key(reading: Reading, entry: InstanceEntry) -> str | None:
    host = reading.values.get(("hosts", entry.host or ""))
    return effective_key(entry, host if isinstance(host, HostEntry) else None)


def _check_ca_files(reading: Reading) -> None:
    for path, _ in _instance_values(reading, "ca_file"):
        url = reading.values.get((*path[:-1], "url"))
        if isinstance(url, str) and not url.startswith("https://"):
            hint = "write https:// in its url, or leave ca_file out"
            reading.report(path, "is only for https, and the url is http", hint)


def _instance_values(reading: Reading, key: str) -> list[tuple[Path, str]]:
    """The texts under `key` of every instance, also of those that are wrong elsewhere."""
    return [
        (path, value)
        for path, value in reading.values.items()
        if len(path) == 5 and path[0] == "models" and path[4] == key and isinstance(value, str)
    ]


def _check_aliases(reading: Reading) -> None:
    models = reading.names("models")
    owners: dict[str, Path] = {}
    for path, alias in reading.values.items():
        if len(path) != 4 or path[0] != "models" or path[2] != "aliases" or not isinstance(alias, str):
            continue
        if alias in models:
            reason = "is this model's own name" if path[1] == alias else "is the name of another model"
            reading.report(path, f"{quoted(alias)} {reason}", "leave it out, or write another name")
            continue
        owner = owners.setdefault(alias, path)
        if owner != path:
            reason = f"{quoted(alias)} is already an alias of {path_text(owner[:2])}"
            reading.report(path, reason, "keep it in one place: an alias leads to one model")
