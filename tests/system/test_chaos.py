"""The router keeps its promises while instances die, hang, lie and change: short runs, and long ones when asked."""

import os

import pytest

from tests.rig.llama import need_llama
from tests.system.chaos import chaos

SECONDS = 60.0 if os.environ.get("CI") else 25.0


@pytest.fixture(autouse=True, scope="module")
def _llama() -> None:
    need_llama()


def test_no_call_is_lost_while_instances_die_hang_lie_and_change() -> None:
    assert_good(seconds=SECONDS, seed=7)


@pytest.mark.slow
def test_no_call_is_lost_with_the_deadlines_as_they_are_by_default() -> None:
    assert_good(seconds=SECONDS * 0.8, seed=20, defaults=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [101, 102])
def test_no_call_is_lost_in_three_minutes_of_it(seed: int) -> None:
    assert_good(seconds=180.0, seed=seed)


def assert_good(*, seconds: float, seed: int, defaults: bool = False) -> None:
    """Run, print the report, and hold it against the rules."""
    report = chaos(seconds=seconds, seed=seed, defaults=defaults).run()
    print(report)  # noqa: T201  # pytest shows it when the run was not good
    assert [] == report.violations()
