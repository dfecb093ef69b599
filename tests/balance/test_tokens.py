import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance import tokens as module
from router.balance.chain import chain, opaque
from router.balance.tokens import BYTES_PER_TOKEN, Tokens
from tests.balance.sample import spell

steady = settings(derandomize=True, max_examples=100, deadline=None)


def test_before_anything_was_counted_four_bytes_are_a_token() -> None:
    assert (4.0, 3000.0, None) == (BYTES_PER_TOKEN, Tokens().total(spell("abc"), 0, 0.0), Tokens().known(spell("a"), 1))
    assert "Tokens[4.00 bytes a token, 0 prompts known]" == repr(Tokens())


def test_nothing_has_no_tokens() -> None:
    assert 0 == Tokens().known(spell("abc"), 0)
    assert 0.0 == Tokens().shared(spell("abc"), 0)


def test_what_was_counted_is_exact_and_the_rest_goes_by_its_bytes() -> None:
    tokens = Tokens()
    tokens.observe(spell("ab"), 1500, units=0, tokens=0.0)
    assert 1500 == tokens.known(spell("ab"), 2) == tokens.known(spell("abc"), 2)
    assert tokens.known(spell("ab"), 1) is None
    assert 1500.0 == tokens.total(spell("ab"), 0, 0.0)
    rest = 4000 / tokens.bytes_per_token
    assert 1500.0 + rest == tokens.total(spell("abc"), 2, 1500.0)
    assert 700.0 + 2 * rest == tokens.total(spell("abc"), 1, 700.0)
    assert 1500.0 == tokens.total(spell("ab"), 2, 1500.0)


def test_the_first_answers_move_the_mean_quickly_and_later_ones_slowly() -> None:
    tokens = Tokens()
    seen = []
    for number in range(12):
        tokens.observe(chain(number, [b"x" * 4000]), 800, units=0, tokens=0.0)
        seen.append(tokens.bytes_per_token)
    steps = [(after - before) / (5.0 - before) for before, after in zip([4.0, *seen], seen, strict=False)]
    assert [pytest.approx(0.3)] * 10 + [pytest.approx(0.05)] * 2 == steps


def test_only_what_is_new_of_a_prompt_teaches_how_many_bytes_a_token_has() -> None:
    tokens = Tokens()
    tokens.observe(spell("ab"), 1800, units=1, tokens=1000.0)  # 4,000 bytes in 800 tokens
    assert 4.0 + 0.3 * 1.0 == pytest.approx(tokens.bytes_per_token)


@pytest.mark.parametrize(("units", "known", "prompt_tokens"), [(1, 1000.0, 1063), (2, 1000.0, 5000), (1, 2000.0, 1500)])
def test_too_little_news_teaches_nothing(units: int, known: float, prompt_tokens: int) -> None:
    tokens = Tokens()
    tokens.observe(spell("ab"), prompt_tokens, units=units, tokens=known)
    assert 4.0 == tokens.bytes_per_token


def test_a_prompt_of_which_nothing_is_known_teaches_nothing() -> None:
    tokens = Tokens()
    tokens.observe(opaque(1), 5000, units=0, tokens=0.0)
    assert (4.0, 5000.0) == (tokens.bytes_per_token, tokens.total(opaque(1), 0, 0.0))
    assert 0.0 == tokens.total(opaque(2), 0, 0.0)


@pytest.mark.parametrize(
    ("units", "more", "shared"),
    [
        (1, 0.0, 0.0),
        (1, 300.0, 300.0),
        (1, 1064.0, 1064.0),
        (1, 1065.0, 0.0),
        (1, -1.0, 0.0),
        (0, 9.0, 0.0),
        (3, 9.0, 0.0),
    ],
)
def test_what_the_next_unit_shares_is_believed_if_it_can_be(units: int, more: float, shared: float) -> None:
    tokens = Tokens()
    tokens.observe_shared(spell("abc"), units, more)
    assert shared == tokens.shared(spell("abc"), units) == tokens.shared(spell("abcde"), units)


def test_the_last_word_counts_for_what_units_share() -> None:
    tokens = Tokens()
    for more in (300.0, 200.0):
        tokens.observe_shared(spell("ab"), 1, more)
    assert 200.0 == tokens.shared(spell("ax"), 1)


def test_the_longest_known_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_KNOWN", 3)
    tokens = Tokens()
    for word in ("a", "b", "c", "a", "d"):
        tokens.observe(spell(word), 900, units=0, tokens=0.0)
        tokens.observe_shared(spell(word + "x"), 1, 5.0)
    assert [900, None, 900, 900] == [tokens.known(spell(word), 1) for word in "abcd"]
    assert [5.0, 0.0, 5.0, 5.0] == [tokens.shared(spell(word), 1) for word in "abcd"]


@steady
@given(st.lists(st.tuples(st.integers(1, 100_000), st.integers(0, 100_000)), max_size=20))
def test_the_mean_stays_among_what_was_seen(counts: list[tuple[int, int]]) -> None:
    tokens, seen = Tokens(), [BYTES_PER_TOKEN]
    for number, (size, count) in enumerate(counts):
        made = chain(number, [b"x" * size])
        tokens.observe(made, count, units=0, tokens=0.0)
        if count >= 64:
            seen.append(size / count)
        assert float(count) == tokens.total(made, 0, 0.0)
    assert min(seen) - 1e-9 <= tokens.bytes_per_token <= max(seen) + 1e-9
