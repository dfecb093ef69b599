"""The registry file as values: one Struct per mapping of the YAML, one field per key.

The text under a field is its manual: what it does, its default and unit, what leaving it out or zero
means, and when not to use it. `schema_json` copies these texts into the JSON Schema that editors show. A
field whose name carries a unit (`deadline_s`) is written without it in the file (`deadline: 120s`).

The Structs hold what `load.parse` checked. Building one by hand, as tests do, checks nothing.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from router.config.address import derived_id

# How a value is written is named here and defined in `forms`, which knows how to read and explain each one.
Seconds = Annotated[float, Meta(gt=0, extra={"form": "duration"})]
SecondsOrZero = Annotated[float, Meta(ge=0, extra={"form": "duration"})]
Bytes = Annotated[int, Meta(ge=1, extra={"form": "size"})]
Listen = Annotated[str, Meta(extra={"form": "listen"})]
Url = Annotated[str, Meta(extra={"form": "url"})]
MetricsUrl = Annotated[str, Meta(extra={"form": "metrics_url"})]
Origin = Annotated[str, Meta(extra={"form": "origin"})]
InstanceId = Annotated[str, Meta(extra={"form": "id"})]
ModelName = Annotated[str, Meta(extra={"form": "model"})]
HostName = Annotated[str, Meta(extra={"form": "host"})]
Alias = Annotated[str, Meta(extra={"form": "alias"})]
Secret = Annotated[str, Meta(extra={"form": "secret"})]
Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]


class QueueRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long calls wait when every slot of their pool is taken, and how many may."""

    max_waiting: CountOrZero | Literal["auto"] = "auto"
    """Calls that may wait for one model at a time; one more is refused at once with 529. `auto`: 64 x the
    slots of the pool. 0: nobody waits. Raise it only together with `deadline`: a queue longer than what is
    served within the deadline ends in refusals anyway, only later."""
    max_bytes: Bytes = 256 * 1024 * 1024
    """Request bodies held in memory by all waiting calls together. Default 256MiB; a call that would go over it is
    refused with 529. A Claude Code turn has 50 to 500 KiB."""
    deadline_s: Seconds = field(name="deadline", default=120.0)
    """How long a call may wait for a slot before it is refused. Default 120s. Longer than the
    client's own timeout is useless: the client hangs up first."""


class HostEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the instances of one machine share."""

    gpu_metrics: MetricsUrl | None = None
    """Where the machine's GPU exporter answers, such as "http://rig1:9400/metrics". Kept, not read yet: this
    release shows no GPU figures. Left out: none."""
    api_key: Secret | None = None
    """The key for every instance of this host that has none of its own. Best written as "${NAME}", which is
    taken from the environment. Left out: no key."""

    def __repr__(self) -> str:
        return f"HostEntry(gpu_metrics={self.gpu_metrics!r}, api_key={_masked(self.api_key)})"


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an instance can do, where it does not say so itself.

    A key that is left out: what /props says, and where that is silent, that it can.
    """

    messages: bool | None = None
    """It answers POST /v1/messages without losing anything that the router cannot mend. Left out: asked once when the
    instance is first seen, for llama-server; false for other servers, which are then sent chat completions."""
    images: bool | None = None
    """It takes pictures. Left out: what /props says of its modalities; for servers without /props, yes."""
    tools: bool | None = None
    """Its chat template shows tools to the model. Left out: what /props says of the template; for servers without
    /props, yes."""
    thinking: bool | None = None
    """Its chat template obeys `enable_thinking`, so that a client can turn thinking off and on. Left out: whether the
    template names it; for servers without /props, no."""
    effort: bool | None = None
    """Its chat template obeys `reasoning_effort`. Left out: whether the template names it; for servers without /props,
    no."""


class InstanceEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One running server: a llama-server, or by `dialect` another.

    One process may be listed under several models (router mode): then every entry with its URL has the same
    id and settings, and only `model` differs. Capacity and health belong to the process.
    """

    url: Url
    """Where it answers, such as "http://rig1:8080". A path is taken as a prefix (llama-server's
    --api-prefix), so leave /v1 out. Credentials do not go here: use `api_key`."""
    id: InstanceId | None = None
    """The name in logs, metrics and headers; clients can see it. Left out: host and port of the URL
    (`rig1-8080`); after loading it is never None. Give one if addresses change or should stay private."""
    host: HostName | None = None
    """The machine that it runs on, a key of `hosts` if that lists any; instances with the same host share
    its settings. Left out: a machine that nobody else is known to share."""
    gpus: tuple[CountOrZero, ...] = ()
    """The GPU numbers on that host that it uses. Left out: not known. For display; nothing is pinned to a
    GPU."""
    slots: Count | None = None
    """Calls that it runs at a time. Left out: read from /props, which is right for every llama-server that
    answers it. Give it for servers that have no /props, which take no calls without it, for one behind something that
    hides /props, or to use fewer slots than it has; more than it has makes calls wait inside the server, where nobody
    can move them."""
    api_key: Secret | None = None
    """The key it was started with (--api-key), best written as "${NAME}". Left out: the key of its `host`;
    after loading that key stands here. Never shown."""
    ca_file: str | None = None
    """A PEM file with the certificate authority to trust for this instance; https only. Left out: the
    system's."""
    cache_ram_tokens: CountOrZero | Literal["auto"] = "auto"
    """How many tokens its prompt cache in RAM holds: --cache-ram over the bytes of KV that one token takes; 0 with
    --cache-ram 0. auto: a guess for the default of 8 GiB, corrected by what answers say."""
    kv_unified: bool = False
    """It was started with --kv-unified, or without --parallel: idle slots are cleared once they are saved."""
    dialect: Literal["auto", "llama", "openai", "anthropic"] = "auto"
    """What it speaks. `auto`: llama-server's if its /props says that it is one, else chat completions. `openai`: chat
    completions alone (vLLM, SGLang, hosted ones). `anthropic`: the Messages API alone, and exactly; bodies go there as
    they came. Needs `slots` wherever there is no /props."""
    capabilities: Capabilities = field(default_factory=Capabilities)
    """What it can do, where it does not say so itself."""
    model: str | None = None
    """The model name to send to this instance instead of the client's: for servers that choose a model by
    it (router mode, llama-swap, vLLM). Left out: the client's name is sent, and a plain llama-server ignores it."""

    @property
    def instance_id(self) -> str:
        """The id, or the one derived from the URL: what every entry with this URL is known by."""
        return self.id if self.id is not None else derived_id(self.url)

    def __repr__(self) -> str:
        return (
            f"InstanceEntry(url={self.url!r}, id={self.id!r}, host={self.host!r}, gpus={self.gpus!r}, "
            f"slots={self.slots!r}, api_key={_masked(self.api_key)}, ca_file={self.ca_file!r}, "
            f"cache_ram_tokens={self.cache_ram_tokens!r}, kv_unified={self.kv_unified!r}, "
            f"dialect={self.dialect!r}, capabilities={self.capabilities!r}, model={self.model!r})"
        )


class ModelDefaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a call to this model gets where the client said nothing."""

    max_tokens: Count | None = None
    """The most tokens to generate, for dialects where the client may leave that out. Left out: the instance's
    own default, which for llama-server means until the context is full."""


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model name that clients can call, and the instances that serve it (its pool)."""

    instances: Annotated[tuple[InstanceEntry, ...], Meta(min_length=1)]
    """The llama-servers that serve it, at least one. Their order does not matter."""
    aliases: tuple[Alias, ...] = ()
    """Other names for it; `*` stands for any run of characters ("claude-*"). An exact name wins over a
    pattern, and the longest pattern over the others. Each alias belongs to one model only."""
    defaults: ModelDefaults = field(default_factory=ModelDefaults)
    """What a call gets where the client said nothing."""
    tools: Literal["auto", "pass"] = "auto"
    """What becomes of tools when the chat template of an instance does not show them to the model. `auto`: the call is
    refused, since the model would answer as if there were none. `pass`: they are sent all the same."""
    display_name: str | None = None
    """The name shown to people in the model list. Left out: the model name."""


class PlacementRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an instance is chosen for a call."""

    policy: Literal["ptx", "least", "sticky"] = "ptx"
    """ptx: the one that is foreseen to give the first token soonest, by where the prompt's KV cache is warm and by what
    the placement takes from others. least: the least busy. sticky: the one where the conversation began. The last two
    are there to compare with."""


class CorsRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which web pages may call this endpoint from a browser."""

    origins: Annotated[tuple[Origin, ...], Meta(min_length=1)]
    """The origins allowed, such as "https://chat.example.org"; "*" means any page, which on a loopback
    address lets every page that you visit use your models."""


class Deadlines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long each stage of a call may take."""

    connect_s: Seconds = field(name="connect", default=2.0)
    """Opening a connection to an instance. Default 2s; raise it only for instances across a slow link."""
    head_s: Seconds = field(name="head", default=300.0)
    """From sending a streamed call to the response head. Default 5m: llama-server sends it with the first batch of
    the call's own prompt, and other long prompts may come before it. A dead instance is found by the looks at it, not
    by this; shorter than the longest prefill of a full instance it ends calls that are fine."""
    idle_s: Seconds = field(name="idle", default=75.0)
    """The longest silence inside a streamed answer. Default 75s: llama-server writes a comment every 30s,
    so two are missing by then. Raise it if the server's --sse-ping-interval is longer."""
    call_s: Seconds = field(name="call", default=3600.0)
    """One whole call, waiting included. Default 1h."""
    hold_s: Seconds = field(name="hold", default=10.0)
    """How long a streaming client hears nothing before it gets status 200 and a ping. Default 10s. Until
    then a failure keeps its real status; longer than the client's read timeout makes it hang up."""
    shutdown_grace_s: SecondsOrZero = field(name="shutdown_grace", default=180.0)
    """How long running calls may go on after the router was told to stop. Default 3m. 0s: cut at once."""


class PollRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How instances are watched."""

    every_s: Seconds = field(name="every", default=2.0)
    """The time between two looks at an instance. Default 2s. A shorter one finds a dead instance sooner."""
    deadline_s: Seconds = field(name="deadline", default=1.0)
    """How long a look may take; two that take longer in a row put the instance out. Default 1s."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one client may send and open."""

    body_bytes: Bytes = field(name="body", default=32 * 1024 * 1024)
    """The largest request body; a larger one gets 413. Default 32MiB, as the hosted API allows."""
    key_bytes: Bytes = 512 * 1024 * 1024
    """Request bodies that one key may have under way, waiting or running. Default 512MiB; beyond it 429. Without a
    keys_file all callers count as one."""
    connections: Count = 4096
    """Client connections open at a time; more are refused. Default 4096. Mind the limit on open files: a
    running call takes two."""


class LogRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written to the log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe line that is written. Default info: one line per call."""


class RouterFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    models: Annotated[Mapping[ModelName, ModelEntry], Meta(min_length=1)]
    """The models by the name that clients call, at least one."""
    listen: Listen = "127.0.0.1:8000"
    """The address to answer on, HOST:PORT or [IPv6]:PORT. Default 127.0.0.1:8000, this machine only; any
    other address needs `keys_file`. Port 0: any free port."""
    keys_file: str | None = None
    """The file with the keys that clients must show. Left out: no key is asked for, and only a loopback
    address can be listened on."""
    hosts: Mapping[HostName, HostEntry] = field(default_factory=dict)
    """The machines by name, for what their instances share. Left out: `host` in an instance is a label."""
    queue: QueueRules = field(default_factory=QueueRules)
    """How long calls wait when every slot is taken."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    """How long each stage of a call may take."""
    poll: PollRules = field(default_factory=PollRules)
    """How instances are watched."""
    limits: Limits = field(default_factory=Limits)
    """What one client may send and open."""
    placement: PlacementRules = field(default_factory=PlacementRules)
    """How an instance is chosen for a call."""
    cors: CorsRules | None = None
    """Which web pages may call this endpoint from a browser. Left out: none."""
    log: LogRules = field(default_factory=LogRules)
    """What is written to the log."""


def _masked(secret: str | None) -> str:
    return "None" if secret is None else "<set>"
