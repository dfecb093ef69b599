import re

import pytest

from router.config.forms import FORMS


@pytest.mark.parametrize(
    ("form", "texts"),
    [
        ("model", ["qwen3-coder", "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M", "claude-opus-4[1m]"]),
        ("alias", ["*", "claude-*", "gpt-4.1"]),
        ("id", ["rig1-gpu0", "Rig_1.local"]),
        ("host", ["rig1"]),
        ("duration", ["20s", "1.5 h"]),
        ("size", ["32MiB"]),
        ("listen", ["127.0.0.1:8000", "[::1]:0"]),
        ("url", ["http://rig1:8080", "https://gw/llama/"]),
        ("metrics_url", ["http://rig1:9400/metrics"]),
        ("origin", ["*", "https://chat.example.org:8443"]),
    ],
)
def test_what_is_read_also_suits_the_pattern_for_editors(form: str, texts: list[str]) -> None:
    for text in texts:
        FORMS[form].read(text)
        assert re.search(FORMS[form].pattern or "", text)


@pytest.mark.parametrize("name", ["", "a b", "a,b", 'a"b', "a\n", "ä", "x" * 129])
def test_a_model_name_is_something_that_fits_a_header_and_a_label(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        FORMS["model"].read(name)


def test_a_pattern_is_no_model_name() -> None:
    with pytest.raises(ValueError, match="patterns under aliases"):
        FORMS["model"].read("claude-*")


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "\ud800", "\x1b[0m"])
def test_plain_text_is_one_line_that_can_be_shown(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        FORMS["text"].read(text)
