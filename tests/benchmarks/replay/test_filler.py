import pytest

from benchmarks.replay.filler import WORDS, Filler, vocabulary

LETTERS = "abcdefghijklmnop"
TOKENS = [f"\u0120{a}{b}{c}" for a in LETTERS for b in LETTERS for c in LETTERS]


def test_equal_blocks_are_equal_text_and_others_are_not() -> None:
    words = vocabulary(TOKENS)
    one, other = Filler(words, 8), Filler(words, 8)
    assert one.block("a", 1) == other.block("a", 1)
    assert 4 * 50 == len({(one.block(key, number)) for key in "abcd" for number in range(50)})
    assert 8 == len(one.block("a", 1))


def test_text_is_its_blocks_one_after_the_other() -> None:
    filler = Filler(vocabulary(TOKENS), 3)
    assert [*filler.block("a", 5), *filler.block("a", 2)] == filler.text("a", (5, 2))


def test_only_short_words_that_follow_a_space_are_taken() -> None:
    words = vocabulary(["abc", "\u0120Abc", "\u0120abcde", "\u0120a1", "\u0120a", *TOKENS])
    assert WORDS == len(words)
    assert " aaa" == words[0]


def test_a_vocabulary_of_too_few_words_is_refused() -> None:
    with pytest.raises(ValueError, match="only 3 short words"):
        vocabulary(TOKENS[:3])
