"""One run: calls come, a front sends them, servers work, and time goes from one event to the next."""

import heapq
from collections import deque
from collections.abc import Sequence

import msgspec

from router.sim.front import Dispatch, Front
from router.sim.server import Event, Server, What
from router.sim.talk import Ask, Load

# As the router: while somebody waits, ask again.
TICK_S = 0.1
_ARRIVAL, _SERVER, _TICK = 0, 1, 2


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call, answered. Times in virtual seconds. `server`: its place in the fleet."""

    server: int
    arrived_s: float
    sent_s: float
    first_token_s: float
    finished_s: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int

    @property
    def ttft_s(self) -> float:
        """From the call's arrival at the router to its first token."""
        return self.first_token_s - self.arrived_s


class Run:
    """A load, a front and servers. `until_s`: nobody looks at what happens later; None: until all is over."""

    def __init__(
        self,
        load: Load,
        front: Front,
        servers: Sequence[Server],
        *,
        until_s: float | None = None,
        tick_s: float = TICK_S,
    ) -> None:
        self._load = load
        self._front = front
        self._servers = servers
        self._until_s = until_s
        self._tick_s = tick_s
        self._agenda: list[tuple[float, int, int, Ask | int]] = []
        self._order = 0
        self._ticking = False
        self._sent: dict[int, tuple[Ask, int, float]] = {}
        self._first_s: dict[int, float] = {}
        self.now_s = 0.0
        self.outcomes: list[Outcome] = []

    def __repr__(self) -> str:
        return f"Run[at {self.now_s:.1f} s, {len(self.outcomes)} answered, {self._front.waiting} held]"

    @property
    def open(self) -> int:
        """Calls that have come and are not answered."""
        return len(self._sent) + self._front.waiting

    def play(self) -> list[Outcome]:
        """Run to the end; returns the answered calls in the order of their ends."""
        for ask in self._load.first():
            self._at(ask.arrived_s, _ARRIVAL, ask)
        while self._agenda:
            at_s, _, kind, what = heapq.heappop(self._agenda)
            if self._until_s is not None and at_s > self._until_s:
                break
            if isinstance(what, Ask):
                self.now_s = at_s
                self._work(deque(), self._front.arrive(what, at_s))
            elif kind == _TICK:
                self.now_s = at_s
                self._ticking = False
                self._work(deque(), self._front.tick(at_s))
            elif self._servers[what].until_s == at_s:  # else its plans have changed since
                self.now_s = at_s
                self._work(self._stepped(what), [])
            self._keep_ticking()
        return self.outcomes

    def _stepped(self, place: int) -> deque[tuple[int, Event]]:
        events = self._servers[place].step(self.now_s)
        self._plan(place)
        return deque((place, event) for event in events)

    def _work(self, events: deque[tuple[int, Event]], dispatches: list[Dispatch]) -> None:
        """Everything that follows at this moment: what is sent makes servers tell, and that lets more be sent."""
        sent = deque(dispatches)
        while events or sent:
            while sent:
                ask, place = sent.popleft()
                self._sent[ask.number] = ask, place, self.now_s
                told = self._servers[place].submit(ask.number, ask.prompt, ask.output_tokens, self.now_s)
                events.extend((place, event) for event in told)
                self._plan(place)
            if events:
                place, event = events.popleft()
                sent.extend(self._tell(place, event))

    def _tell(self, place: int, event: Event) -> list[Dispatch]:
        ask, _, sent_s = self._sent[event.number]
        if event.what is What.FIRST_TOKEN:
            self._first_s[event.number] = self.now_s
        elif event.what is What.FINISHED:
            del self._sent[event.number]
            self.outcomes.append(
                Outcome(
                    server=place,
                    arrived_s=ask.arrived_s,
                    sent_s=sent_s,
                    first_token_s=self._first_s.pop(event.number),
                    finished_s=self.now_s,
                    prompt_tokens=ask.prompt.tokens,
                    cached_tokens=event.cached_tokens,
                    output_tokens=ask.output_tokens,
                )
            )
            for following in self._load.after(event.number, self.now_s):
                self._at(following.arrived_s, _ARRIVAL, following)
        return self._front.told(place, ask, event, self.now_s)

    def _plan(self, place: int) -> None:
        until_s = self._servers[place].until_s
        if until_s != float("inf"):
            self._at(until_s, _SERVER, place)

    def _keep_ticking(self) -> None:
        if self._front.waiting and not self._ticking:
            self._ticking = True
            self._at(self.now_s + self._tick_s, _TICK, 0)

    def _at(self, at_s: float, kind: int, what: Ask | int) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (at_s, self._order, kind, what))
