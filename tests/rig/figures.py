"""Figures that a test has found, printed at the end of the run for people: also of tests that pass.

tell("200 calls in 3.1 s")

They travel with the test's report, and so come out of side-by-side runs too; `tests/conftest.py` does both.
"""

import pytest

NAME = "figures"
_told: list[str] = []


def tell(*lines: str) -> None:
    """Remember lines for the end of the run."""
    _told.append("\n".join(lines))


def taken() -> list[tuple[str, object]]:
    """What was told since it was last taken, as properties of a test."""
    told = [(NAME, text) for text in _told]
    _told.clear()
    return [*told]


def read(report: pytest.TestReport) -> list[str]:
    """What the test of this report told."""
    return [str(text) for name, text in report.user_properties if name == NAME]
