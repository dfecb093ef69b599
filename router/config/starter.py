"""The first registry file, written from what running servers said about themselves (`init`).

What they said is not trusted: a field may be missing or of any type, and no text of theirs reaches the file
unquoted or with a line break in it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from router.config.forms import FORMS

_OWN_FIELDS = ("total_slots", "model_path", "model_alias", "default_generation_settings", "build_info", "role")
_SHARD = re.compile(r"-[0-9]{5}-of-[0-9]{5}$")


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a server: the name for clients, and the one to ask the server for where it chooses by it."""

    name: str
    asked: str | None = None
    aliases: tuple[str, ...] = ()
    state: str | None = None


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server that answered. None: it did not say."""

    url: str
    models: tuple[Served, ...]
    router_mode: bool = False
    has_props: bool = True
    slots: int | None = None
    context_tokens: int | None = None
    build: str | None = None
    modalities: tuple[str, ...] = ()
    template_caps: tuple[str, ...] = ()
    metrics_on: bool | None = None
    slots_on: bool | None = None
    key_variable: str | None = None
    """The environment variable that holds its key; None: it asked for none."""


class Silent(msgspec.Struct, frozen=True, kw_only=True):
    """A server that did not answer as one, and why."""

    url: str
    reason: str


def read_server(url: str, props: object, listing: object, *, key_variable: str | None = None) -> Server:
    """Make a Server of the decoded bodies of /props and /v1/models; either may be anything at all.

    It has no models if neither body looks like one of llama-server.
    """
    facts = _mapping(props)
    facts = facts if any(name in facts for name in _OWN_FIELDS) else {}
    router_mode = facts.get("role") == "router"
    entries = [_mapping(entry) for entry in _sequence(_mapping(listing).get("data"))]
    modalities = [name for name, on in _mapping(facts.get("modalities")).items() if on is True]
    caps = [
        name.removeprefix("supports_") for name, on in _mapping(facts.get("chat_template_caps")).items() if on is True
    ]
    return Server(
        url=url,
        models=_router_models(entries) if router_mode else _only_model(facts, entries),
        router_mode=router_mode,
        has_props=bool(facts),
        slots=_count(facts.get("total_slots")),
        context_tokens=_count(_mapping(facts.get("default_generation_settings")).get("n_ctx")),
        build=_text(facts.get("build_info")),
        modalities=("text", *sorted(modalities)),
        template_caps=tuple(sorted(caps)),
        metrics_on=_truth(facts.get("endpoint_metrics")),
        slots_on=_truth(facts.get("endpoint_slots")),
        key_variable=key_variable,
    )


def registry_text(answers: Sequence[Server | Silent]) -> str:
    """Write a commented registry that `load.parse` accepts; at least one Server with a model must be among them."""
    servers = [answer for answer in answers if isinstance(answer, Server)]
    silent = [answer for answer in answers if isinstance(answer, Silent)]
    names = {model.name for server in servers for model in server.models}
    lines = [*_HEAD, *(f"# Needs the environment variable {name}." for name in _variables(servers)), *_LISTEN]
    # Clients see ids, and those that are derived from URLs show addresses; so each server gets one of its own.
    ids = {server.url: f"llama-{number}" for number, server in enumerate(servers, 1)}
    taken = set(names)
    for name in sorted(names):
        pool = [(server, model) for server in servers for model in server.models if model.name == name]
        aliases = sorted({alias for _, model in pool for alias in model.aliases} - taken)
        taken.update(aliases)
        lines += [f"  {_quoted(name)}:"]
        lines += [f"    aliases: [{', '.join(map(_quoted, aliases))}]"] if aliases else []
        lines += ["    instances:"]
        for server, model in pool:
            lines += [f"      # {_about(server, model)}", f"      - {_entry(ids[server.url], server, model)}"]
    if silent:
        lines += ["", "  # These did not answer. Put each under its model once it runs:"]
        lines += [f"  #     - {{url: {_quoted(answer.url)}}}   # {_clean(answer.reason)}" for answer in silent]
    return "\n".join(lines) + "\n"


_HEAD = (
    "# Written by `llama-router init` from what the servers said about themselves. Look it over, then run",
    "# `llama-router check` on it. What is not here has its default. Clients see the ids, not the addresses.",
    '# To let Claude Code use a model under its own names, give the model: aliases: ["claude-*"]',
)
_LISTEN = (
    "listen: 127.0.0.1:8000   # any other address needs keys_file",
    "",
    "models:",
)


def _about(server: Server, model: Served) -> str:
    return _clean(", ".join(_facts(server, model)), 400)


def _facts(server: Server, model: Served) -> Iterator[str]:
    if server.router_mode:
        yield "router mode" + (f" (now {model.state})" if model.state else "")
    if not server.has_props:
        yield "no /props, so slots is a guess: write how many calls it runs at a time"
    if server.slots is not None:
        each = f" of {server.context_tokens} tokens each" if server.context_tokens else ""
        yield f"{server.slots} {'slot' if server.slots == 1 else 'slots'}{each}"
    elif server.has_props:
        yield "slots not known"
    if server.build is not None:
        yield f"build {server.build}"
    if not server.router_mode:
        yield "takes " + " and ".join(server.modalities)
    if server.template_caps:
        yield "template has " + " ".join(server.template_caps)
    for path, on in (("/metrics", server.metrics_on), ("/slots", server.slots_on)):
        if on is not None:
            yield f"{path} {'on' if on else 'off'}"


def _entry(id_: str, server: Server, model: Served) -> str:
    keys = {"id": id_, "url": _quoted(server.url)}
    if model.asked is not None:
        keys["model"] = _quoted(model.asked)
    if not server.has_props:
        keys["slots"] = "1"
    if server.key_variable is not None:
        keys["api_key"] = f'"${{{server.key_variable}}}"'
    return "{" + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}"


def _only_model(facts: Mapping[str, object], entries: Sequence[Mapping[str, object]]) -> tuple[Served, ...]:
    if not facts and not entries:
        return ()
    listed = entries[0] if entries else {}
    path = _text(facts.get("model_path")) or ""
    said = _text(facts.get("model_alias")) or _text(listed.get("id")) or path
    name = _name_of_file(said) if _is_file(said, path) else _safe(said)
    others = {_safe(alias) for alias in map(_text, _sequence(listed.get("aliases"))) if alias}
    return (Served(name=name, aliases=tuple(sorted(others - {name}))),)


def _router_models(entries: Sequence[Mapping[str, object]]) -> tuple[Served, ...]:
    served: dict[str, Served] = {}
    for entry in entries:
        asked = _text(entry.get("id"))
        if asked is not None and asked.isprintable():
            state = _text(_mapping(entry.get("status")).get("value"))
            served.setdefault(_safe(asked), Served(name=_safe(asked), asked=asked, state=state))
    return tuple(served.values())


def _is_file(said: str, path: str) -> bool:
    """Say whether a model is called by its file: without --alias, llama-server answers the path as its name."""
    return said.endswith(".gguf") or said.startswith("/") or said in (path, re.split(r"[/\\]", path)[-1])


def _name_of_file(path: str) -> str:
    stem = re.split(r"[/\\]", path)[-1].removesuffix(".gguf")
    return re.sub(r"[^a-z0-9._-]+", "-", _SHARD.sub("", stem).lower()).strip("-.")[:128] or "model"


def _safe(name: str) -> str:
    try:
        FORMS["model"].read(name)
    except ValueError:
        return _name_of_file(name)
    return name


def _variables(servers: Sequence[Server]) -> list[str]:
    return sorted({server.key_variable for server in servers if server.key_variable is not None})


def _clean(text: str, length: int = 120) -> str:
    """Make text fit for a comment: one line of ASCII."""
    return " ".join(re.sub(r"[^ -~]+", " ", text).split())[:length]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
