"""/metrics and /slots: how busy an instance is, whatever else stands there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.probe.pulse import Pulse, read_metrics, read_slots

steady = settings(derandomize=True, max_examples=300, deadline=None)

PAGE = """\
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 1
llamacpp:n_decode_total 31
llamacpp:n_busy_slots_per_decode 1.75
"""


@pytest.mark.parametrize(
    ("text", "pulse"),
    [
        (PAGE, Pulse(processing=2, decodes=31, deferred=1, restart_mark="7")),
        (PAGE.replace("\n", "\r\n"), Pulse(processing=2, decodes=31, deferred=1, restart_mark="7")),
        ("llamacpp:requests_processing 0\n", Pulse(processing=0, restart_mark="7")),
        ("llamacpp:requests_processing 0", Pulse(processing=0, restart_mark="7")),
        ("llamacpp:requests_processing\t3.0\n", Pulse(processing=3, restart_mark="7")),
        (
            "llamacpp:requests_processing 1\nllamacpp:n_decode_total 1.5e+06\n",
            Pulse(processing=1, decodes=1_500_000, restart_mark="7"),
        ),
        (
            "llamacpp:requests_processing 1\nllamacpp:n_decode_total nan\n",
            Pulse(processing=1, restart_mark="7"),
        ),
    ],
    ids=["whole", "CRLF", "old build", "no newline at the end", "a tab, a fraction", "large", "no number"],
)
def test_metrics_are_read_as_far_as_they_are_there(text: str, pulse: Pulse) -> None:
    assert pulse == read_metrics(text, "7")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>It works!</html>",
        "# llamacpp:requests_processing 2\n",
        "llamacpp:requests_processing_total 2\n",
        "other:requests_processing 2\n",
        " llamacpp:requests_processing 2\n",
        "llamacpp:requests_processing -1\n",
        "llamacpp:requests_processing two\n",
        "llamacpp:requests_processing 2 and more\n",
        "llamacpp:requests_processing 1.2.3\n",
        "llamacpp:requests_processing e\n",
        "llamacpp:requests_processing 1e999\n",
        "llamacpp:n_decode_total 31\n",
    ],
)
def test_a_page_that_does_not_say_how_many_are_processed_is_no_pulse(text: str) -> None:
    assert read_metrics(text, "7") is None


@pytest.mark.parametrize(
    ("body", "processing"),
    [
        (b"[]", 0),
        (b'[{"id":0}]', 0),
        (b'[{"id":0,"is_processing":false},{"id":1,"is_processing":true,"n_ctx":4096}]', 1),
        (b'[{"is_processing":true},{"is_processing":true}]', 2),
    ],
)
def test_slots_that_process_are_counted(body: bytes, processing: int) -> None:
    assert Pulse(processing=processing) == read_slots(body)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[", b"{}", b"null", b"[1]", b'[{"is_processing":1}]', b'{"error":{"code":501}}', b"<html></html>",
        b"\xff", b'[{"x":%b}]' % (b"[" * 100_000 + b"]" * 100_000),
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)  # fmt: skip
def test_what_is_not_a_list_of_slots_is_no_pulse(body: bytes) -> None:
    assert read_slots(body) is None


@steady
@given(processing=st.integers(0, 1000), decodes=st.integers(0, 10**9), noise=st.text(max_size=40))
def test_noise_before_and_after_changes_nothing(processing: int, decodes: int, noise: str) -> None:
    lines = [noise, f"llamacpp:n_decode_total {decodes}", noise, f"llamacpp:requests_processing {processing}", noise]
    assert Pulse(processing=processing, decodes=decodes) == read_metrics("\n".join(lines), "")
