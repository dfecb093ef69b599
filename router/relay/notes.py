"""What is written down about a call while it runs, and made into its record at the end."""

from router.balance.policy import Candidate, Decision
from router.errors import ClientGone, RouterError
from router.relay.attempt import Attempt
from router.translate.answer import AnswerStream, Usage
from router.wire.record import CallRecord, Foreseen, Outcome


class Notes:
    """Mutable, one a call; times are monotonic seconds, None until the moment came."""

    __slots__ = (
        "_endpoint",
        "_key_id",
        "_request_id",
        "_team",
        "attempts",
        "bytes_in",
        "bytes_out",
        "causes",
        "committed_s",
        "decision",
        "dropped",
        "events",
        "failed_on",
        "foreseen",
        "instance_id",
        "last_event_s",
        "model",
        "pool",
        "queue_s",
        "started_s",
        "stop_reason",
        "stream",
        "unread_betas",
        "unread_fields",
        "usage",
        "way",
    )

    def __init__(self, request_id: str, endpoint: str, key_id: str, team: str) -> None:
        self._request_id = request_id
        self._endpoint = endpoint
        self._key_id = key_id
        self._team = team
        self.model = self.pool = self.instance_id = self.decision = self.way = self.stop_reason = ""
        self.started_s = 0.0
        self.queue_s: float | None = None
        self.committed_s: float | None = None
        self.last_event_s: float | None = None
        self.attempts = self.bytes_in = self.bytes_out = self.events = 0
        self.failed_on: tuple[str, ...] = ()
        self.causes: tuple[str, ...] = ()
        self.dropped: tuple[str, ...] = ()
        self.unread_fields: tuple[str, ...] = ()
        self.unread_betas: tuple[str, ...] = ()
        self.stream = False
        self.usage = Usage()
        self.foreseen: Candidate | None = None

    def granted(self, now_s: float, instance_id: str, decision: str) -> None:
        """A lease was given; the waiting of the last attempt is what `queue_s` tells, from the call's arrival."""
        self.queue_s = now_s - self.started_s
        self.instance_id = instance_id
        self.decision = decision
        self.attempts += 1

    def foresee(self, decision: Decision) -> None:
        """What placement went by; it is held against what happens."""
        self.foreseen = decision.placed

    def streamed(self, stream: AnswerStream, attempt: Attempt) -> None:
        """A stream is over, to its end or not."""
        self.committed_s = attempt.first_event_s
        self.last_event_s = attempt.last_event_s
        self.events = stream.events
        self.usage = stream.usage
        self.stop_reason = stream.stop_reason

    def answered(self, now_s: float, bytes_out: int, usage: Usage, stop_reason: str) -> None:
        """A plain answer is on its way: its first token is as late as its last."""
        self.committed_s = now_s
        self.bytes_out = bytes_out
        self.usage = usage
        self.stop_reason = stop_reason

    def record(self, now_s: float, error: RouterError | None, *, status: int, bytes_out: int | None) -> CallRecord:
        """Close the notes. `bytes_out` None: what a plain answer had."""
        started_s = self.started_s or now_s
        return CallRecord(
            request_id=self._request_id,
            endpoint=self._endpoint,
            outcome=_outcome(error, self.attempts),
            cause=error.cause if error is not None else "",
            status=status,
            key_id=self._key_id,
            team=self._team,
            model=self.model,
            pool=self.pool,
            instance_id=self.instance_id,
            decision=self.decision,
            way=self.way,
            dropped=self.dropped,
            unread_fields=self.unread_fields,
            unread_betas=self.unread_betas,
            stream=self.stream,
            attempts=self.attempts,
            failed_on=self.failed_on,
            causes=self.causes,
            queue_s=_rounded(self.queue_s),
            foreseen=_foreseen(self.foreseen),
            ttft_s=_rounded(self.committed_s - started_s) if self.committed_s is not None else None,
            itl_s=_rounded(self._itl_s()),
            duration_s=round(now_s - started_s, 6),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out if bytes_out is None else bytes_out,
            events=self.events,
            input_tokens=self.usage.input_tokens,
            cached_tokens=self.usage.cache_read_input_tokens,
            output_tokens=self.usage.output_tokens,
            stop_reason=self.stop_reason,
        )

    def _itl_s(self) -> float | None:
        """The mean time between two token events of this call; None below two."""
        if self.events < 2 or self.committed_s is None or self.last_event_s is None:
            return None
        return (self.last_event_s - self.committed_s) / (self.events - 1)


def _outcome(error: RouterError | None, attempts: int) -> Outcome:
    if error is None:
        return "ok"
    if isinstance(error, ClientGone):
        return "client_gone"
    if type(error) is RouterError:
        return "failed"  # a fault of ours
    return "refused" if error.side == "client" or attempts == 0 else "failed"


def _rounded(time_s: float | None) -> float | None:
    """To the microsecond: what is below is noise, and a log line should be readable."""
    return None if time_s is None else round(time_s, 6)


def _foreseen(candidate: Candidate | None) -> Foreseen | None:
    if candidate is None or not candidate.prompt_tokens:
        return None
    terms = candidate.terms
    return Foreseen(
        wait_s=round(terms.wait_s, 6),
        read_s=round(terms.read_s, 6),
        moved_s=round(terms.moved_s, 6),
        behind_s=round(terms.behind_s, 6),
        lost_s=round(terms.lost_s, 6),
        stall_s=round(terms.stall_s, 6),
        cached_tokens=round(candidate.hit_tokens),
        prompt_tokens=round(candidate.prompt_tokens),
    )
