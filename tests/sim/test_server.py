import math

import pytest

from router.sim.server import BATCH_TOKENS, Event, Server, What
from router.sim.speed import Speed
from tests.sim.sample import prompt

# A token of a prompt takes a millisecond wherever it stands, one of an answer ten, whoever is beside it.
EVEN = Speed(token_s=0.001, token_s_per_token=0.0, step_s=0.01, sequence_s=0.0, context_s=0.0, copy_tokens_per_s=1000.0)


def server(slots: int = 2, *, ram_tokens: int = 0, speed: Speed = EVEN) -> Server:
    return Server(slots=slots, ram_tokens=ram_tokens, speed=speed)


def play(one: Server, sends: dict[float, tuple[int, int, int]]) -> dict[tuple[int, What], float]:
    """Send (key, prompt tokens, output tokens) at each time, numbered in order; returns when what happened."""
    seen: dict[tuple[int, What], float] = {}
    later = dict(enumerate(sorted(sends.items())))

    def note(events: list[Event], now_s: float) -> None:
        for event in events:
            assert (event.number, event.what) not in seen
            seen[event.number, event.what] = now_s

    while later or one.until_s < math.inf:
        number = min(later, default=None)
        if number is not None and later[number][0] <= one.until_s:
            at_s, (key, tokens, output) = later.pop(number)
            note(one.submit(number, prompt(key, tokens), output, at_s), at_s)
        else:
            now_s = one.until_s
            note(one.step(now_s), now_s)
    return seen


def test_a_call_begins_at_once_is_read_and_is_written() -> None:
    seen = play(server(), {1.0: (1, 1280, 11)})
    assert 1.0 == seen[0, What.BEGUN]
    assert 1.0 + 1.28 + 0.01 == pytest.approx(seen[0, What.FIRST_TOKEN])
    assert 1.0 + 1.28 + 0.01 + 10 * 0.01 == pytest.approx(seen[0, What.FINISHED])


def test_an_answer_of_one_token_is_over_with_the_first_one() -> None:
    seen = play(server(), {1.0: (1, 640, 1)})
    assert seen[0, What.FIRST_TOKEN] == seen[0, What.FINISHED]


def test_prompts_are_read_in_the_order_of_slots_and_share_a_batch_where_there_is_room() -> None:
    one = server()
    seen = play(one, {0.0: (1, 2560, 5), 0.5: (2, 640, 5)})
    # The first batch is full of the first call; then the second call's slot, which is the lower one, is served first.
    assert BATCH_TOKENS * 0.001 + 0.01 == pytest.approx(seen[1, What.BEGUN])
    second_s = BATCH_TOKENS * 0.001 + 0.01 + (640 + 512) * 0.001 + 0.01
    assert [second_s, second_s] == pytest.approx([seen[0, What.FIRST_TOKEN], seen[1, What.FIRST_TOKEN]])


def test_an_answer_gets_one_token_a_batch_while_another_prompt_is_read() -> None:
    alone = play(server(), {0.0: (1, 640, 100)})
    beside = play(server(), {0.0: (1, 640, 100), 0.65: (2, 2 * (BATCH_TOKENS - 1), 1)})
    slowed_s = beside[0, What.FINISHED] - alone[0, What.FINISHED]
    assert 2 * (BATCH_TOKENS - 1) * 0.001 == pytest.approx(slowed_s)


def test_calls_beyond_the_slots_wait_in_order() -> None:
    seen = play(server(1), {0.0: (1, 640, 50), 0.1: (2, 640, 50), 0.2: (3, 640, 50)})
    ends = [seen[number, What.FINISHED] for number in range(3)]
    assert sorted(ends) == ends
    assert ends[:2] == pytest.approx([seen[1, What.BEGUN], seen[2, What.BEGUN]])


def test_counts_follow_the_calls() -> None:
    one = server(1)
    one.submit(0, prompt(1, 640), 50, 0.0)
    one.submit(1, prompt(2, 640), 50, 0.0)
    assert (1, 1) == (one.running, one.waiting)
    assert "1/1 busy, 1 wait" in repr(one)
    one.step(one.until_s)
    assert 641 == one.context_tokens
    while one.until_s < math.inf:
        one.step(one.until_s)
    assert (0, 0, 0.0) == (one.running, one.waiting, one.context_tokens)


def test_a_stretch_of_decoding_is_cut_where_a_call_comes() -> None:
    one = server()
    first = play(server(), {0.0: (1, 640, 101)})
    assert 0.64 + 0.01 + 1.0 == pytest.approx(first[0, What.FINISHED])
    seen = play(one, {0.0: (1, 640, 101), 1.15: (2, 64, 1)})
    assert 1.15 == seen[1, What.BEGUN]
    assert 0.64 + 0.01 + 1.0 + 0.064 == pytest.approx(seen[0, What.FINISHED])


def test_a_warm_call_reads_only_what_is_new_and_says_so() -> None:
    one = server()
    play(one, {0.0: (1, 1280, 10)})
    events = one.submit(5, prompt(1, 2560), 1, 10.0)
    while one.until_s < math.inf:
        now_s = one.until_s
        events += one.step(now_s)
    assert [1290] * 3 == [event.cached_tokens for event in events]
    assert 10.0 + 1.270 + 0.01 == pytest.approx(now_s)


def test_copies_to_the_ram_cache_stop_everything() -> None:
    one = server(2, ram_tokens=100_000)
    seen = play(one, {0.0: (1, 640, 1), 5.0: (2, 640, 1)})
    # The idle slot's 641 tokens are copied first, a thousand a second.
    assert 5.0 + 0.641 == pytest.approx(seen[1, What.BEGUN])


def test_every_call_is_answered_once_whatever_comes_when() -> None:
    sends = {0.37 * number: (number % 5, 640 + 64 * (number % 7), 1 + 13 * (number % 4)) for number in range(40)}
    seen = play(server(3, ram_tokens=3000), sends)
    assert {(number, what) for number in range(40) for what in What} == set(seen)
    for number in range(40):
        assert seen[number, What.BEGUN] < seen[number, What.FIRST_TOKEN] <= seen[number, What.FINISHED]
