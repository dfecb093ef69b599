"""Who an instance is: the part that does not change while it runs."""

from typing import Literal

import msgspec

from router.config.schema import Capabilities

InstanceId = str
# Where a process is reached: address, port, prefix, TLS. An id may come to mean another process, this may not.
Process = tuple[str, int, str, bool]


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One llama-server process, as the registry describes it.

    `address` and `port` are where to connect; `authority` is what goes into the Host header; `prefix` is the path in
    front of /v1 ("" or "/llm", never with a slash at the end). `slots` None: read from /props.
    `pools` are the model names that list it, in the file's order. `cache_ram_tokens`: what its prompt cache in RAM
    holds; None: not said.
    """

    id: InstanceId
    address: str
    port: int
    authority: str
    tls: bool = False
    prefix: str = ""
    host: str | None = None
    gpus: tuple[int, ...] = ()
    slots: int | None = None
    api_key: str | None = None
    ca_file: str | None = None
    pools: tuple[str, ...] = ()
    cache_ram_tokens: int | None = None
    kv_unified: bool = False
    dialect: Literal["auto", "llama", "openai", "anthropic"] = "auto"
    capabilities: Capabilities = Capabilities()

    def __repr__(self) -> str:
        """Never the key, and not the URL: a repr ends up in logs."""
        return f"Instance({self.id})"

    @property
    def process(self) -> Process:
        """What stays the same when a reload gives it another id, key or pool."""
        return self.address, self.port, self.prefix, self.tls

    def same_process(self, other: "Instance") -> bool:
        """It is reached at the same place in the same way, so what is known of the other holds for it."""
        return self.process == other.process

    @property
    def origin(self) -> str:
        """The URL up to and including the prefix; for the probes, never for people."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance says of itself in /props. None: it did not say. `model`: its alias, or else its file.

    `messages`: it answers /v1/messages, found by asking once. `thinking`: its template knows of thinking; `switch`: by
    `enable_thinking`; `effort`: by `reasoning_effort`.
    """

    slots: int
    model: str | None = None
    sleeping: bool = False
    ctx_tokens: int | None = None
    build: str | None = None
    vision: bool = False
    tools: bool | None = None
    thinking: bool | None = None
    switch: bool = False
    effort: bool = False
    messages: bool | None = None
