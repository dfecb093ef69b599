from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance import book as module
from router.balance import cost
from router.balance.book import (
    FEW,
    FIRST_ANSWER_TOKENS,
    LIVE_S,
    RAM_TOKENS,
    UNKNOWN_TOKEN_S,
    UNKNOWN_WRITTEN_S,
    Book,
    Estimate,
)
from router.balance.call import Call
from router.balance.cost import Terms
from router.balance.kv import Rules
from router.fleet.load import Speed
from router.fleet.view import Row
from tests.balance.sample import spell
from tests.fleet import sample

steady = settings(derandomize=True, max_examples=80, deadline=None)


def row(id_: str, *, slots: int = 1, busy: int = 0, ram: int | None = 0, unified: bool = False) -> Row:
    """An instance without a RAM cache, unless it is told otherwise; None: it did not say."""
    made = sample.row(id_, slots=slots, busy=busy)
    instance = msgspec.structs.replace(made.instance, cache_ram_tokens=ram, kv_unified=unified)
    return msgspec.structs.replace(made, instance=instance)


def call(word: str | None = None, session: int = 1, *, begins: bool = False, ends: bool = False) -> Call:
    chain = None if word is None else spell(word)
    return Call(pool="m", session=session, chain=chain, begins=begins, ends=ends)


def look(book: Book, at: Row, asked: Call, now_s: float = 0.0) -> Estimate:
    """As though it had never been asked about."""
    asked = msgspec.structs.replace(asked, memo={})
    return book.estimate(at, asked, book.prompt(asked, now_s), now_s)


def serve(book: Book, at: Row, asked: Call, number: int, now_s: float = 0.0, *, output: int = 100) -> None:
    """A call from its arrival to its end, at this moment, so that no speed is learned from it."""
    prompt = 1000 * len(asked.chain) if asked.chain is not None else 1000
    id_ = at.instance.id
    book.arrived(asked, now_s)
    look(book, at, asked, now_s)
    book.dispatched(id_, number, asked, now_s)
    book.begun(id_, number)
    book.first_token(id_, number, asked, now_s, cached=0, prompt=prompt)
    book.finished(id_, number, asked, now_s, cached=0, prompt=prompt, output=output)
    book.left(asked, now_s, answered=True)


def reads_s(start: float, end: float, token_s: float = UNKNOWN_TOKEN_S) -> float:
    return token_s * Speed.work(start, end)


# ---------------------------------------------------------------- the life of a call


def test_where_nothing_is_known_a_prompt_is_read_as_a_usual_instance_would() -> None:
    found = look(Book(), row("a"), call("abcd"))
    assert Terms(read_s=reads_s(0, 4000)) == found.terms
    assert (0.0, 4000.0) == (found.probe.hit_tokens, found.probe.prompt_tokens)


def test_a_conversation_that_was_served_is_warm_there_and_nowhere_else() -> None:
    book, a, b = Book(), row("a"), row("b")
    serve(book, a, call("abc"), 1)
    assert [3000.0, 0.0] == [look(book, at, call("abcd")).probe.hit_tokens for at in (a, b)]
    assert reads_s(3000, 4000) == pytest.approx(look(book, a, call("abcd")).terms.read_s)
    assert "Book[2 instances, 0 conversations under way]" == repr(book)


def test_calls_of_which_nothing_is_known_are_like_no_other() -> None:
    book, a = Book(), row("a", slots=4)
    for number in range(3):
        serve(book, a, call(None), number)
    assert 0.0 == look(book, a, call(None)).probe.hit_tokens


def test_events_at_an_instance_that_nobody_has_looked_at_change_nothing() -> None:
    book, asked = Book(), call("abc")
    book.dispatched("x", 1, asked, 0.0)
    book.begun("x", 1)
    book.first_token("x", 1, asked, 0.0, cached=0, prompt=3000)
    book.finished("x", 1, asked, 0.0, cached=0, prompt=3000, output=5)
    book.aborted("x", 1, asked, 0.0)
    book.restarted("x")
    assert ("Book[0 instances, 0 conversations under way]", False) == (
        repr(book),
        book.gated("x", book.prompt(asked, 0.0), 0.0, 0.0),
    )


def test_a_call_that_is_over_may_be_broken_off_once_more() -> None:
    book, a = Book(), row("a")
    serve(book, a, call("abc"), 1)
    book.aborted("a", 1, call("abc"), 1.0)
    assert 3000.0 == look(book, a, call("abcd")).probe.hit_tokens


def test_a_call_that_is_broken_off_is_read_no_longer() -> None:
    book, a = Book(), row("a", slots=2)
    asked = call("abc")
    look(book, a, asked)
    book.dispatched("a", 1, asked, 0.0)
    assert look(book, a, call("xyz")).terms.wait_s == pytest.approx(reads_s(0, 3000))
    book.aborted("a", 1, asked, 0.0)
    assert 0.0 == look(book, a, call("xyz")).terms.wait_s


@pytest.mark.parametrize("how", ["restarted", "forgotten", "more slots", "a RAM cache", "nothing"])
def test_what_is_warm_is_forgotten_when_the_process_is_another(how: str) -> None:
    book, a = Book(), row("a")
    serve(book, a, call("abc"), 1)
    match how:
        case "restarted":
            book.restarted("a")
        case "forgotten":
            book.forget(["a", "never known"])
        case "more slots":
            a = row("a", slots=2)
        case "a RAM cache":
            a = row("a", ram=5000)
        case _:
            book.know("a", slots=1, rules=Rules())
            a = row("a")  # the registry was loaded anew
    assert (how == "nothing") is (look(book, a, call("abcd")).probe.hit_tokens > 0.0)


def test_a_ram_cache_of_which_nothing_is_said_has_the_default_size() -> None:
    book = Book()
    for told, expected in ((None, RAM_TOKENS), (0, 0), (5000, 5000)):
        look(book, row("a", ram=told), call("a"))
        assert expected == book._shadows["a"].mirror.rules.ram_tokens
    look(book, row("a", unified=True), call("a"))
    assert book._shadows["a"].mirror.rules.unified


def test_a_call_that_was_sent_a_moment_ago_keeps_the_next_one_away() -> None:
    book, a = Book(), row("a", slots=2)
    serve(book, a, call("abc"), 1)
    look(book, a, call("abcd"))
    book.dispatched("a", 2, call("abcd"), 10.0)
    prompt = book.prompt(call("xyz"), 10.0)
    assert [True, False] == [book.gated("a", prompt, 0.0, now_s) for now_s in (10.1, 11.0)]
    book.begun("a", 2)
    assert not book.gated("a", prompt, 0.0, 10.1)


# ---------------------------------------------------------------- the terms


def test_prompts_before_it_are_waited_for_and_answers_slow_down() -> None:
    book, a = Book(), row("a", slots=4)
    look(book, a, call("a"))
    book.dispatched("a", 1, call("abcd"), 0.0)
    waits = look(book, a, call("xy"), 1.0).terms
    assert reads_s(0, 4000) - 1.0 == pytest.approx(waits.wait_s)
    assert 0.0 == waits.stall_s
    book.first_token("a", 1, call("abcd"), 4.0, cached=0, prompt=4000)
    beside = look(book, a, call("xy"), 4.0).terms
    assert 0.0 == beside.wait_s
    assert beside.stall_s > 0.0
    assert beside.behind_s > 0.0


def test_where_every_slot_is_taken_the_first_to_come_free_is_waited_for() -> None:
    book, a = Book(), row("a", slots=2, busy=2)
    look(book, a, call("a"))
    for number, since_s in ((1, 0.0), (2, 1.0)):
        book.dispatched("a", number, call("a", session=number), since_s)
        book.first_token("a", number, call("a", session=number), since_s, cached=0, prompt=1000)
    usual_s = FIRST_ANSWER_TOKENS * UNKNOWN_WRITTEN_S
    assert usual_s - 1.5 == pytest.approx(look(book, a, call("xy"), 1.5).terms.wait_s)
    # Were one free it would find what runs there, too: which one will be is not known.
    assert 1000.0 == look(book, a, call("ab"), 1.5).probe.hit_tokens


def test_an_instance_that_has_shown_no_speed_is_thought_to_have_the_others() -> None:
    book = Book()
    for id_, took_s in (("a", 1.0), ("b", 2.0), ("c", 9.0)):
        asked = call("abcd")
        look(book, row(id_), asked)
        book.dispatched(id_, 1, asked, 0.0)
        book.first_token(id_, 1, asked, took_s, cached=0, prompt=4000)
        book.finished(id_, 1, asked, took_s + 1.0, cached=0, prompt=4000, output=11 if id_ != "c" else 5)
    read = [look(book, row(id_), call("wxyz"), 99.0).terms.read_s for id_ in "abcd"]
    assert [pytest.approx(one_s) for one_s in (1.0, 2.0, 9.0, 2.0)] == read
    assert [0.1, 0.1, 0.1, 0.1] == [book._written_s(book._shadows[id_]) for id_ in "abcd"]


def test_an_instance_that_never_finds_what_was_warm_is_thought_to_read_it_all() -> None:
    book, a = Book(), row("a")
    serve(book, a, call("abcd"), 0)
    for number in range(1, 100):
        serve(book, a, call("abcd"), number)  # which says that nothing was warm
    found = look(book, a, call("abcde"))
    assert found.terms.read_s > 0.95 * reads_s(0, 5000)


def lost_s(book: Book, asked: Call, now_s: float = 0.0, *, ram: int = 0) -> float:
    return look(book, row("a", ram=ram), asked, now_s).terms.lost_s


def test_kv_that_is_overwritten_costs_what_it_takes_to_read_it_again_if_it_is_wanted() -> None:
    book = Book()
    serve(book, row("a"), call("abcd", session=1), 1)
    whole_s = reads_s(0, 4100)
    other = call("xyz", session=2)
    costs_s = []
    for now_s in (1.0, 10.0, 2000.0):
        costs_s.append(lost_s(book, other, now_s))
        assert cost.LOSES * whole_s * book.reuse.probability(now_s, now_s) == pytest.approx(costs_s[-1])
    assert cost.LOSES * whole_s > costs_s[0] > costs_s[1] > costs_s[2] > 0.0


def test_kv_that_is_destroyed_weighs_more_than_the_reading_of_as_much() -> None:
    book = Book()
    serve(book, row("a"), call("abcd", session=1), 1)
    book.arrived(call("abcdef", session=1), 500.0)
    terms = look(book, row("a"), call("uvwx", session=2), 500.0).terms
    assert terms.lost_s > 2.5 * terms.read_s > 0.0  # three times, and the answer is lost with it


def test_whoever_waits_for_its_kv_wants_it_for_sure_until_it_is_sent_somewhere() -> None:
    book, b = Book(), row("b")
    serve(book, row("a"), call("abcd", session=1), 1)
    look(book, b, call("q"))
    waits, other = call("abcdef", session=1), call("xyz", session=2)
    book.arrived(waits, 500.0)
    found = look(book, row("a"), other, 500.0)
    whole_s = reads_s(0, 4100)
    assert [pytest.approx(cost.LOSES * whole_s), pytest.approx(whole_s)] == [found.terms.lost_s, found.guard_s]
    book.dispatched("b", 2, waits, 501.0)
    found = look(book, row("a"), other, 501.0)
    assert [0.0, 0.0] == [found.terms.lost_s, found.guard_s]  # this is what it has left behind


def test_two_that_go_on_from_one_prompt_both_want_it() -> None:
    book = Book()
    serve(book, row("a"), call("abcd", session=1), 1)
    first, second = call("abcdx", session=1), call("abcdy", session=1)
    book.arrived(first, 10.0)
    book.left(first, 11.0, answered=False)
    assert 0.0 == lost_s(book, call("xyz", session=2), 11.0)  # nobody goes on from there any more
    serve(book, row("a"), call("abcd", session=1), 2, 20.0)
    book.arrived(second, 21.0)
    book.left(second, 22.0, answered=True)
    assert {} == book._held


def test_what_is_not_gone_on_from_in_the_end_is_wanted_less_and_less_and_a_guard_counts_only_what_is_wanted_soon() -> (
    None
):
    book = Book()
    serve(book, row("a"), call("abcd", session=1), 1)
    whole_s = reads_s(0, 4100)
    for now_s in (1.0, 10.0, 60.0):
        found = look(book, row("a"), call("xyz", session=2), now_s)
        chance = book.reuse.probability(now_s, now_s)
        assert cost.LOSES * whole_s * chance == pytest.approx(found.terms.lost_s)
        soon = book.reuse.probability(now_s, now_s, within_s=module.GUARDS * whole_s)
        assert whole_s * soon == pytest.approx(found.guard_s)
        assert 0.0 < found.guard_s < found.terms.lost_s / cost.LOSES


def test_a_conversation_that_goes_on_from_an_earlier_turn_does_not_want_the_later_one() -> None:
    book, b = Book(), row("b")
    serve(book, row("a"), call("abcdef", session=1), 1)
    edited = call("abxyz", session=1)
    serve(book, b, edited, 2, 5.0)
    # It was not gone on from, so for all anybody knows it still may be.
    assert 0.0 < lost_s(book, call("pqr", session=2), 6.0)
    grown = call("abcdefgh", session=1)
    serve(book, b, grown, 3, 7.0)
    assert 0.0 == lost_s(book, call("pqr", session=2), 8.0)


@pytest.mark.parametrize("how", ["it ends", "it begins anew"])
def test_what_a_conversation_threw_away_is_not_spared(how: str) -> None:
    book = Book()
    serve(book, row("a"), call("abcd", session=1, ends=how == "it ends"), 1)
    if how == "it begins anew":
        book.arrived(call("pq", session=1, begins=True), 1.0)
    assert 0.0 == lost_s(book, call("xyz", session=2), 1.0)
    assert 4000.0 == look(book, row("a"), call("abcde"), 1.0).probe.hit_tokens


def test_where_there_is_a_ram_cache_nothing_is_lost_but_it_is_moved() -> None:
    book = Book()
    serve(book, row("a", ram=50_000), call("abcd", session=1), 1)
    terms = look(book, row("a", ram=50_000), call("xyz", session=2), 1.0).terms
    assert 0.0 == terms.lost_s
    assert terms.moved_s > 0.0


# ---------------------------------------------------------------- what is remembered of those who wait


@pytest.mark.parametrize(
    ("what", "anew"),
    [
        ("nothing", False),
        ("a little time", False),
        ("some time", True),
        ("another is sent there", True),
        ("another has its first token", True),
        ("another is whole", True),
        ("another is broken off", True),
        ("a slot is taken", False),
        ("the last slot is taken", True),
        ("it is started anew", True),
        ("a conversation throws away what it said", True),
        ("something happens elsewhere", False),
    ],
)
def test_who_is_asked_about_again_is_foreseen_anew_when_something_has_changed(what: str, anew: bool) -> None:
    book, a, b = Book(), row("a", slots=4), row("b")
    serve(book, a, call("xyz", session=9), 1)
    look(book, b, call("q"))
    other, asked, now_s = call("pqr", session=2), call("abcd"), 10.0
    book.dispatched("a", 2, other, 9.0)
    before = book.estimate(a, asked, book.prompt(asked, now_s), now_s)
    match what:
        case "a little time":
            now_s += 0.2
        case "some time":
            now_s += 0.3
        case "another is sent there":
            book.dispatched("a", 3, call("uvw", session=3), now_s)
        case "another has its first token":
            book.first_token("a", 2, other, now_s, cached=0, prompt=3000)
        case "another is whole":
            book.finished("a", 2, other, now_s, cached=0, prompt=3000, output=5)
        case "another is broken off":
            book.aborted("a", 2, other, now_s)
        case "a slot is taken":
            a = msgspec.structs.replace(a, busy=1)
        case "the last slot is taken":
            a = msgspec.structs.replace(a, busy=4)
        case "it is started anew":
            book.restarted("a")
        case "a conversation throws away what it said":
            book.left(call("xyz", session=9, ends=True), now_s, answered=True)
        case "something happens elsewhere":
            book.dispatched("b", 4, call("uvw", session=3), now_s)
    after = book.estimate(a, asked, book.prompt(asked, now_s), now_s)
    assert anew is (after is not before)
    if anew:
        assert look(book, a, asked, now_s) == after


def test_what_was_foreseen_while_everything_was_full_is_not_what_happens_when_a_slot_is_free() -> None:
    book, full = Book(), row("a", slots=2, busy=2)
    runs = call("abc", session=2)
    look(book, full, runs)
    book.dispatched("a", 1, runs, 0.0)
    asked = call("abcd")
    # It would be given the slot that is busy, if that came free.
    assert 3000.0 == book.estimate(full, asked, book.prompt(asked, 1.0), 1.0).probe.hit_tokens
    book.dispatched("a", 2, asked, 1.0)
    assert 2 == len({run.slot for run in book._shadows["a"].mirror._runs.values()})


# ---------------------------------------------------------------- what is learned of a pool


def test_a_usual_answer_and_a_usual_prompt_are_learned() -> None:
    book, a = Book(), row("a")
    for number in range(300):
        serve(book, a, call("abcd"), number, output=500)
    assert 500.0 == pytest.approx(book.pool("m").answer_tokens, rel=0.01)
    assert 4000.0 == book.pool("m").prompt_tokens
    assert FIRST_ANSWER_TOKENS == book.pool("another").answer_tokens
    assert repr(book.pool("m")).startswith("PoolBook[Tokens[4.0")


def test_an_instance_that_counts_nothing_teaches_nothing() -> None:
    book, asked = Book(), call("abcd")
    look(book, row("a"), asked)
    book.dispatched("a", 1, asked, 0.0)
    book.finished("a", 1, asked, 1.0, cached=None, prompt=None, output=None)
    pool = book.pool("m")
    assert (FIRST_ANSWER_TOKENS, 0.0, 4.0) == (pool.answer_tokens, pool.prompt_tokens, pool.tokens.bytes_per_token)


# ---------------------------------------------------------------- more conversations than room


def over(book: Book, rows: Iterable[Row], now_s: float) -> float:
    rows = list(rows)
    for at in rows:
        look(book, at, call("q", session=0), now_s)
    return book.over_subscribed("m", rows, now_s)


FULLY = module._FULLY_OVER


@pytest.mark.parametrize(("live", "slots"), [(0, 4), (4, 4), (5, 4), (60, 4), (2, 1), (21, 20), (41, 40), (43, 40)])
def test_conversations_under_way_are_weighed_against_slots(live: int, slots: int) -> None:
    book = Book()
    for session in range(live):
        book.arrived(call("a", session=session), 0.0)
    rows = [row("a", slots=slots - slots // 2), *([row("b", slots=slots // 2)] if slots > 1 else [])]
    assert min(1.0, max(0.0, (live / slots - 1) / FULLY)) == pytest.approx(over(book, rows, 1.0))


def test_a_ram_cache_has_room_for_so_many_prompts_and_slots_that_are_copied_there_count_half() -> None:
    book, a = Book(), row("a", slots=40, ram=160_000)
    serve(book, a, call("abcd", session=99), 1)
    room = 160_000 / 4_000 + 40 / 2
    for session in range(61):
        book.arrived(call("a", session=session), 1000.0)
    assert (61 / room - 1) / FULLY == pytest.approx(over(book, [a], 1000.0))
    book.left(call("a", session=0), 1001.0, answered=False)
    left = 60 + book.reuse.probability(1.0, 1001.0)
    assert (left / room - 1) / FULLY == pytest.approx(over(book, [a], 1001.0))


def test_those_who_have_left_count_by_the_chance_that_they_go_on_and_not_for_ever() -> None:
    book, a = Book(), row("a")
    for session in (1, 2):
        serve(book, a, call("ab", session=session), session)
    values = [over(book, [a], at_s) for at_s in (0.5, 2.0, 10.0, LIVE_S + 1.0)]
    assert sorted(values, reverse=True) == values
    assert values[0] > 0.0
    assert "0 conversations]" in repr(book.pool("m"))


def test_it_is_reckoned_anew_four_times_a_second() -> None:
    book, a = Book(), row("a")
    assert 0.0 == over(book, [a], 1.0)
    for session in range(5):
        book.arrived(call("a", session=session), 1.0)
    assert [0.0, 1.0] == [over(book, [a], at_s) for at_s in (1.24, 1.25)]


def test_where_there_is_no_room_at_all_nothing_is_too_much() -> None:
    assert 0.0 == Book().over_subscribed("m", [], 0.0)


def test_a_conversation_with_two_calls_is_under_way_until_both_have_left() -> None:
    book = Book()
    for _ in range(2):
        book.arrived(call("a"), 0.0)
    assert "1 conversations under way" in repr(book)
    book.left(call("a"), 1.0, answered=True)
    assert "1 conversations under way" in repr(book)
    book.left(call("a"), 1.0, answered=True)
    assert "0 conversations under way" in repr(book)


# ---------------------------------------------------------------- many instances at a glance


def test_at_a_glance_no_instance_looks_worse_than_it_is_and_the_warm_one_looks_best() -> None:
    book, rows = Book(), [row(f"i{at}", slots=2) for at in range(3 * FEW)]
    asked = call("abcdefghijklmnopqrstuvwxyz", session=7)
    book.at_least_s(rows, asked, book.prompt(asked, 0.0), 0.0)
    for at, word in ((3, "abcdefghijklmnopqrst"), (5, "abcdefghij"), (8, "zyxwvuts")):
        serve(book, rows[at], call(word, session=at), at)
    bounds = book.at_least_s(rows, asked, book.prompt(asked, 1.0), 1.0)
    assert ["i3", "i5"] == [there.instance.id for _, there in bounds[:2]]
    assert len(rows) == len(bounds)
    assert sorted(bound_s for bound_s, _ in bounds) == [bound_s for bound_s, _ in bounds]
    for bound_s, there in bounds:
        assert bound_s <= look(book, there, asked, 1.0).terms.total_s


def test_what_was_held_before_there_were_many_is_seen_at_a_glance_too() -> None:
    book, rows = Book(), [row(f"i{at}") for at in range(2 * FEW)]
    serve(book, rows[2], call("abcdefghijklmnop"), 1)
    asked = call("abcdefghijklmnopq")
    assert "i2" == book.at_least_s(rows, asked, book.prompt(asked, 0.0), 0.0)[0][1].instance.id


@pytest.mark.parametrize("how", ["restarted", "forgotten"])
def test_at_a_glance_nothing_is_seen_of_what_is_held_no_longer(how: str) -> None:
    book, rows = Book(), [row(f"i{at}") for at in range(2 * FEW)]
    asked = call("abcdefghijklmnopq")
    book.at_least_s(rows, asked, book.prompt(asked, 0.0), 0.0)
    serve(book, rows[2], call("abcdefghijklmnop"), 1)
    if how == "restarted":
        book.restarted("i2")
    else:
        book.forget(["i2"])
    bounds = book.at_least_s(rows, asked, book.prompt(asked, 0.0), 0.0)
    assert 1 == len({bound_s for bound_s, _ in bounds})


# ---------------------------------------------------------------- any history

_histories = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "begun", "first", "finish", "abort", "later", "restart"]),
        st.integers(0, 9),
        st.sampled_from(["a", "b"]),
        st.text("abc", min_size=1, max_size=5),
    ),
    max_size=30,
)


@steady
@given(history=_histories, few=st.sampled_from([module.FEW, 1]))
def test_whatever_happens_all_terms_are_times_and_nobody_stays_under_way(
    history: list[tuple[str, int, str, str]], few: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FEW", few)
        book, now_s, calls = Book(), 0.0, dict[int, tuple[str, Call]]()
        rows = {id_: row(id_, slots=2, ram=ram) for id_, ram in (("a", 0), ("b", 9000))}
        for number, (what, at, id_, word) in enumerate(history):
            picked = sorted(calls)[at % len(calls)] if calls else -1
            there, asked = calls.get(picked, (id_, call(word, session=at, ends=at == 9, begins=at == 8)))
            match what:
                case "send" if sum(one == id_ for one, _ in calls.values()) < 2:
                    calls[number] = id_, (asked := call(word, session=at, ends=at == 9, begins=at == 8))
                    book.arrived(asked, now_s)
                    look(book, rows[id_], asked, now_s)
                    book.dispatched(id_, number, asked, now_s)
                case "begun":
                    book.begun(there, picked)
                case "first":
                    book.first_token(there, picked, asked, now_s, cached=100 * at, prompt=1000 * len(word))
                case "finish" if calls:
                    del calls[picked]
                    book.finished(there, picked, asked, now_s, cached=at, prompt=1000 * len(word), output=50 * at)
                    book.aborted(there, picked, asked, now_s)
                    book.left(asked, now_s, answered=True)
                case "abort" if calls:
                    del calls[picked]
                    book.aborted(there, picked, asked, now_s)
                    book.left(asked, now_s, answered=False)
                case "later":
                    now_s += 2.0**at / 8
                case "restart":
                    book.restarted(id_)
            free = {one: 2 - sum(other == one for other, _ in calls.values()) for one in rows}
            for one, spare in free.items():
                busy = msgspec.structs.replace(rows[one], busy=2 - spare)
                terms = look(book, busy, call(word, session=at), now_s).terms
                assert all(0.0 <= value < 1e5 for value in msgspec.structs.astuple(terms))
            assert 0.0 <= book.over_subscribed("m", list(rows.values()), now_s) <= 1.0
            assert len({asked.session for _, asked in calls.values()}) == len(book._under_way)
