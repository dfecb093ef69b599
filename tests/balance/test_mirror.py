from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.kv import Contents, Entry, Rules, contains
from router.balance.mirror import NEAR_TOKENS, SURE_TOKENS, Mirror, near
from router.balance.tokens import Tokens
from tests.balance.sample import ask, contents, spell, words

steady = settings(derandomize=True, max_examples=150, deadline=None)

RAM = Rules(ram_tokens=100_000.0)


class Server:
    """A mirror that is told of one call after another, each by its prompt's word; calls are numbered as they come."""

    def __init__(self, slots: int = 1, rules: Rules | None = None) -> None:
        self.mirror = Mirror(slots=slots, rules=rules or Rules())
        self.tokens = Tokens()
        self.calls = 0
        self.now_s = 0.0

    def later(self) -> float:
        self.now_s += 1.0
        return self.now_s

    def send(self, word: str, session: int = 1) -> int:
        self.calls += 1
        self.mirror.dispatch(self.calls, ask(word, self.tokens, session=session, now_s=self.later()))
        return self.calls

    def begin(self, number: int, cached: int | None = None, prompt: int | None = None) -> None:
        self.mirror.first_token(number, cached, prompt, self.later())

    def finish(self, number: int, output: int = 0) -> None:
        self.mirror.finish(number, output, self.later())

    def serve(self, word: str, output: int = 0, session: int = 1, cached: int | None = None) -> None:
        number = self.send(word, session)
        self.begin(number, cached, 1000 * len(word))
        self.finish(number, output)

    def warm(self, words_: Iterable[str]) -> None:
        """Side by side, so that each has a slot of its own, from the last one down."""
        numbers = [self.send(word) for word in words_]
        for number in numbers:
            self.begin(number)
        for number in numbers:
            self.finish(number)

    @property
    def slots(self) -> list[str | None]:
        """By the numbers that llama-server gives them: the last one is used first."""
        held = words(self.mirror.contents)[0]
        return [*[None] * (self.mirror.slots - len(held)), *held[::-1]]

    @property
    def ram(self) -> list[str]:
        return words(self.mirror.contents)[1]

    def hit(self, word: str) -> float:
        return self.mirror.probe(ask(word, self.tokens, now_s=self.now_s)).probe.hit_tokens

    def slot(self, number: int) -> int:
        return self.mirror.slots - 1 - self.mirror._runs[number].slot

    def entry(self) -> Entry:
        """What the first slot to be used holds."""
        found = self.mirror.contents.slots[0]
        assert found is not None
        return found


# ---------------------------------------------------------------- the five events


def test_a_call_is_sent_begins_and_is_whole() -> None:
    server = Server(slots=2)
    assert (2, [None, None], "Mirror[- | 0 in RAM | 0 run]") == (
        server.mirror.slots,
        server.slots,
        repr(server.mirror),
    )
    number = server.send("ab", session=5)
    assert [None, "ab"] == server.slots
    assert "Mirror[2000 - | 0 in RAM | 1 run]" == repr(server.mirror)
    server.begin(number, 0, 1900)
    assert (1900.0, 1900.0, 5, 2.0) == (
        server.entry().prompt_tokens,
        server.entry().tokens,
        server.entry().session,
        server.entry().used_s,
    )
    server.finish(number, 50)
    assert (1900.0, 1950.0, 3.0) == (server.entry().prompt_tokens, server.entry().tokens, server.entry().used_s)
    assert "Mirror[1950 - | 0 in RAM | 0 run]" == repr(server.mirror)
    assert [spell("ab")] == list(server.mirror.chains())


def test_a_probe_changes_nothing() -> None:
    server = Server(slots=2, rules=RAM)
    server.warm(["ab", "xy"])
    before = server.mirror.contents
    assert (2000.0, 0.0) == (server.hit("abc"), server.hit("pq"))
    assert before is server.mirror.contents


def test_what_a_call_runs_in_is_not_found_by_another() -> None:
    server = Server(slots=2)
    server.send("ab")
    assert 0.0 == server.hit("abc")
    assert 2000.0 == server.mirror.probe(ask("abc", server.tokens), free=False).probe.hit_tokens


def test_a_call_for_which_there_is_no_slot_is_not_followed() -> None:
    server = Server()
    server.send("ab")
    assert -1 == server.mirror.dispatch(9, ask("xy", server.tokens)).slot
    server.begin(9, 0, 2000)
    server.finish(9, 100)
    server.mirror.abort(9, 1.0)
    assert (["ab"], "Mirror[2000 | 0 in RAM | 1 run]") == (server.slots, repr(server.mirror))


@pytest.mark.parametrize("unknown", [7, 0, -1])
def test_events_of_a_call_that_nobody_knows_change_nothing(unknown: int) -> None:
    server = Server()
    server.serve("ab")
    before = server.mirror.contents
    server.begin(unknown, 5000, 9000)
    server.finish(unknown, 100)
    server.mirror.abort(unknown, 1.0)
    assert before is server.mirror.contents


def test_only_the_first_of_first_tokens_counts() -> None:
    server = Server()
    number = server.send("ab")
    server.begin(number, 0, 1900)
    server.begin(number, 0, 1000)
    assert 1900.0 == server.entry().tokens


def test_an_instance_that_tells_nothing_is_believed_to_do_as_foreseen() -> None:
    server = Server()
    number = server.send("ab")
    server.begin(number)
    server.finish(number)
    assert (2000.0, 2000.0, 4.0) == (server.entry().tokens, server.hit("abc"), server.tokens.bytes_per_token)


def test_a_call_that_is_whole_without_a_first_token_leaves_its_prompt() -> None:
    server = Server()
    server.finish(server.send("ab"), 10)
    assert (2000.0, 2010.0) == (server.entry().prompt_tokens, server.entry().tokens)


def test_a_process_that_was_started_anew_holds_nothing_and_its_calls_are_over() -> None:
    server = Server(slots=2, rules=RAM)
    server.serve("ab")
    number = server.send("xy")
    server.mirror.clear()
    assert ([None, None], [], "Mirror[- | 0 in RAM | 0 run]") == (server.slots, server.ram, repr(server.mirror))
    server.begin(number, 0, 2000)
    server.finish(number, 100)
    assert [None, None] == server.slots


# ---------------------------------------------------------------- broken off


def test_a_call_that_is_broken_off_before_its_answer_leaves_what_was_warm() -> None:
    server = Server()
    server.serve("abc")
    number = server.send("abxy")
    server.mirror.abort(number, 9.0)
    assert (["ab"], 2000.0, 9.0) == (server.slots, server.entry().tokens, server.entry().used_s)
    server.mirror.abort(server.send("xy"), 9.0)
    assert [None] == server.slots


def test_a_call_that_is_broken_off_while_it_is_answered_leaves_its_prompt() -> None:
    server = Server()
    number = server.send("ab")
    server.begin(number, 0, 2100)
    server.mirror.abort(number, 9.0)
    assert (["ab"], 2100.0, 9.0) == (server.slots, server.entry().tokens, server.entry().used_s)
    assert "1 run" not in repr(server.mirror)


@pytest.mark.parametrize("how", ["sent", "begun", "whole", "broken off", "broken off before it began"])
def test_what_was_foreseen_is_foreseen_anew_when_something_has_happened_since(how: str) -> None:
    server = Server(slots=3)
    server.warm(["abcd"])
    runs = server.send("abcde")
    if how in {"whole", "broken off"}:
        server.begin(runs)
    prompt = ask("abcdef", server.tokens, now_s=50.0)
    foreseen = server.mirror.probe(prompt)
    match how:
        case "sent":
            server.send("xyz")
        case "begun":
            server.begin(runs, 4000, 5000)
        case "whole":
            server.finish(runs)
        case _:
            server.mirror.abort(runs, server.later())
    expected = server.mirror.probe(ask("abcdef", server.tokens, now_s=50.0))
    assert expected.probe == server.mirror.dispatch(77, prompt, foreseen)
    assert expected.after.slots == server.mirror.contents.slots[: len(expected.after.slots)]


def test_what_was_foreseen_happens_if_nothing_else_has() -> None:
    server = Server(slots=2)
    server.warm(["abcd"])
    prompt = ask("abcdef", server.tokens, now_s=50.0)
    foreseen = server.mirror.probe(prompt)
    assert foreseen.probe is server.mirror.dispatch(77, prompt, foreseen)
    assert foreseen.after.slots == server.mirror.contents.slots[: len(foreseen.after.slots)]


# ---------------------------------------------------------------- disowned


def test_what_a_conversation_threw_away_belongs_to_nobody_and_stays_warm() -> None:
    server = Server(slots=2, rules=RAM)
    server.serve("ab", session=1)
    server.serve("xy", session=2)
    server.serve("pq", session=2)
    server.mirror.disown(1)
    sessions = {words_: one.session for words_, one in _held(server)}
    assert {"ab": 0, "xy": 2, "pq": 2} == sessions
    assert 2000.0 == server.hit("abc")


def _held(server: Server) -> list[tuple[str, Entry]]:
    found = [one for one in (*server.mirror.contents.slots, *server.mirror.contents.ram) if one is not None]
    slots, ram = words(server.mirror.contents)
    return list(zip([*(name for name in slots if name is not None), *ram], found, strict=True))


# ---------------------------------------------------------------- corrections


@pytest.mark.parametrize(("tokens", "off"), [(0, 128.0), (4266, 128.0), (10_000, 300.0)])
def test_a_count_may_be_off_by_a_little(tokens: int, off: float) -> None:
    assert off == pytest.approx(near(tokens), abs=0.1)
    assert 128 == NEAR_TOKENS


def test_more_than_was_believed_was_found_in_the_slot_that_explains_it_and_what_it_held_is_there_again() -> None:
    server = Server(slots=3)
    server.warm(["abc", "xyz", "uvw"])
    assert ["uvw", "xyz", "abc"] == server.slots
    runs = server.send("abcd")
    server.begin(runs)
    late, other = server.send("abcde"), server.send("pqr")
    assert ["pqr", "abcde", "abcd"] == server.slots
    server.finish(runs)  # which of the two gets it?
    assert ["pqr", "abcde", "abcd"] == server.slots
    server.begin(late, 4000, 5000)
    assert (["pqr", "xyz", "abcde"], 2, 0) == (server.slots, server.slot(late), server.slot(other))


def test_less_than_was_believed_would_be_found_in_every_slot_so_nothing_is_moved() -> None:
    server = Server(slots=2)
    server.warm(["abz", "abcd"])
    number = server.send("abzz")
    server.begin(number, 2000, 4000)
    assert (["abcd", "abzz"], 1) == (server.slots, server.slot(number))


def test_of_two_calls_sent_at_once_the_second_may_have_taken_the_firsts_slot() -> None:
    server = Server(slots=2)
    server.warm(["abcd", "abxy"])
    assert ["abxy", "abcd"] == server.slots
    first, second = server.send("abcde"), server.send("abcdz")
    assert (1, 0) == (server.slot(first), server.slot(second))  # 4,000 and 2,000 believed
    server.begin(second, 4000, 5000)
    assert (0, 1) == (server.slot(first), server.slot(second))
    assert ["abcde", "abcdz"] == server.slots
    server.begin(first, 2000, 5000)
    server.finish(first)
    server.finish(second)
    assert ["abcde", "abcdz"] == server.slots


def test_a_call_that_is_read_already_is_not_moved() -> None:
    server = Server(slots=2)
    server.warm(["abcd", "abxy"])
    first, second = server.send("abcde"), server.send("abcdz")
    server.begin(first, 4000, 5000)
    server.begin(second, 4000, 5000)  # nothing explains it
    assert (1, 0) == (server.slot(first), server.slot(second))


@pytest.mark.parametrize(("cached", "ram"), [(4000, ["xyz"]), (4129, ["abcd", "xyz"]), (2000, ["abcd", "xyz"])])
def test_what_was_found_in_the_ram_cache_is_there_no_longer(cached: int, ram: list[str]) -> None:
    server = Server(rules=RAM)
    server.mirror._contents = contents(["ab"], ["abcd", "xyz"])  # of the slot enough is kept to overwrite it
    number = server.send("abcde")
    assert (["abcde"], ["abcd", "xyz"]) == (server.slots, server.ram)
    server.begin(number, cached, 5000)
    assert (["abcde"], ram) == (server.slots, server.ram)


def test_once_nothing_where_much_was_sure_may_be_chance_twice_is_a_new_process() -> None:
    server = Server(slots=3, rules=RAM)
    server.warm(["abc", "xyz", "uvw"])
    runs = server.send("hold")
    server.begin(runs)
    number = server.send("abcd")
    server.begin(number, 0, 4000)
    assert 2000.0 < server.hit("uvwx")
    server.finish(number)
    number = server.send("xyzw")
    server.begin(number, 0, 4000)
    assert (0.0, []) == (server.hit("uvwx"), server.ram)
    server.finish(number)
    server.finish(runs)
    # What has run since is there.
    assert sorted(["hold", "xyzw"]) == sorted(name for name in server.slots if name is not None)
    assert server.hit("holds") == 4000.0


@pytest.mark.parametrize("between", ["all was found", "something was found", "nothing was sure"])
def test_what_is_found_in_between_shows_that_the_process_is_the_same(between: str) -> None:
    server = Server(slots=4)
    server.warm(["abc", "xyz", "uvw", "klm"])
    server.serve("abcd", cached=0)
    match between:
        case "all was found":
            server.serve("klmn", cached=3000)
        case "something was found":
            server.serve("klmn", cached=500)
        case _:
            server.serve("o", cached=0)
    server.serve("xyzw", cached=0)
    assert server.hit("klmn" if between == "nothing was sure" else "uvwx") > SURE_TOKENS


def test_answers_that_come_back_warm_are_counted_on() -> None:
    server = Server()
    server.serve("ab", output=400)
    assert 2000.0 == server.hit("abc")
    for _ in range(20):
        server.serve("ab", output=400, cached=1999)
        server.serve("abc", cached=2400)
    server.serve("ab", output=400)
    assert 2400.0 == pytest.approx(server.hit("abc"), abs=10.0)
    for _ in range(20):
        server.serve("ab", output=400, cached=1999)
        server.serve("abc", cached=2000)
    server.serve("ab", output=400)
    assert 2000.0 == pytest.approx(server.hit("abc"), abs=10.0)


def test_an_answer_that_comes_back_does_not_bend_what_a_token_weighs() -> None:
    server = Server(rules=Rules(echo=1.0))
    for at in range(10):
        name = "abcdefghij"[at]
        server.serve(name, output=900)
        # Of the 1,000 tokens of the next unit 900 were the answer.
        server.serve(name + "z", cached=1900)
    assert 4.0 == pytest.approx(server.tokens.bytes_per_token, abs=0.01)


@pytest.mark.parametrize("output", [15, 16])
def test_a_short_answer_teaches_nothing_of_whether_answers_come_back(output: int) -> None:
    server = Server()
    server.serve("ab", output=output)
    server.serve("abc", cached=2000 + output)
    assert (output >= 16) is (server.mirror.rules.echo > 0.0)


def test_what_differing_units_share_is_learned_and_found_the_next_time() -> None:
    server = Server()
    server.serve("ax")
    server.serve("ab", cached=1400)
    assert 1400.0 == server.hit("ac")


# ---------------------------------------------------------------- a slot that comes free meanwhile


def test_a_call_that_has_not_begun_takes_the_better_slot_that_comes_free() -> None:
    server = Server(slots=2)
    server.warm(["abc", "xyz"])
    assert ["xyz", "abc"] == server.slots
    runs = server.send("abcd")
    server.begin(runs)
    late = server.send("abcde")
    assert (0, ["abcde", "abcd"]) == (server.slot(late), server.slots)
    server.finish(runs)
    assert (1, ["xyz", "abcde"]) == (server.slot(late), server.slots)
    server.begin(late, 4000, 5000)
    server.finish(late)
    assert ["xyz", "abcde"] == server.slots


@pytest.mark.parametrize("why", ["it has begun", "the slot is no better"])
def test_a_call_stays_where_it_is_if(why: str) -> None:
    server = Server(slots=2)
    server.warm(["abc", "xyz"])
    runs = server.send("abcd" if why == "it has begun" else "pqr")
    server.begin(runs)
    late = server.send("abcde")
    was = server.slot(late)
    if why == "it has begun":
        server.begin(late, 0, 5000)
    server.finish(runs)
    assert was == server.slot(late)


def test_the_choice_is_made_anew_with_the_ram_cache_too() -> None:
    server = Server(slots=2, rules=RAM)
    server.warm(["abc", "xyz"])
    runs = server.send("abcd")
    server.begin(runs)
    late = server.send("abcde")
    assert "xyz" in server.ram
    server.finish(runs)
    assert (1, ["xyz", "abcde"]) == (server.slot(late), server.slots)
    assert 4000.0 == server.mirror._runs[late].probe.hit_tokens


def test_what_was_taken_out_of_the_ram_cache_is_there_again_when_the_call_takes_another_slot() -> None:
    server = Server(slots=2, rules=RAM)
    server.warm(["xyz", "abcd"])
    runs = server.send("abcde")
    server.begin(runs)
    server.mirror._contents = Contents(server.mirror.contents.slots, contents([], ["abcp"]).ram)
    late = server.send("abcf")
    assert (["abcf"], ["xyz"]) == ([server.slots[server.slot(late)]], server.ram)
    server.finish(runs)
    assert ["abcf", "xyz"] == server.slots
    assert ["abcp", "xyz"] == server.ram


def test_a_slot_that_comes_free_because_its_call_was_broken_off_is_raced_for_as_well() -> None:
    server = Server(slots=2)
    server.warm(["abc", "xyz"])
    runs = server.send("abcd")
    server.begin(runs)
    late = server.send("abcde")
    server.mirror.abort(runs, server.later())
    assert (1, ["xyz", "abcde"]) == (server.slot(late), server.slots)


# ---------------------------------------------------------------- any history

_words = st.text("abc", min_size=1, max_size=5)
_at = st.integers(0, 9)
_cached = st.none() | st.integers(0, 6000)
_histories = st.lists(
    st.one_of(
        st.tuples(st.just("send"), _words, st.integers(1, 3)),
        st.tuples(st.just("send"), _words, st.integers(1, 3)),
        st.tuples(st.just("begin"), _at, _cached),
        st.tuples(st.just("begin"), _at, _cached),
        st.tuples(st.just("finish"), _at, st.integers(0, 500)),
        st.tuples(st.just("finish"), _at, st.integers(0, 500)),
        st.tuples(st.just("abort"), _at, st.just(0)),
        st.tuples(st.just("disown"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("clear"), st.just(0), st.just(0)),
    ),
    max_size=30,
)
_rules = st.builds(
    Rules,
    ram_tokens=st.sampled_from([0.0, 2500.0, 8000.0, 100_000.0]),
    unified=st.booleans(),
    echo=st.sampled_from([0.0, 1.0]),
)


class Told(Server):
    """A mirror that is told anything, and has to bear it."""

    def __init__(self, slots: int, rules: Rules) -> None:
        super().__init__(slots, rules)
        self.runs: dict[int, str] = {}

    def happen(self, what: tuple[str, object, object]) -> None:
        match what:
            case ("send", str(word), int(session)) if len(self.runs) < self.mirror.slots:
                self.runs[self.send(word, session)] = word
            case ("begin", int(at), int() | None as cached) if self.runs:
                number, word = self.pick(at)
                prompt = None if cached is None else 1000 * len(word)
                self.begin(number, None if cached is None or prompt is None else min(cached, prompt - 1), prompt)
            case ("finish", int(at), int(output)) if self.runs:
                number, _ = self.pick(at)
                del self.runs[number]
                self.finish(number, output)
            case ("abort", int(at), _) if self.runs:
                number, _ = self.pick(at)
                del self.runs[number]
                self.mirror.abort(number, self.later())
            case ("disown", int(session), _):
                self.mirror.disown(session)
            case ("clear", _, _):
                self.mirror.clear()
                self.runs.clear()

    def pick(self, at: int) -> tuple[int, str]:
        number = sorted(self.runs)[at % len(self.runs)]
        return number, self.runs[number]

    def check(self, slots: int, rules: Rules) -> None:
        held = self.mirror.contents
        assert slots == self.mirror.slots == len(self.slots)
        assert sum(one.tokens for one in held.ram) <= rules.ram_tokens
        runs = self.mirror._runs
        assert set(self.runs) == set(runs)
        assert len({run.slot for run in runs.values()}) == len(runs), "two runs in one slot"
        for number, word in self.runs.items():
            assert 0 <= self.slot(number) < slots
            assert word == self.slots[self.slot(number)], "a run is not where it is believed to be"
        for one in (*held.slots, *held.ram):
            assert one is None or 0.0 <= one.prompt_tokens <= one.tokens
        assert 0.0 <= self.mirror.rules.echo <= 1.0
        assert not any(contains(a, b) for a in held.ram for b in held.ram if a is not b)


@steady
@given(history=_histories, slots=st.integers(1, 3), rules=_rules)
def test_whatever_happens_every_run_has_one_slot_and_the_ram_cache_its_limit(
    history: list[tuple[str, object, object]], slots: int, rules: Rules
) -> None:
    told = Told(slots, rules)
    for what in history:
        told.happen(what)
        told.check(slots, rules)


@steady
@given(history=_histories, slots=st.integers(1, 3), rules=_rules, word=_words)
def test_whatever_happened_a_prompt_that_was_served_last_is_found_but_for_a_token(
    history: list[tuple[str, object, object]], slots: int, rules: Rules, word: str
) -> None:
    told = Told(slots, rules)
    for what in history:
        told.happen(what)
    for number in list(told.runs):
        told.finish(number)
    number = told.send(word)
    told.begin(number)
    told.finish(number)
    tokens = told.tokens.total(spell(word), 0, 0.0)
    assert told.hit(word) >= min(tokens, told.mirror.probe(ask(word, told.tokens)).probe.prompt_tokens) - 1.001


@steady
@given(history=_histories, rules=_rules)
def test_the_same_history_is_believed_alike(history: list[tuple[str, object, object]], rules: Rules) -> None:
    one, other = Told(2, rules), Told(2, rules)
    for what in history:
        one.happen(what)
        other.happen(what)
    assert (one.mirror.contents, one.mirror.rules) == (other.mirror.contents, other.mirror.rules)
