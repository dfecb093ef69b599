"""CallRecord: what remains of a call when it is over. Metrics and the log are made from it and from nothing else."""

from typing import Literal

import msgspec

Outcome = Literal["ok", "refused", "failed", "client_gone"]


class Foreseen(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was foreseen of a call where it was placed, in the terms of `balance.cost`.

    `wait_s`, `read_s` and `moved_s` make the time from its lease to its first token; the others are what it was
    thought to take from others.
    """

    wait_s: float
    read_s: float
    moved_s: float
    behind_s: float
    lost_s: float
    stall_s: float
    cached_tokens: int
    prompt_tokens: int

    @property
    def ttft_s(self) -> float:
        """From the lease to the first token."""
        return self.wait_s + self.read_s + self.moved_s


class CallRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One call, from its last body byte to its end. Times in seconds, None where the moment never came.

    No field may hold a prompt, an answer, a key, a path of this host or a URL: the record is logged as it is.
    `outcome`: ok; refused (by us, before any instance); failed (by an instance, or in ours); client_gone.
    `way`: native, translated or exact, see `translate.fidelity`; `dropped`: types of content blocks that were left out;
    `unread_fields`, `unread_betas`: what else was passed over, in the closed sets of `wire.unread`.
    `foreseen`: what placement went by; None: by nothing of the kind.
    `failed_on` and `causes` tell of the attempts that were made good elsewhere. `cause` is an error's name
    (`errors.RouterError.cause`), "" when it went well.
    """

    request_id: str
    endpoint: str
    outcome: Outcome
    cause: str = ""
    status: int = 200
    key_id: str = ""
    team: str = ""
    model: str = ""
    pool: str = ""
    instance_id: str = ""
    decision: str = ""
    way: str = ""
    dropped: tuple[str, ...] = ()
    unread_fields: tuple[str, ...] = ()
    unread_betas: tuple[str, ...] = ()
    stream: bool = False
    attempts: int = 0
    failed_on: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    queue_s: float | None = None
    foreseen: Foreseen | None = None
    ttft_s: float | None = None
    itl_s: float | None = None
    duration_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    events: int = 0
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    stop_reason: str = ""
