"""Each peer's rule against the constants that it is published with (their commits stand in the rules' files)."""

from collections.abc import Sequence

import msgspec
import pytest

from benchmarks.rules import aibrix, compare, dynamo, gie, preble, sglang
from benchmarks.rules.index import Index
from benchmarks.rules.names import RULES
from benchmarks.rules.rule import BindFront, Loads, least
from benchmarks.rules.simple import LeastInFlight, PowerOfTwo, RoundRobin, SessionHash
from router.sim import claude_code, mooncake
from router.sim.dice import Dice
from router.sim.run import Run
from router.sim.server import Server
from router.sim.shape import Shape
from tests.sim import sample


class Told(Loads):
    """Loads as the test says they are."""

    def __init__(
        self,
        in_flight: Sequence[int],
        *,
        waiting: Sequence[int] = (),
        kv: Sequence[float] = (),
        warm: Sequence[int] = (),
    ) -> None:
        none = [0] * len(in_flight)
        self.counts = list(in_flight)
        self.queues, self.kv, self.warm = list(waiting) or none, list(kv) or none, list(warm) or none

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def in_flight(self) -> list[int]:
        return self.counts

    @property
    def waiting(self) -> list[int]:
        return self.queues

    def kv_share(self, context_tokens: int) -> list[float]:
        return list(self.kv)

    def warm_tokens(self, prompt: object) -> list[int]:
        return self.warm


def idle(count: int = 3) -> Told:
    return Told([0] * count)


# ---------------------------------------------------------------- what rules have in common


def test_an_index_knows_a_prompt_as_far_as_one_like_it_was_sent() -> None:
    index = Index()
    index.add(sample.prompt(1, 1280, head=640), 1.0)
    assert 20 == index.match(sample.prompt(1, 1280, head=640), 2.0)
    assert 10 == index.match(sample.prompt(2, 1280, head=640), 2.0)
    assert 0 == index.match(sample.prompt(3, 1280), 2.0)
    assert 4 == index.match(sample.prompt(1, 1280, head=640), 2.0, blocks=4)


def test_a_full_index_forgets_the_ends_of_what_was_used_longest_ago() -> None:
    index = Index(most_tokens=1920)
    index.add(sample.prompt(1, 1280), 1.0)
    index.add(sample.prompt(2, 1280), 2.0)
    assert 1920 == index.tokens
    assert (10, 20) == (index.match(sample.prompt(1, 1280), 3.0), index.match(sample.prompt(2, 1280), 3.0))


def test_an_index_with_an_end_forgets_in_time() -> None:
    index = Index(ttl_s=120.0)
    index.add(sample.prompt(1, 1280), 1.0)
    assert 20 == index.match(sample.prompt(1, 1280), 120.9)
    assert 0 == index.match(sample.prompt(1, 1280), 121.0)


def test_ties_fall_by_dice() -> None:
    dice = Dice(1)
    assert {0, 2} == {least([1, 5, 1], dice) for _ in range(50)}
    assert 1 == least([3, 2, 9], dice)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_answers_every_call_of_a_real_run(name: str) -> None:
    sessions = claude_code.read(sample.sessions(6))
    servers = Shape(instances=3, slots=2, ram_tokens=20_000).servers()
    front = BindFront(RULES[name](Dice(2)), servers)
    run = Run(claude_code.users(sessions, 9, Dice(1)), front, servers, until_s=400.0)
    outcomes = run.play()
    assert len(outcomes) > 100
    assert all(outcome.sent_s == outcome.arrived_s for outcome in outcomes)
    assert run.open <= 9


@pytest.mark.parametrize("name", RULES)
def test_every_rule_does_with_one_server(name: str) -> None:
    rule = RULES[name](Dice(2))
    assert [0] * 5 == [rule.pick(sample.ask(number, number, 640), idle(1), 1.0) for number in range(5)]


def test_loads_are_those_of_the_servers() -> None:
    servers = [Server(slots=1, ram_tokens=0), Server(slots=1, ram_tokens=0)]
    loads = Loads(servers)
    for number in range(3):
        servers[1].submit(number, sample.prompt(1, 1280), 5, 0.0)
    assert ([0, 3], [0, 2]) == (loads.in_flight, loads.waiting)
    servers[1].step(servers[1].until_s)
    assert [0.0, 1281 / 131_072] == loads.kv_share(131_072)
    assert [0, 1280] == loads.warm_tokens(sample.prompt(1, 1280))


# ---------------------------------------------------------------- simple ones


def test_round_robin_goes_round() -> None:
    rule = RoundRobin(Dice(1))
    assert [0, 1, 2, 0] == [rule.pick(sample.ask(n, n, 640), idle(), 0.0) for n in range(4)]


def test_least_in_flight() -> None:
    assert 1 == LeastInFlight(Dice(1)).pick(sample.ask(0, 0, 640), Told([3, 1, 2]), 0.0)


def test_power_of_two_never_takes_the_fullest_and_takes_every_other_one() -> None:
    rule = PowerOfTwo(Dice(1))
    taken = {rule.pick(sample.ask(n, n, 640), Told([9, 1, 2, 3]), 0.0) for n in range(100)}
    assert {1, 2, 3} == taken


def test_a_session_always_hashes_to_the_same_server_and_moves_only_when_that_one_goes() -> None:
    rule = SessionHash(Dice(1))
    places = [rule.pick(sample.ask(n, n, 640), Told([n, 0, 0, 0]), 0.0) for n in range(200)]
    assert places == [rule.pick(sample.ask(n, n, 6400), idle(4), 9.0) for n in range(200)]
    assert {0, 1, 2, 3} == set(places)
    fewer = [rule.pick(sample.ask(n, n, 640), idle(3), 0.0) for n in range(200)]
    assert all(one == other for one, other in zip(places, fewer, strict=True) if one < 3)


# ---------------------------------------------------------------- SGLang


def test_sglang_has_its_published_constants() -> None:
    assert (0.5, 32, 1.1) == (sglang.CACHE_THRESHOLD, sglang.BALANCE_ABS, sglang.BALANCE_REL)


def test_sglang_follows_a_prefix_of_more_than_half_however_long_the_queue_is_below_32() -> None:
    rule = sglang.SGLang(Dice(1))
    place = rule.pick(sample.ask(0, 1, 1280), Told([0, 1, 1]), 0.0)
    assert 0 == place
    assert 0 == rule.pick(sample.ask(1, 1, 1344), Told([32, 0, 0]), 1.0)
    assert 0 != rule.pick(sample.ask(2, 1, 1344), Told([33, 0, 0]), 2.0)


def test_sglang_takes_the_least_loaded_for_half_a_prefix_or_less() -> None:
    rule = sglang.SGLang(Dice(1))
    rule.pick(sample.ask(0, 1, 640), Told([0, 1, 1]), 0.0)
    assert 2 == rule.pick(sample.ask(1, 1, 1280), Told([1, 1, 0]), 1.0)


def test_sglang_is_not_switched_by_32_more_among_many() -> None:
    rule = sglang.SGLang(Dice(1))
    rule.pick(sample.ask(0, 1, 1280), Told([0, 1, 1]), 0.0)
    assert 0 == rule.pick(sample.ask(1, 1, 1344), Told([440, 400, 400]), 1.0)  # 440 is 1.1 times 400
    assert 0 != rule.pick(sample.ask(2, 1, 1344), Told([441, 400, 400]), 2.0)


# ---------------------------------------------------------------- llm-d, GIE


def test_gie_has_its_published_constants() -> None:
    assert (2.0, 2.0, 3.0) == (gie.QUEUE_WEIGHT, gie.KV_WEIGHT, gie.PREFIX_WEIGHT)
    assert 4096 == gie.MAX_BLOCKS * gie.BLOCK_TOKENS
    assert 500_000 == gie.LRU_BLOCKS * gie.BLOCK_TOKENS


def test_gie_sums_up_queue_kv_and_prefix() -> None:
    rule = gie.Gie(Dice(1))
    assert 0 == rule.pick(sample.ask(0, 1, 1280), Told([0, 0], waiting=[0, 1]), 0.0)
    scores = rule.scores(sample.ask(1, 1, 1280), Told([0, 0, 0][:2], waiting=[4, 0], kv=[0.5, 0.25]), 1.0)
    assert [0.0 + 1.0 + 3.0, 2.0 + 1.5 + 0.0] == scores
    even = rule.scores(sample.ask(1, 2, 1280), Told([0, 0], waiting=[2, 2]), 1.0)
    assert [4.0, 4.0] == even


@pytest.mark.parametrize(("capped", "score"), [(True, 3.0), (False, 3.0 * 4096 / 8192)])
def test_gie_sees_the_first_4096_tokens_alone(capped: bool, score: float) -> None:
    rule = gie.Gie(Dice(1), capped=capped)
    rule.pick(sample.ask(0, 1, 8192, head=4096), Told([0, 0], waiting=[0, 1]), 0.0)
    scores = rule.scores(sample.ask(1, 2, 8192, head=4096), Told([0, 0]), 1.0)
    assert score == pytest.approx(scores[0] - scores[1])


# ---------------------------------------------------------------- AIBrix


def test_aibrix_has_its_published_constants() -> None:
    assert (8, 1.0) == (aibrix.IMBALANCE_COUNT, aibrix.DEVIATIONS)


def test_aibrix_takes_the_best_match_within_one_deviation_of_the_mean() -> None:
    rule = aibrix.Aibrix(Dice(1))
    rule.pick(sample.ask(0, 1, 1280, head=640), Told([0, 1, 1]), 0.0)
    rule.pick(sample.ask(1, 2, 1280, head=640), Told([9, 0, 9]), 0.0)
    turn = sample.ask(2, 1, 1344, head=640)
    assert 0 == rule.pick(turn, Told([2, 1, 3]), 1.0)
    # The mean is 3.33 and the deviation 1.89: six calls are above both, so the second best match has it.
    assert 1 == rule.pick(turn, Told([6, 2, 2]), 2.0)


def test_aibrix_takes_the_least_loaded_once_counts_are_more_than_8_apart() -> None:
    rule = aibrix.Aibrix(Dice(1))
    rule.pick(sample.ask(0, 1, 1280), Told([0, 1, 1]), 0.0)
    many = [8, 8, 8, 8, 8, 8, 0]
    rule = aibrix.Aibrix(Dice(1))
    rule.pick(sample.ask(0, 1, 1280), Told([0, 1, 1, 1, 1, 1, 1]), 0.0)
    assert 0 == rule.pick(sample.ask(1, 1, 1280), Told(many), 1.0)
    assert 6 == rule.pick(sample.ask(2, 1, 1280), Told([*many[:5], 9, 0]), 1.0)


# ---------------------------------------------------------------- Dynamo


def test_dynamo_has_its_published_constants() -> None:
    assert (1.0, 120.0, 2**20) == (dynamo.OVERLAP_WEIGHT, dynamo.TTL_S, dynamo.MOST_BLOCKS)


def test_dynamo_adds_up_blocks_to_read_and_blocks_in_use() -> None:
    rule = dynamo.Dynamo(Dice(1), exact=True)
    first = sample.ask(0, 1, 1600)
    assert 1 == rule.pick(first, Told([0, 0], warm=[0, 640]), 0.0)
    # There: 960 tokens being read and 1,600 held; here nothing. A new call of 800 of which 800 are warm there:
    assert [100.0, (960 + 1600 + 800) / 16] == rule.costs(800, [0, 800])
    rule.first_token(1, first, 1.0)
    assert [100.0, (1600 + 800) / 16] == rule.costs(800, [0, 800])
    rule.finished(1, first, 2.0)
    assert [100.0, 50.0] == rule.costs(800, [0, 800])


def test_dynamo_forgets_what_it_sent_after_two_minutes() -> None:
    rule = dynamo.Dynamo(Dice(1))
    first = sample.ask(0, 1, 1600)
    place = rule.pick(first, idle(), 0.0)
    rule.first_token(place, first, 1.0)
    rule.finished(place, first, 2.0)
    places = []
    for number in range(1, 30):
        ask = sample.ask(number, number, 1600)
        there = rule.pick(ask, idle(), 3.0)
        rule.first_token(there, ask, 3.0)
        rule.finished(there, ask, 3.0)
        places.append(there)
    assert {0, 1, 2} == set(places)
    assert place == rule.pick(sample.ask(90, 1, 1600), idle(), 119.0)


# ---------------------------------------------------------------- Preble


def test_preble_has_its_published_constants() -> None:
    assert (180.0, 1.5, 50, 198_516) == (
        preble.WINDOW_S,
        preble.REBALANCE_RATIO,
        preble.REBALANCE_AFTER_CALLS,
        preble.CAPACITY_TOKENS,
    )


def test_preble_exploits_a_prefix_longer_than_the_rest_and_explores_else() -> None:
    rule = preble.Preble(Dice(1))
    place = rule.pick(sample.ask(0, 1, 1280), idle(), 0.0)
    assert place == rule.choose(
        1280, [641 * (here == place) for here in range(3)], [9.0 * (here == place) for here in range(3)]
    )
    assert place != rule.choose(
        1280, [640 * (here == place) for here in range(3)], [9.0 * (here == place) for here in range(3)]
    )


def test_preble_takes_the_least_loaded_of_several_holders() -> None:
    rule = preble.Preble(Dice(1))
    rule.pick(sample.ask(0, 1, 1280), idle(), 0.0)
    assert 2 == rule.choose(1280, [0, 1000, 1000], [0.0, 2.0, 1.0])


def test_preble_moves_work_off_a_server_half_as_much_loaded_again_once_it_has_seen_fifty_calls() -> None:
    rule = preble.Preble(Dice(1))
    for number in range(3 * preble.REBALANCE_AFTER_CALLS):
        rule.pick(sample.ask(number, number, 64), idle(2), 200.0 * number)
    assert 0 == rule.choose(1280, [1000, 0], [1.5, 1.0])
    assert 1 == rule.choose(1280, [1000, 0], [1.6, 1.0])
    young = preble.Preble(Dice(1))
    young.pick(sample.ask(0, 1, 64), idle(2), 0.0)
    assert 0 == young.choose(1280, [1000, 0], [1.6, 1.0])


def test_preble_counts_work_of_the_last_three_minutes() -> None:
    rule = preble.Preble(Dice(1))
    first = rule.pick(sample.ask(0, 1, 12_800), idle(2), 0.0)
    assert 1 - first == rule.pick(sample.ask(1, 2, 640), idle(2), 179.0)
    assert first == rule.pick(sample.ask(2, 3, 640), idle(2), 180.5)


def test_preble_adds_what_a_new_prompt_pushes_out() -> None:
    rule = preble.Preble(Dice(1))
    full = rule.pick(sample.ask(0, 1, 198_400), idle(2), 0.0)
    loads = [0.0, 0.0]
    assert 1 - full == rule.choose(6400, [0, 0], loads)
    loads[1 - full] = rule._speed.prefill_s(0, 6400) / 2
    assert 1 - full == rule.choose(6400, [0, 0], loads)
    loads[1 - full] *= 4
    assert full == rule.choose(6400, [0, 0], loads)


# ---------------------------------------------------------------- side by side


def test_the_comparison_puts_ours_beside_the_best_peer() -> None:
    traces = compare.Traces(claude_code.read(sample.sessions(6)), mooncake.read(sample.requests(20)))
    case = compare.Case(shape=Shape(instances=2, slots=2), users=4)
    results = {name: [compare.one(case, name, 1, traces)] for name in ("least", "rr", "aibrix")}
    head, ours, *peers = compare.table("small", results)
    assert head.startswith("small")
    best = min(results[name][0].ttft_mean_s for name in ("rr", "aibrix"))
    assert f"{best / results['least'][0].ttft_mean_s:.2f}" in ours
    assert all(len(line.split()) < len(ours.split()) for line in peers)


def test_the_comparison_has_every_case_that_the_acceptance_names() -> None:
    assert ["16 users", "32 users", "48 users", "mixed", "unified", "large RAM", "conversations"] == list(compare.CASES)
    assert (1.0, 1.0, 1.0, 1.0, 0.6, 0.6, 0.35, 0.35) == compare.CASES["mixed"].shape.factors
    assert 8 == min(case.shape.instances for case in compare.CASES.values())
    traces = compare.Traces([], mooncake.read(sample.requests(30, every_ms=60_000)))
    told = compare.one(compare.CASES["conversations"], "rr", 1, traces)
    assert 27 == told.calls  # those within 5,400 s, at 0.3 times their rate
    assert msgspec.structs.asdict(told)["open"] == 0
