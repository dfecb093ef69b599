"""`check`: say what a registry file would run, or everything that is wrong with it. Starts nothing."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TextIO

from router.cli.files import load
from router.config.load import parse
from router.config.problem import ConfigInvalid
from router.config.schema import InstanceEntry, ModelEntry, QueueRules, RouterFile
from router.config.units import duration_text, size_text


def run(path: pathlib.Path, *, out: TextIO, err: TextIO, env: Mapping[str, str]) -> int:
    """Check the file at `path`; return 0 and describe it on `out`, or return 1 with every problem on `err`.

    No key is ever shown, only whether one is set. The files that the registry names are read too, as `serve` does.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        hint = "; `llama-router init` writes a first one" if isinstance(error, FileNotFoundError) else ""
        print(f"{path}: {reason}{hint}", file=err)
        return 1
    try:
        registry = parse(data, env, file=str(path))
        load(path, listen=None, env=env)
    except OSError as error:
        print(f"{path}: keys_file: cannot read {error.filename}: {error.strerror}", file=err)
        return 1
    except ConfigInvalid as invalid:
        for problem in invalid.problems:
            print(problem, file=err)
        count = len(invalid.problems)
        print(f"{count} {'error' if count == 1 else 'errors'} in {path}", file=err)
        return 1
    print("\n".join(_described(registry)), file=out)
    return 0


def _described(registry: RouterFile) -> list[str]:
    rows = [
        ("listen", registry.listen),
        ("keys", registry.keys_file or "none asked for, loopback only"),
        ("queue", _queue_text(registry.queue)),
        ("deadlines", _deadlines_text(registry)),
        (
            "poll",
            f"every {duration_text(registry.poll.every_s)}, {duration_text(registry.poll.deadline_s)} each",
        ),
        (
            "limits",
            f"body {size_text(registry.limits.body_bytes)}, {registry.limits.connections} connections, "
            f"{size_text(registry.limits.key_bytes)} under way per key",
        ),
        ("cors", ", ".join(registry.cors.origins) if registry.cors else "off"),
        ("log", registry.log.level),
    ]
    lines = _aligned(rows)
    for name, model in registry.models.items():
        lines += ["", *_model_lines(name, model)]
    processes = {entry.instance_id for model in registry.models.values() for entry in model.instances}
    return [
        *lines,
        "",
        f"{_counted(len(registry.models), 'model')}, {_counted(len(processes), 'instance')}: good",
    ]


def _queue_text(queue: QueueRules) -> str:
    if queue.max_waiting == 0:
        return "off, nobody waits"
    most = "64 x slots" if queue.max_waiting == "auto" else str(queue.max_waiting)
    return f"at most {most} waiting per model, {duration_text(queue.deadline_s)} each"


def _deadlines_text(registry: RouterFile) -> str:
    rules = registry.deadlines
    named = {
        "connect": rules.connect_s,
        "head": rules.head_s,
        "idle": rules.idle_s,
        "call": rules.call_s,
        "hold": rules.hold_s,
        "shutdown": rules.shutdown_grace_s,
    }
    return ", ".join(f"{name} {duration_text(seconds)}" for name, seconds in named.items())


def _model_lines(name: str, model: ModelEntry) -> list[str]:
    facts = []
    if model.display_name is not None:
        facts.append(f'shown as "{model.display_name}"')
    if model.aliases:
        facts.append(f"also {', '.join(model.aliases)}")
    if model.defaults.max_tokens is not None:
        facts.append(f"max_tokens {model.defaults.max_tokens} unless asked")
    head = f"model {name}" + (f" ({'; '.join(facts)})" if facts else "")
    return [head, *(f"  {line}" for line in _aligned([_instance_row(entry) for entry in model.instances]))]


def _instance_row(entry: InstanceEntry) -> Sequence[str]:
    host = f"host {entry.host}" if entry.host else "no host"
    gpus = f"gpu {','.join(map(str, entry.gpus))}" if entry.gpus else "gpu not known"
    slots = f"slots {entry.slots}" if entry.slots else "slots from /props"
    key = f"key {'set' if entry.api_key else 'none'}"
    more = [f"ca {entry.ca_file}"] if entry.ca_file else []
    more += [f"asked for {entry.model}"] if entry.model else []
    return (entry.instance_id, entry.url, host, gpus, slots, key, ", ".join(more))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
