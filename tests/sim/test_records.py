import msgspec
import pytest

from router.sim import records
from router.sim.prompt import common
from router.sim.speed import Speed
from router.sim.talk import Ask, Talks
from tests.sim import sample


def played(talks: Talks, took_s: float = 5.0) -> list[Ask]:
    """All calls of a log when every answer takes so long, by the time at which they come."""
    asks, seen = talks.first(), []
    while asks:
        asks.sort(key=lambda ask: ask.arrived_s)
        ask = asks.pop(0)
        seen.append(ask)
        asks += talks.after(ask.number, ask.arrived_s + took_s)
    return seen


def arrivals(lines: list[bytes], load: float = 1.0, seconds: float | None = None) -> list[Ask]:
    return played(records.arrivals(records.read(lines), load, seconds))


def test_calls_come_when_they_came() -> None:
    asks = arrivals(sample.log([("a", 105.0, 1000, 50), ("b", 125.0, 2000, 20)]))
    assert [(0.0, 1000, 50), (20.0, 2000, 20)] == [
        (ask.arrived_s, ask.prompt.tokens, ask.output_tokens) for ask in asks
    ]


def test_a_call_that_holds_the_last_one_and_its_answer_is_the_next_turn() -> None:
    one, two, three = arrivals(sample.log([("a", 5.0, 1000, 50), ("a", 25.0, 1050, 9), ("a", 45.0, 1058, 9)]))
    assert one.session == two.session
    assert 1000 // 64 == common(one.prompt.ids, two.prompt.ids)
    assert three.session != one.session  # 1058 tokens cannot hold 1,050 and an answer of 9


def test_two_talks_of_one_key_are_told_apart_by_their_lengths() -> None:
    asks = arrivals(sample.log([("a", 5.0, 9000, 50), ("a", 25.0, 500, 9), ("a", 45.0, 9100, 9), ("a", 65.0, 520, 9)]))
    long, short, longer, shorter = asks
    assert (long.session, short.session) == (longer.session, shorter.session)
    assert long.session != short.session


def test_a_call_that_came_before_the_last_answer_was_over_is_another_talk() -> None:
    one, two = arrivals(sample.log([("a", 5.0, 1000, 50), ("a", 9.0, 1100, 9)]))
    assert one.session != two.session


@pytest.mark.parametrize(("key", "at_s"), [("b", 25.0), ("a", 3599.0 + 11.0)])
def test_another_key_and_an_hour_later_are_other_talks(key: str, at_s: float) -> None:
    one, two = arrivals(sample.log([("a", 5.0, 1000, 50)]) + sample.log([(key, at_s, 1100, 9)]))
    assert one.session != two.session


def test_what_was_warm_for_a_first_call_is_shared_by_its_key() -> None:
    lines = sample.log([("a", 5.0, 6400, 50), ("a", 25.0, 3200, 9)], cached=640)
    one, two = arrivals(lines)
    assert one.session != two.session
    assert 10 == common(one.prompt.ids, two.prompt.ids)
    (other,) = arrivals(sample.log([("b", 5.0, 6400, 50)], cached=640))
    assert 0 == common(one.prompt.ids, other.prompt.ids)


def test_a_pause_stays_and_a_later_answer_moves_what_comes_after_it() -> None:
    lines = sample.log([("a", 5.0, 1000, 50), ("a", 25.0, 1100, 9)])
    slow = played(records.arrivals(records.read(lines), 1.0, None), took_s=60.0)
    assert [0.0, 60.0 + 15.0] == [ask.arrived_s for ask in slow]


def test_load_brings_talks_sooner_and_leaves_their_pauses() -> None:
    lines = sample.log([("a", 5.0, 1000, 50), ("a", 25.0, 1100, 9), ("b", 65.0, 500, 9)])
    assert [0.0, 20.0, 30.0] == [ask.arrived_s for ask in arrivals(lines, load=2.0)]


def test_talks_of_the_first_seconds_only() -> None:
    lines = sample.log([("a", 5.0, 1000, 50), ("b", 65.0, 500, 9)])
    assert 1 == len(arrivals(lines, seconds=30.0))


def test_calls_that_no_instance_has_answered_are_left_out() -> None:
    (good,) = sample.log([("a", 5.0, 1000, 50)])
    failed = good.replace(b'"ok"', b'"failed"')
    counted = good.replace(b',"output_tokens":50', b"")
    assert good != failed
    assert good != counted
    assert 1 == len(records.read([good, failed, counted]))
    assert [] == records.arrivals(records.read([failed]), 1.0, None).first()


def test_lines_need_not_be_in_order() -> None:
    lines = sample.log([("a", 25.0, 1100, 9), ("a", 5.0, 1000, 50)])
    assert [1000, 1100] == [ask.prompt.tokens for ask in arrivals(lines)]


@pytest.mark.parametrize("line", [b"{}", b'{"request_id":"r","endpoint":"messages","outcome":"ok"}', b"no"])
def test_a_line_that_is_no_record_is_named(line: bytes) -> None:
    with pytest.raises(ValueError, match="line 2: "):
        records.read([*sample.log([("a", 5.0, 1000, 50)]), line])


def test_the_speed_is_that_of_the_quicker_calls() -> None:
    usual = Speed()
    lines = []
    for number in range(8):
        slower = 3.0 if number < 4 else 9.0  # half of them waited for others
        (line,) = sample.log([("a", 5.0 * number + 5.0, 4096, 50)], cached=1024)
        record = msgspec.json.decode(line)
        record["queue_s"] = 2.0
        record["ttft_s"] = 2.0 + slower * usual.prefill_s(1024, 4096)
        record["itl_s"] = 2.0 * usual.decode_s(1, 4096)
        lines.append(msgspec.json.encode(record))
    fitted = records.speed(records.read(lines))
    assert 3.0 == pytest.approx(fitted.prefill_s(0, 9000) / usual.prefill_s(0, 9000))
    assert 2.0 == pytest.approx(fitted.decode_s(3, 9000) / usual.decode_s(3, 9000))


def test_without_a_word_on_speed_the_usual_one_is_taken() -> None:
    assert Speed() == records.speed([])
