"""Tests mirror the router, file by file, and the life of a call names only files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# May only become shorter: a file that has gained its test is taken off.
WITHOUT_TEST = {"router/clock.py"}

# These hold what no single file can be asked: whole processes, the tests' own instruments.
NO_MIRROR = {"system", "rig", "benchmarks", "contract"}
# The last two go by lists: what others got wrong, and what llama-server does in its own way.
MIRRORS_NOTHING = {"tests/test_layout.py", "tests/translate/test_traps.py", "tests/translate/test_deviations.py"}
# Tests of a room's own face, which is its `__init__.py`.
OF_A_FACE = {"tests/cli/test_main.py": "router/cli/__init__.py"}


def sources() -> set[str]:
    found = (path.relative_to(ROOT) for path in (ROOT / "router").rglob("*.py"))
    return {path.as_posix() for path in found if path.name not in {"__init__.py", "__main__.py"}}


def mirrors() -> set[str]:
    found = (path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py"))
    return {path.as_posix() for path in found if path.parts[1] not in NO_MIRROR} - MIRRORS_NOTHING


def mirror_of(source: str) -> str:
    path = Path(source)
    return Path("tests", *path.parts[1:-1], f"test_{path.name}").as_posix()


def test_every_file_of_the_router_has_a_test_but_those_that_are_listed() -> None:
    assert set() == {source for source in sources() - WITHOUT_TEST if mirror_of(source) not in mirrors()}


def test_a_file_that_has_gained_a_test_is_taken_off_the_list() -> None:
    assert set() == {source for source in WITHOUT_TEST if mirror_of(source) in mirrors()}


def test_the_list_names_only_files_that_exist() -> None:
    assert set() == WITHOUT_TEST - sources()


def test_every_test_is_of_a_file_that_exists() -> None:
    assert set() == mirrors() - {mirror_of(source) for source in sources()} - set(OF_A_FACE)
    assert set() == {face for face in OF_A_FACE.values() if not (ROOT / face).exists()}


def test_the_life_of_a_call_names_only_files_that_exist() -> None:
    story = ROOT / "router" / "README.md"
    if not story.exists():
        pytest.skip("the life of a call is not written yet")
    named = set(re.findall(r"[\w/]+\.py\b", story.read_text()))
    assert named
    assert set() == {name for name in named if not (ROOT / "router" / name).exists()}


def test_the_life_of_a_call_names_only_rooms_that_exist() -> None:
    story = ROOT / "router" / "README.md"
    if not story.exists():
        pytest.skip("the life of a call is not written yet")
    listed = re.search(r"Core rooms \(`([\w ]+)`\)", story.read_text())
    assert listed, "the core rooms are not named any more"
    there = {
        path.stem for path in (ROOT / "router").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set() == set(listed[1].split()) - there
