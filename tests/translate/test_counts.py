from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.translate.answer import Usage
from router.translate.counts import Counts
from router.wire.openai import Chunk

steady = settings(derandomize=True, max_examples=200, deadline=None)


def counted(*facts: dict[str, Any]) -> Counts:
    counts = Counts()
    for fact in facts:
        counts.take(msgspec.convert(fact, Chunk))
    return counts


PROGRESS = {"prompt_progress": {"total": 33, "cache": 24, "processed": 30}}
READING = {"timings": {"cache_n": 24, "prompt_n": 0, "predicted_n": 0}}
TIMINGS = {"timings": {"cache_n": 24, "prompt_n": 9, "predicted_n": 7}}
USAGE = {"usage": {"prompt_tokens": 33, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 24}}}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ((), Usage()),
        ((PROGRESS,), Usage(9, 24, None)),
        (({**PROGRESS, **READING},), Usage(9, 24, None)),
        ((TIMINGS,), Usage(9, 24, 7)),
        ((USAGE,), Usage(9, 24, 7)),
        (({**USAGE, "timings": {"cache_n": 1, "prompt_n": 1, "predicted_n": 1}},), Usage(9, 24, 7)),
        ((PROGRESS, {"usage": {"prompt_tokens": 40, "completion_tokens": 1}}), Usage(16, 24, 1)),
        (({"usage": {"prompt_tokens": 40}},), Usage(40, None, None)),
        (({"usage": {"completion_tokens": 3}},), Usage(None, None, 3)),
        (({"usage": {}},), Usage()),
    ],
)
def test_what_servers_say_is_counted(facts: tuple[dict[str, Any], ...], expected: Usage) -> None:
    assert expected == counted(*facts).for_record()


def test_what_is_unknown_is_left_out() -> None:
    assert ({"input_tokens": 5, "output_tokens": 0}, {"output_tokens": 3}) == (
        Counts().at_start(5),
        Counts().at_end(3),
    )
    known = counted({"usage": {"prompt_tokens": 4, "completion_tokens": 2}})
    assert {"input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 2} == known.at_end(9)
    assert {"input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 0} == known.at_end(9, silent=True)


_numbers = st.integers(-5, 100)


@steady
@given(prompt=_numbers, cached=_numbers, written=_numbers, output=_numbers)
def test_no_count_is_ever_below_zero_and_true_ones_add_up(prompt: int, cached: int, written: int, output: int) -> None:
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "prompt_tokens_details": details}
    end = counted({"usage": usage}).at_end(0)
    counts = [value for value in end.values() if isinstance(value, int)]
    assert all(count >= 0 for count in counts)
    if min(prompt, cached, written, output) >= 0 and cached + written <= prompt:
        assert prompt + output == sum(counts)
