import pytest

from router.config.suggest import nearest, suggestion


@pytest.mark.parametrize(
    ("word", "near"),
    [("ulr", "url"), ("api-key", "api_key"), ("API_KEY", "api_key"), ("slot", "slots"), ("banana", None), ("", None)],
)
def test_the_nearest_known_word_is_found_whatever_its_case_and_dashes(word: str, near: str | None) -> None:
    assert near == nearest(word, ["url", "api_key", "slots"])


def test_all_known_words_are_listed_when_none_is_near() -> None:
    assert suggestion("banana", ["url", "slots"], kind="keys") == "known keys: url, slots"
    assert suggestion("banana", [], kind="hosts") == "there are no hosts"
