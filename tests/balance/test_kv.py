import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.chain import chain, common
from router.balance.kv import Contents, Entry, Prompt, Rules, choose, contains, start
from router.balance.tokens import Tokens
from tests.balance.sample import SEED, ask, contents, entry, spell, words

steady = settings(derandomize=True, max_examples=200, deadline=None)

AMPLE = 100_000
Slots = list[str | None]


# ---------------------------------------------------------------- which slot


@pytest.mark.parametrize(
    ("slots", "busy", "asked", "slot", "hit"),
    [
        # The one most like the prompt, if it is more like it than a tenth.
        (["ab", "abc"], [], "abcd", 1, 3000),
        (["abc", "ab"], [], "abcd", 0, 3000),
        (["abcdef", "ab"], [], "abcx", 0, 3000),
        (["xyz", "abcdefgh"], [], "ab", 1, 1999),
        (["xx", "az"], [], "a12345678", 1, 1000),
        (["xx", "az"], [], "a123456789", 0, 0),
        # Of equals the last, whoever was used last (llama-server's own numbers run the other way).
        (["abx", "aby"], [], "abz", 1, 2000),
        (["abx", "aby", "xyz"], [], "abz", 1, 2000),
        (["abx", "aby"], [1], "abz", 0, 2000),
        # Else the one used longest ago, with what little it has in common; of those never used the last.
        (["xx", "yy"], [], "ab", 0, 0),
        ([None, None, None], [], "ab", 2, 0),
        (["xx", None, None], [], "ab", 2, 0),
        ([None, "xx"], [], "ab", 0, 0),
        (["az"], [], "a123456789", 0, 1000),
        # Nobody sees what is held by slots that are busy.
        (["ab", "abc"], [1], "abcd", 0, 2000),
        (["xx", "abc"], [1], "abcd", 0, 0),
        ([None, None, None], [2], "ab", 1, 0),
        (["ab", "abc"], [0, 1], "abcd", -1, 0),
        # The last token of a prompt is always computed.
        (["ab", "xx"], [], "ab", 0, 1999),
    ],
)
def test_a_call_is_given_the_slot_that_llama_server_would_give_it(
    slots: Slots, busy: list[int], asked: str, slot: int, hit: float
) -> None:
    probe, after = start(contents(slots), busy, ask(asked), Rules())
    assert (slot, hit, 1000.0 * len(asked)) == (probe.slot, probe.hit_tokens, probe.prompt_tokens)
    expected = [asked if at == slot else word for at, word in enumerate(slots)]
    assert (expected, []) == (words(after)[0], words(after)[1])


def test_of_idle_slots_the_one_whose_call_ended_first_is_taken() -> None:
    held = Contents((entry("xx", used_s=9.0), entry("yy", used_s=3.0), entry("zz", used_s=5.0)))
    assert 1 == choose(held, (), ask("ab"), Rules()).slot
    assert 2 == choose(held, (1,), ask("ab"), Rules()).slot


@pytest.mark.parametrize(
    ("first", "second", "slot"), [("hello you", "hello there", 1), ("hello there", "hello you", 0)]
)
def test_between_equals_the_first_bytes_of_the_next_unit_decide(first: str, second: str, slot: int) -> None:
    def held(tail: str) -> Entry:
        made = chain(SEED, [b"h" * 4000, tail.encode()])
        return Entry(chain=made, session=1, prompt_tokens=1003.0, tokens=1003.0, used_s=0.0)

    asked = Prompt(chain(SEED, [b"h" * 4000, b"hello thorn"]), 1, Tokens(), 0.0)
    assert slot == choose(Contents((held(first), held(second))), (), asked, Rules()).slot


def test_without_any_unit_in_common_equal_beginnings_count_for_nothing() -> None:
    one = Entry(chain=chain(SEED, [b"hello there"]), session=1, prompt_tokens=3.0, tokens=3.0, used_s=0.0)
    assert (1, 0, 0.0) == _choice(
        Contents((entry("xx", used_s=1.0), one)), Prompt(chain(SEED, [b"hello"]), 1, Tokens(), 0.0)
    )


def _choice(held: Contents, asked: Prompt) -> tuple[int, int, float]:
    made = choose(held, (), asked, Rules())
    return made.slot, made.units, made.hit


# ---------------------------------------------------------------- the RAM cache


@pytest.mark.parametrize(
    ("held", "limit", "asked", "found", "after"),
    [
        # A slot of which half or more is kept is overwritten, else it is saved first.
        ((["abcd"], []), AMPLE, "abxy", (2000, 0), (["abxy"], [])),
        ((["abcde"], []), AMPLE, "abxy", (2000, 5000), (["abxy"], ["abcde"])),
        ((["xyz"], []), AMPLE, "abc", (0, 3000), (["abc"], ["xyz"])),
        # An entry that is better in both ways is moved into the slot.
        ((["xyz"], ["abc"]), AMPLE, "abcd", (3000, 6000), (["abcd"], ["xyz"])),
        (([None], ["abc"]), AMPLE, "abcd", (3000, 3000), (["abcd"], [])),
        ((["xyz"], ["abc", "ab"]), AMPLE, "abcd", (3000, 6000), (["abcd"], ["ab", "xyz"])),
        ((["xyz"], ["ab", "abc"]), AMPLE, "abcd", (2000, 5000), (["abcd"], ["abc", "xyz"])),
        # Of which a quarter at least is of use.
        ((["xyz"], ["apqr"]), AMPLE, "abc", (1000, 7000), (["abc"], ["xyz"])),
        ((["xyz"], ["apqrs"]), AMPLE, "abc", (0, 3000), (["abc"], ["apqrs", "xyz"])),
        # Better in one way is not enough: here more is found, but less of it kept; there as much is found.
        ((["abxxx"], ["abcyyyyyy"]), AMPLE, "abcd", (2000, 5000), (["abcd"], ["abcyyyyyy", "abxxx"])),
        ((["abxxx"], ["abcyyy"]), AMPLE, "abcd", (3000, 11000), (["abcd"], ["abxxx"])),
        ((["abxxx"], ["ab"]), AMPLE, "abcd", (2000, 5000), (["abcd"], ["abxxx"])),
        # While a slot fits, nobody looks into the cache.
        ((["ab"], ["abcd"]), AMPLE, "abcde", (2000, 0), (["abcde"], ["abcd"])),
        # First in, first out, by tokens; what is larger than all of it stays out.
        ((["xyz"], ["p", "q"]), 5000, "abc", (0, 3000), (["abc"], ["p", "q", "xyz"])),
        ((["xyz"], ["p", "q"]), 4999, "abc", (0, 3000), (["abc"], ["q", "xyz"])),
        ((["xyz"], ["p", "q"]), 3999, "abc", (0, 3000), (["abc"], ["xyz"])),
        ((["xyz"], ["p", "q"]), 2999, "abc", (0, 0), (["abc"], ["p", "q"])),
        # Room is made before it is looked for something better.
        ((["xyz"], ["abc"]), 5999, "abcd", (0, 3000), (["abcd"], ["xyz"])),
        ((["xyz"], ["abc"]), 6000, "abcd", (3000, 6000), (["abcd"], ["xyz"])),
        # What is part of an entry is not saved again, and takes its parts' place.
        ((["xyz"], ["xyzw", "p"]), AMPLE, "abc", (0, 0), (["abc"], ["xyzw", "p"])),
        ((["xyz"], ["xy", "p", "x"]), AMPLE, "abc", (0, 3000), (["abc"], ["p", "xyz"])),
        # Idle slots are saved as well, once.
        ((["xyz", "ab"], []), AMPLE, "abc", (2000, 3000), (["xyz", "abc"], ["xyz"])),
        ((["xyz", "ab"], ["xyz"]), AMPLE, "abc", (2000, 0), (["xyz", "abc"], ["xyz"])),
        ((["xyz", "uvw"], []), AMPLE, "abc", (0, 6000), (["abc", "uvw"], ["xyz", "uvw"])),
        # There is none.
        ((["xyz", "abcde"], []), 0, "abxy", (2000, 0), (["xyz", "abxy"], [])),
    ],
)
def test_the_ram_cache_does_as_llama_servers(
    held: tuple[Slots, list[str]],
    limit: int,
    asked: str,
    found: tuple[float, float],
    after: tuple[Slots, list[str]],
) -> None:
    probe, left = start(contents(*held), (), ask(asked), Rules(ram_tokens=float(limit)))
    assert found == (probe.hit_tokens, probe.moved_tokens)
    assert after == words(left)


@pytest.mark.parametrize(
    ("limit", "busy", "after", "ram_after"),
    [
        (AMPLE, [], ["abc", None, None], ["uvw", "xyz"]),
        (AMPLE, [1], ["abc", "xyz", None], ["uvw"]),
        (2999, [], ["abc", None, None], []),
        (3000, [], ["abc", None, None], ["xyz"]),
        (0, [], ["abc", "xyz", "uvw"], []),
    ],
)
def test_where_slots_share_their_memory_idle_ones_are_cleared_once_they_are_saved(
    limit: int, busy: list[int], after: Slots, ram_after: list[str]
) -> None:
    rules = Rules(ram_tokens=float(limit), unified=True)
    assert (after, ram_after) == words(start(contents(["ab", "xyz", "uvw"]), busy, ask("abc"), rules)[1])


def test_a_slot_that_is_busy_is_not_saved() -> None:
    rules = Rules(ram_tokens=AMPLE)
    assert (["ab", "abc"], []) == words(start(contents(["ab", "abc"]), [0], ask("abc"), rules)[1])


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("asked", "echo", "hit", "prompt_tokens"),
    [
        ("abc", 0.0, 2000, 3000),
        ("abc", 1.0, 2400, 3000),
        ("abc", 0.5, 2200, 3000),
        ("ab", 1.0, 1999, 2000),
        ("a", 1.0, 999, 1000),
        ("ax", 1.0, 1000, 2000),
    ],
)
def test_an_answer_is_warm_as_far_as_answers_come_back_and_takes_no_tokens_of_its_own(
    asked: str, echo: float, hit: float, prompt_tokens: float
) -> None:
    probe, _ = start(Contents((entry("ab", answer=400),)), (), ask(asked), Rules(echo=echo))
    assert (hit, prompt_tokens) == (probe.hit_tokens, probe.prompt_tokens)


def test_an_answer_counts_for_what_is_kept_of_a_slot() -> None:
    rules = Rules(ram_tokens=AMPLE)
    assert () == start(Contents((entry("abcd", answer=0),)), (), ask("abxy"), rules)[1].ram
    assert 1 == len(start(Contents((entry("abcd", answer=1),)), (), ask("abxy"), rules)[1].ram)


def test_what_differing_units_are_known_to_share_is_warm_too() -> None:
    tokens = Tokens()
    tokens.observe_shared(spell("ab"), 1, 300.0)
    probe, _ = start(contents(["ax"]), (), ask("ab", tokens), Rules())
    assert (1, 1300.0, 2000.0, True, 300.0) == (
        probe.units,
        probe.hit_tokens,
        probe.prompt_tokens,
        probe.diverges,
        probe.beyond_tokens,
    )


def test_counted_prompts_are_not_guessed() -> None:
    tokens = Tokens()
    for word, count in (("a", 700), ("abc", 2500)):
        tokens.observe(spell(word), count, units=len(word), tokens=count)
    probe, after = start(contents(["axx"]), (), ask("abc", tokens), Rules())
    assert (700.0, 2500.0) == (probe.hit_tokens, probe.prompt_tokens)
    assert after.slots[0] is not None
    assert (2500.0, 2500.0) == (after.slots[0].prompt_tokens, after.slots[0].tokens)


# ---------------------------------------------------------------- what is lost


@pytest.mark.parametrize(
    ("slots", "ram", "rules", "asked", "lost"),
    [
        (["abcd"], [], Rules(), "abxy", [("abcd", 2000)]),
        (["abcd"], [], Rules(), "abcdxy", []),  # goes on in it
        (["xyz"], [], Rules(), "abc", [("xyz", 0)]),
        (["xyz"], [], Rules(ram_tokens=AMPLE), "abc", []),
        (["abcd"], [], Rules(ram_tokens=AMPLE), "abxy", [("abcd", 2000)]),  # overwritten unsaved
        (["abc", "abcd"], [], Rules(), "abxy", [("abcd", 3000)]),  # most of it is elsewhere
        (["abcde", "abcd"], [], Rules(), "abxy", []),  # all of it is
        (["xyz"], ["pq", "r"], Rules(ram_tokens=5000, unified=True), "abc", [("pq", 0)]),
        # Where slots keep what they hold, what sinks into the older half of the cache counts as lost; and once only.
        (["xyz"], ["pqr"], Rules(ram_tokens=6000), "abc", [("pqr", 0)]),
        (["xyz"], ["pqr"], Rules(ram_tokens=12_000), "abc", []),
        (["xyz"], ["pqr", "uvw"], Rules(ram_tokens=8000), "abc", [("uvw", 0)]),
        (["xyz"], ["abpq"], Rules(ram_tokens=AMPLE), "abc", [("abpq", 2000)]),  # moved, and overwritten there
        (["ab", "xyz"], [], Rules(ram_tokens=2000, unified=True), "abc", [("xyz", 0)]),  # cleared, but too large
        (["ab", "xyz", "uvw"], [], Rules(ram_tokens=4000, unified=True), "abc", [("uvw", 0)]),
        (["ab", "xyz", "uvw"], [], Rules(ram_tokens=4000), "abc", []),
        ([None], [], Rules(ram_tokens=AMPLE), "abc", []),
    ],
)
def test_what_nobody_can_find_any_more_is_lost(
    slots: Slots, ram: list[str], rules: Rules, asked: str, lost: list[tuple[str, float]]
) -> None:
    probe, _ = start(contents(slots, ram), (), ask(asked), rules)
    assert [(spell(word), covered) for word, covered in lost] == [
        (one.entry.chain, one.covered_tokens) for one in probe.lost
    ]


@pytest.mark.parametrize(("answer", "lost"), [(255, 0), (256, 1)])
def test_a_short_tail_is_not_mourned(answer: int, lost: int) -> None:
    # As the next turn replaces what was answered, so the answer is the tail.
    probe, _ = start(Contents((entry("xyz", answer=answer), entry("xy"))), (1,), ask("xyab"), Rules())
    assert 1 == len(probe.lost)
    one = Entry(chain=spell("x"), session=1, prompt_tokens=float(answer), tokens=float(answer), used_s=0.0)
    assert lost == len(start(Contents((one,)), (), ask("abc"), Rules())[0].lost)


def test_one_prompt_holds_another_that_it_begins_with() -> None:
    assert contains(entry("abc"), entry("ab"))
    assert contains(entry("ab"), entry("ab"))
    assert not contains(entry("ab"), entry("abc"))
    assert not contains(entry("abc"), entry("ax"))


@pytest.mark.parametrize(
    ("other", "holds"),
    [("abc", True), ("abcx", True), ("abcxyz", True), ("ab", False), ("abxc", False), ("xabc", False), ("c", False)],
)
def test_a_prompt_is_known_by_what_every_prompt_holds_that_goes_on_from_it_and_no_other(
    other: str, holds: bool
) -> None:
    assert holds is (entry("abc", answer=300).tail in spell(other).ids)


# ---------------------------------------------------------------- any contents

_word = st.text("abc", min_size=1, max_size=5)
_held = st.builds(
    lambda word, answer, used_s: entry(word, answer=answer, used_s=used_s),
    _word,
    st.sampled_from([0, 0, 300]),
    st.integers(0, 9).map(float),
)
_limits = st.sampled_from([0.0, 2500.0, 6000.0, 100_000.0])


@st.composite
def _situations(draw: st.DrawFn) -> tuple[Contents, set[int], str, Rules]:
    """Contents that calls have made, one after another, and the next call."""
    rules = Rules(ram_tokens=draw(_limits), unified=draw(st.booleans()), echo=draw(st.sampled_from([0.0, 1.0])))
    held = Contents((None,) * draw(st.integers(1, 3)))
    for at, (word, answer) in enumerate(draw(st.lists(st.tuples(_word, st.sampled_from([0, 300])), max_size=6))):
        probe, held = start(held, (), ask(word, now_s=float(at)), rules)
        held = held.with_slot(probe.slot, entry(word, answer=answer, used_s=at + 0.5))
    busy = draw(st.sets(st.integers(0, len(held.slots) - 1)))
    return held, busy, draw(_word), rules


@steady
@given(situation=_situations())
def test_whatever_is_held_a_start_keeps_slots_busy_ones_and_the_limit(
    situation: tuple[Contents, set[int], str, Rules],
) -> None:
    held, busy, asked, rules = situation
    probe, after = start(held, busy, ask(asked, now_s=99.0), rules)
    assert len(held.slots) == len(after.slots)
    assert all(after.slots[at] is held.slots[at] for at in busy)
    assert sum(one.tokens for one in after.ram) <= rules.ram_tokens
    assert not any(contains(a, b) for a in after.ram for b in after.ram if a is not b)
    assert 0.0 <= probe.hit_tokens < probe.prompt_tokens
    if probe.slot < 0:
        assert len(busy) == len(held.slots)
        assert after is held
        return
    assert probe.slot not in busy
    taken = after.slots[probe.slot]
    assert taken is not None
    assert (spell(asked), 99.0) == (taken.chain, taken.used_s)
    if not rules.unified:
        assert all(after.slots[at] is old for at, old in enumerate(held.slots) if at != probe.slot)
    before = [one for one in (*held.slots, *held.ram) if one is not None]
    assert probe.hit_tokens <= max((1000.0 * common(one.chain, spell(asked)) + 300 for one in before), default=0.0)
    assert all(any(one.entry is other for other in before) for one in probe.lost)
    assert all(0.0 <= one.covered_tokens < one.entry.tokens for one in probe.lost)


@steady
@given(situation=_situations())
def test_a_prompt_that_was_just_read_is_warm_but_for_its_last_token(
    situation: tuple[Contents, set[int], str, Rules],
) -> None:
    held, _, asked, rules = situation
    _, after = start(held, (), ask(asked), rules)
    again, _ = start(after, (), ask(asked), rules)
    assert (1000.0 * len(asked) - 1.0, ()) == (again.hit_tokens, again.lost)


@steady
@given(situation=_situations())
def test_the_same_contents_give_the_same_start(situation: tuple[Contents, set[int], str, Rules]) -> None:
    held, busy, asked, rules = situation
    assert start(held, busy, ask(asked), rules) == start(held, busy, ask(asked), rules)
