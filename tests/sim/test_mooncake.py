import pytest

from router.sim import mooncake
from router.sim.dice import Dice
from router.sim.prompt import common
from tests.sim import sample


def test_calls_come_at_a_share_of_the_rate_somewhere_within_their_three_seconds() -> None:
    requests = mooncake.read(sample.requests(10))
    asks = mooncake.arrivals(requests, 0.5, None, Dice(1)).first()
    assert 10 == len(asks)
    for number, ask in enumerate(asks):
        assert 6.0 * number <= ask.arrived_s < 6.0 * (number + 1)


def test_only_the_calls_of_the_first_seconds_come() -> None:
    asks = mooncake.arrivals(mooncake.read(sample.requests(10)), 1.0, 15.0, Dice(1)).first()
    assert 5 == len(asks)


def test_nothing_follows_an_answer() -> None:
    talks = mooncake.arrivals(mooncake.read(sample.requests(1)), 1.0, None, Dice(1))
    (ask,) = talks.first()
    assert [] == talks.after(ask.number, 10.0)


def test_prompts_are_chains_of_512_tokens_as_the_file_has_them() -> None:
    one, other = mooncake.arrivals(mooncake.read(sample.requests(2)), 1.0, None, Dice(1)).first()
    assert (1300, 512, 50) == (one.prompt.tokens, one.prompt.unit_tokens, one.output_tokens)
    assert 1 == common(one.prompt.ids, other.prompt.ids)


def test_calls_with_the_same_first_1024_tokens_are_one_conversation() -> None:
    lines = [
        b'{"timestamp":0,"input_length":600,"output_length":1,"hash_ids":[0,7]}',
        b'{"timestamp":0,"input_length":1600,"output_length":1,"hash_ids":[0,7,8,9]}',
        b'{"timestamp":0,"input_length":600,"output_length":1,"hash_ids":[0,5]}',
        b'{"timestamp":0,"input_length":60,"output_length":1,"hash_ids":[3]}',
        b'{"timestamp":0,"input_length":60,"output_length":1,"hash_ids":[3]}',
    ]
    first, second, *others = mooncake.arrivals(mooncake.read(lines), 1.0, None, Dice(1)).first()
    assert first.session == second.session
    assert 4 == len({first.session, *(ask.session for ask in others)})


def test_a_line_that_is_no_request_is_named() -> None:
    with pytest.raises(ValueError, match=r"line 3: .*missing required field"):
        mooncake.read([*sample.requests(2), b"{}"])
