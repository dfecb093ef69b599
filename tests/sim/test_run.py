import pytest

from router.sim.front import Dispatch
from router.sim.run import Run
from router.sim.server import Event, Server, What
from router.sim.talk import Ask
from tests.sim.sample import ask


class Fixed:
    """A load: asks that come whatever happens, and those that follow an answer at once."""

    def __init__(self, *asks: Ask, following: dict[int, Ask] | None = None) -> None:
        self.asks = list(asks)
        self.following = following or {}

    def first(self) -> list[Ask]:
        return self.asks

    def after(self, number: int, now_s: float) -> list[Ask]:
        return [self.following[number]] if number in self.following else []


class Straight:
    """A front that sends everything to the servers in turn, and writes down what it is told."""

    def __init__(self, servers: int = 1, *, hold_until_s: float = 0.0) -> None:
        self.servers = servers
        self.hold_until_s = hold_until_s
        self.held: list[Ask] = []
        self.ticks: list[float] = []
        self.seen: list[tuple[float, int, int, What]] = []

    @property
    def waiting(self) -> int:
        return len(self.held)

    def arrive(self, ask: Ask, now_s: float) -> list[Dispatch]:
        if now_s < self.hold_until_s:
            self.held.append(ask)
            return []
        return [(ask, ask.number % self.servers)]

    def told(self, server: int, ask: Ask, event: Event, now_s: float) -> list[Dispatch]:
        self.seen.append((now_s, server, ask.number, event.what))
        return []

    def tick(self, now_s: float) -> list[Dispatch]:
        self.ticks.append(now_s)
        if now_s < self.hold_until_s:
            return []
        sent, self.held = self.held, []
        return [(ask, ask.number % self.servers) for ask in sent]


def servers(count: int) -> list[Server]:
    return [Server(slots=2, ram_tokens=0) for _ in range(count)]


def test_a_call_is_answered_and_everyone_is_told_in_order() -> None:
    front = Straight()
    run = Run(Fixed(ask(0, 1, 3200, at_s=5.0)), front, servers(1))
    (outcome,) = run.play()
    assert list(What) == [what for _, _, _, what in front.seen]
    assert (5.0, 5.0, 3200, 0, 10) == (
        outcome.arrived_s,
        outcome.sent_s,
        outcome.prompt_tokens,
        outcome.cached_tokens,
        outcome.output_tokens,
    )
    assert outcome.arrived_s < outcome.first_token_s < outcome.finished_s
    assert outcome.ttft_s == outcome.first_token_s - 5.0
    assert 0 == run.open


def test_an_answer_brings_the_next_turn_which_finds_its_cache() -> None:
    following = {0: ask(1, 1, 6400, at_s=100.0)}
    first, second = Run(Fixed(ask(0, 1, 3200), following=following), Straight(), servers(1)).play()
    assert (100.0, 3210) == (second.arrived_s, second.cached_tokens)
    assert first.finished_s < second.arrived_s


def test_time_never_goes_back_and_servers_work_side_by_side() -> None:
    asks = [ask(number, number, 64 * (1 + 7 * number % 50), at_s=0.3 * number) for number in range(60)]
    front = Straight(3)
    outcomes = Run(Fixed(*asks), front, servers(3)).play()
    assert 60 == len(outcomes)
    times = [seen[0] for seen in front.seen]
    assert sorted(times) == times
    assert {0, 1, 2} == {outcome.server for outcome in outcomes}
    assert sorted(outcomes, key=lambda outcome: outcome.finished_s) == outcomes


def test_while_somebody_waits_there_is_a_tick_every_tenth_of_a_second_and_then_none() -> None:
    front = Straight(hold_until_s=1.0)
    (outcome,) = Run(Fixed(ask(0, 1, 640, at_s=0.5)), front, servers(1)).play()
    assert [0.6, 0.7, 0.8, 0.9, 1.0] == pytest.approx(front.ticks[:5])
    assert 1.0 == pytest.approx(outcome.sent_s, abs=0.11)
    assert len(front.ticks) <= 6


def test_a_run_that_ends_early_leaves_calls_open() -> None:
    asks = ask(0, 1, 640), ask(1, 2, 64_000), ask(2, 3, 640, at_s=99.0)
    run = Run(Fixed(*asks), Straight(2), servers(2), until_s=5.0)
    assert 1 == len(run.play())
    assert 1 == run.open
    assert run.now_s <= 5.0
