from typing import get_args

import pytest

from router.balance.chain import HEAD_BYTES
from router.balance.chain import common as chain_common
from router.balance.policy import Policy
from router.sim import claude_code, front
from router.sim.dice import Dice
from router.sim.front import DeskFront, Setup
from router.sim.run import Outcome, Run
from router.sim.server import Event, Server
from router.sim.shape import Shape
from tests.sim import sample

POLICIES: tuple[Policy, ...] = get_args(Policy)
SHAPE = Shape(instances=3, slots=2, ram_tokens=20_000)


class Watched(Server):
    """A server that has never more calls than slots."""

    def submit(self, *args: object, **more: object) -> list[Event]:
        assert self.running + self.waiting < self.slots
        return super().submit(*args, **more)  # type: ignore[arg-type]


def play(policy: Policy, *, users: int = 12, seed: int = 1, shape: Shape = SHAPE) -> list[Outcome]:
    sessions = claude_code.read(sample.sessions(6))
    servers = [Watched(slots=shape.slots, ram_tokens=shape.ram_tokens) for _ in range(shape.instances)]
    load = claude_code.users(sessions, users, Dice(seed))
    run = Run(load, DeskFront(policy, shape.setups()), servers, until_s=300.0)
    outcomes = run.play()
    assert run.open <= users
    return outcomes


@pytest.mark.parametrize("policy", POLICIES)
def test_every_call_is_answered_and_no_server_ever_has_more_than_its_slots(policy: Policy) -> None:
    outcomes = play(policy)
    assert len(outcomes) > 100
    assert {0, 1, 2} == {outcome.server for outcome in outcomes}
    assert all(outcome.arrived_s <= outcome.sent_s < outcome.first_token_s for outcome in outcomes)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_run_to_the_last_digit(policy: Policy) -> None:
    assert play(policy) == play(policy)
    assert play(policy) != play(policy, seed=2)


def test_a_conversation_that_is_kept_in_its_place_finds_its_cache() -> None:
    def cached(policy: Policy) -> float:
        outcomes = play(policy, users=5)
        return sum(one.cached_tokens for one in outcomes) / sum(one.prompt_tokens for one in outcomes)

    assert cached("sticky") > 0.6
    assert cached("ptx") > 0.6


def test_the_router_sees_a_unit_for_each_full_block_and_the_rest_belongs_to_the_last() -> None:
    one = front.chain(sample.ask(1, 7, 1290))
    again = front.chain(sample.ask(2, 7, 1290))
    grown = front.chain(sample.ask(3, 7, 1600))
    assert 20 == len(one)
    assert (1290 * 4, 19 * 64 * 4) == (one.ends[-1], one.ends[-2])
    assert 20 * HEAD_BYTES == len(one.heads)
    assert 20 == chain_common(one, again) == chain_common(one, grown)
    assert one.ids[-1] == grown.ids[19]  # by which it is known when the conversation has gone on


def test_a_prompt_of_whole_blocks_has_no_tail() -> None:
    one, grown = front.chain(sample.ask(1, 7, 1280)), front.chain(sample.ask(2, 7, 1344))
    assert 20 == len(one) == chain_common(one, grown)
    assert 1280 * 4 == one.ends[-1]


def test_a_prompt_of_less_than_a_block_is_one_unit() -> None:
    one = front.chain(sample.ask(1, 7, 10))
    assert (1, 40, HEAD_BYTES) == (len(one), one.ends[0], len(one.heads))
    assert 0 == chain_common(one, front.chain(sample.ask(2, 7, 10)))  # nobody knows what is in it


def test_a_front_says_who_waits() -> None:
    desk = DeskFront("least", [Setup(slots=1, ram_tokens=0)])
    assert [0] == [place for _, place in desk.arrive(sample.ask(0, 1, 640), 1.0)]
    assert [] == desk.arrive(sample.ask(1, 2, 640), 1.0)
    assert 1 == desk.waiting
    assert "1" in repr(desk)
