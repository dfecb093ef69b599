import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.kv import Probe, Rules
from router.balance.shadow import GATE_S, PLAIN_GATE_S, Shadow
from router.balance.tokens import Tokens
from tests.balance.sample import ask

steady = settings(derandomize=True, max_examples=100, deadline=None)


def shadow(slots: int = 4) -> Shadow:
    return Shadow(slots, Rules())


def send(there: Shadow, number: int, at_s: float, *, read_s: float = 1.0, hit: float = 0.0) -> None:
    """A call of which `hit` tokens are believed to be warm there."""
    probe = there.mirror.dispatch(number, ask("x" * (1 + number % 5), Tokens(), now_s=at_s))
    told = Probe(slot=probe.slot, hit_tokens=hit, prompt_tokens=probe.prompt_tokens)
    there.sent(number, told, read_s, at_s, streams=True)


def finish(there: Shadow, number: int, at_s: float, output: int | None = 10) -> None:
    there.finished(number, at_s, cached=0, prompt=1000, output=output)


# ---------------------------------------------------------------- what it reads


def test_nothing_is_read_where_no_call_was_sent() -> None:
    assert (0.0, 0, False) == (shadow().reading_s(5.0), shadow().running, gated(shadow(), "abc", 5.0))


@pytest.mark.parametrize(("now_s", "left_s"), [(0.0, 3.0), (1.0, 2.0), (3.0, 0.0), (9.0, 0.0)])
def test_what_is_read_gets_less_as_time_goes_by(now_s: float, left_s: float) -> None:
    there = shadow()
    send(there, 1, 0.0, read_s=3.0)
    assert left_s == there.reading_s(now_s)


def test_prompts_are_read_one_after_another() -> None:
    there = shadow()
    send(there, 1, 0.0, read_s=3.0)
    send(there, 2, 1.0, read_s=2.0)
    assert 4.0 == there.reading_s(1.0)
    # The first takes longer than was foreseen: the second has not begun.
    assert 2.0 == there.reading_s(5.0)
    there.first_token(1, 0, 1000, 5.0)
    assert (2.0, 1.5, 1) == (there.reading_s(5.0), there.reading_s(5.5), there.running)
    there.first_token(2, 0, 1000, 6.0)
    assert (0.0, 2) == (there.reading_s(6.0), there.running)


@pytest.mark.parametrize("how", ["aborted", "finished", "restarted"])
def test_a_call_that_is_over_is_not_read_any_more(how: str) -> None:
    there = shadow()
    send(there, 1, 0.0, read_s=3.0)
    match how:
        case "aborted":
            there.aborted(1, 1.0)
        case "finished":
            finish(there, 1, 1.0)
        case _:
            there.restarted()
    assert (0.0, 0, []) == (there.reading_s(1.0), there.running, list(there.left_s(100.0, 0.1, 1.0)))


def test_what_is_left_of_each_call_is_its_prompt_with_those_before_it_and_its_answer() -> None:
    there = shadow()
    send(there, 1, 0.0, read_s=3.0)
    there.first_token(1, 0, 1000, 3.0)
    send(there, 2, 4.0, read_s=2.0)
    send(there, 3, 4.5, read_s=5.0)
    assert [8.0, 11.0, 16.0] == list(there.left_s(100.0, 0.1, 5.0))
    finish(there, 1, 5.0)
    assert [11.0, 16.0] == list(there.left_s(100.0, 0.1, 5.0))


# ---------------------------------------------------------------- the gate


def warm(*words: str) -> Shadow:
    """An instance that has served these."""
    there = shadow()
    for number, word in enumerate(words, 100):
        there.mirror.dispatch(number, ask(word, Tokens()))
    for number, _ in enumerate(words, 100):
        there.mirror.finish(number, 0, float(number))
    return there


def send_word(there: Shadow, number: int, word: str, at_s: float, *, streams: bool = True) -> None:
    there.sent(number, there.mirror.dispatch(number, ask(word, Tokens(), now_s=at_s)), 1.0, at_s, streams=streams)


def gated(there: Shadow, word: str, now_s: float) -> bool:
    prompt = ask(word, Tokens(), now_s=now_s)
    return there.gated(prompt, there.mirror.probe(prompt).probe.hit_tokens, now_s)


@pytest.mark.parametrize(
    ("held", "sent", "asked", "expected"),
    [
        (["abcd"], "abcde", "xyz", True),  # whose first prompt llama-server sees first, its slot is gone
        (["abcd"], "abcde", "axy", True),
        (["abcd"], "abcde", "abcdz", False),  # finds as much there: it may as well have it
        (["abcd", "xyz"], "abcde", "xyzw", False),  # has a better one
        (["a"], "abcde", "xyz", False),  # there is hardly anything to lose
        (["xyz"], "abcde", "pqr", False),
    ],
)
def test_a_call_keeps_those_away_that_could_take_its_slot_and_what_is_warm_there(
    held: list[str], sent: str, asked: str, expected: bool
) -> None:
    there = warm(*held)
    send_word(there, 1, sent, 200.0)
    assert expected is gated(there, asked, 200.1)


@pytest.mark.parametrize(("streams", "gate_s"), [(True, GATE_S), (False, PLAIN_GATE_S)])
def test_nobody_is_kept_away_for_long(streams: bool, gate_s: float) -> None:
    there = warm("abcd")
    send_word(there, 1, "abcde", 200.0, streams=streams)
    assert [True, False] == [gated(there, "xyz", 200.0 + after_s) for after_s in (gate_s - 0.01, gate_s + 0.01)]


@pytest.mark.parametrize("how", ["begun", "first token", "finished", "aborted", "restarted"])
def test_the_next_one_may_go_once_the_first_has_its_slot(how: str) -> None:
    there = warm("abcd")
    send_word(there, 1, "abcde", 200.0)
    there.begun(2)  # nobody
    assert gated(there, "xyz", 200.1)
    match how:
        case "begun":
            there.begun(1)
        case "first token":
            there.first_token(1, 4000, 5000, 200.1)
        case "finished":
            finish(there, 1, 200.1)
        case "aborted":
            there.aborted(1, 200.1)
        case _:
            there.restarted()
    assert not gated(there, "xyz", 200.1)


# ---------------------------------------------------------------- what is learned


def test_a_prompt_that_is_read_alone_tells_how_fast_it_reads() -> None:
    there = shadow()
    send(there, 1, 0.0)
    there.first_token(1, 0, 1024, 2.0)
    assert there.speed.token_s == pytest.approx(2.0 / (1024 * (1 + 1024 / 65536)))


@pytest.mark.parametrize("first", [2, 3])
def test_a_prompt_that_is_read_beside_another_tells_nothing(first: int) -> None:
    there = shadow()
    send(there, 2, 0.0)
    send(there, 3, 0.1)
    there.first_token(first, 0, 1024, 11.0)
    there.first_token(5 - first, 0, 1024, 30.0)
    assert there.speed.token_s is None


def test_what_was_copied_before_it_was_read_is_not_reading() -> None:
    there = shadow()
    there.sent(1, Probe(slot=0, prompt_tokens=1024.0, moved_tokens=61_000.0), 1.0, 0.0, streams=True)
    there.first_token(1, 0, 1024, 3.0)
    assert there.speed.token_s == pytest.approx(2.0 / (1024 * (1 + 1024 / 65536)))


@pytest.mark.parametrize(("when_s", "written_s"), [(1.0, None), (3.0, None), (8.0, 0.05)])
def test_an_answer_during_which_nothing_was_read_tells_how_fast_it_writes(
    when_s: float, written_s: float | None
) -> None:
    there = shadow()
    send(there, 1, 0.0)
    if when_s == 1.0:
        send(there, 2, when_s)  # read when the answer begins
    there.first_token(1, 0, 1000, 2.0)
    if when_s == 3.0:
        send(there, 2, when_s)
    finish(there, 1, 7.0, output=101)
    assert written_s == there.speed.written_s


def test_a_plain_answer_tells_no_speed() -> None:
    there = shadow()
    send(there, 1, 0.0)
    finish(there, 1, 9.0, output=100)
    assert (None, None) == (there.speed.token_s, there.speed.written_s)
    assert "1 run" not in repr(there)
    assert 1000.0 == there.mirror.probe(ask("xxxx")).probe.hit_tokens


def test_who_never_finds_what_was_warm_is_trusted_less_and_less_and_won_back_slowly() -> None:
    there, trusts = shadow(slots=1), []
    for number in range(100):
        send(there, number, float(number), hit=3000.0)
        there.first_token(number, 0 if number < 80 else 3000, 4000, number + 0.1)
        finish(there, number, number + 0.2)
        trusts.append(there.trust)
    assert sorted(trusts[:80], reverse=True) == trusts[:80]
    assert trusts[79] < 0.05
    assert 0.5 < trusts[99] < 0.8


@pytest.mark.parametrize(("hit", "cached"), [(1024.0, 0), (5000.0, None), (5000.0, 5000), (5000.0, 9000)])
def test_trust_is_not_lost_over_little_or_nothing(hit: float, cached: int | None) -> None:
    there = shadow()
    send(there, 1, 0.0, hit=hit)
    there.first_token(1, cached, 10_000, 1.0)
    assert 1.0 == there.trust


# ---------------------------------------------------------------- how busy it was


def test_work_is_forgotten_with_time() -> None:
    there = shadow()
    assert 0.0 == there.busy(0.0)
    send(there, 1, 0.0)
    there.worked(15.0)
    shares = [there.busy(float(at_s)) for at_s in (0, 10, 30, 300)]
    assert shares[0] == 0.5
    assert sorted(shares, reverse=True) == shares
    assert shares[2] == pytest.approx(0.5 / 2.718, rel=0.01)
    send(there, 2, 300.0)
    there.worked(1e6)
    assert 1.0 == there.busy(300.0)


def test_new_work_is_added_to_what_is_left_of_the_old() -> None:
    there = shadow()
    for number, at_s in ((1, 0.0), (2, 30.0)):
        send(there, number, at_s)
        there.worked(15.0)
    assert 0.5 / math.e + 0.5 == pytest.approx(there.busy(30.0))


# ---------------------------------------------------------------- how it was started


@pytest.mark.parametrize(
    ("slots", "rules", "forgets"),
    [
        (4, Rules(), False),
        (4, Rules(echo=0.5), False),
        (3, Rules(), True),
        (4, Rules(unified=True), True),
        (4, Rules(ram_tokens=5.0), True),
    ],
)
def test_what_is_held_is_forgotten_when_it_was_started_otherwise(slots: int, rules: Rules, forgets: bool) -> None:
    there = shadow()
    send(there, 1, 0.0)
    there.know(slots, rules)
    assert forgets is (list(there.mirror.chains()) == [])
    assert slots == there.mirror.slots
    finish(there, 1, 1.0)  # of before, and harmless


# ---------------------------------------------------------------- any history

_histories = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "begun", "first", "finish", "abort", "restart"]),
        st.integers(1, 6),
        st.floats(0.0, 5.0),
    ),
    max_size=40,
)


@steady
@given(history=_histories)
def test_whatever_happens_all_times_are_times(history: list[tuple[str, int, float]]) -> None:
    there, now_s, sent = shadow(), 0.0, set()
    for what, number, time_s in history:
        now_s += time_s
        match what:
            case "send" if number not in sent:
                sent.add(number)
                send(there, number, now_s, read_s=time_s, hit=1000.0 * time_s)
                there.worked(time_s)
            case "begun":
                there.begun(number)
            case "first":
                there.first_token(number, int(100 * time_s), 1000, now_s)
            case "finish":
                finish(there, number, now_s)
                sent.discard(number)
            case "abort":
                there.aborted(number, now_s)
                sent.discard(number)
            case "restart":
                there.restarted()
                sent.clear()
        assert 0.0 <= there.reading_s(now_s) <= 5.0 * len(sent)
        assert there.reading_s(now_s + 1.0) <= there.reading_s(now_s)
        left_s = list(there.left_s(100.0, 0.1, now_s))
        assert len(sent) == len(left_s)
        assert all(one_s > 0.0 for one_s in left_s)
        assert 0.0 <= there.busy(now_s + 1.0) <= there.busy(now_s) <= 1.0
        assert 0.0 <= there.trust <= 1.0
        assert there.running <= len(sent)
