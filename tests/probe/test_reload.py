"""A changed file is read once it has stopped changing."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.probe import reload
from router.probe.reload import stamp, watch_files

pytestmark = pytest.mark.anyio


class Turns:
    """The watcher's pauses, ended one at a time by the test: no time passes."""

    def __init__(self) -> None:
        self.changes = 0
        self._due = asyncio.Event()
        self._asleep = asyncio.Event()

    async def sleep(self, _: float) -> None:
        self._asleep.set()
        await self._due.wait()
        self._due.clear()

    def changed(self) -> None:
        self.changes += 1

    async def pass_(self, turns: int = 1) -> int:
        """Let the watcher look so many times; how often it has said so by now."""
        for _ in range(turns):
            self._asleep.clear()
            self._due.set()
            await self._asleep.wait()
        return self.changes

    async def begun(self) -> None:
        await self._asleep.wait()


@asynccontextmanager
async def watching(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Turns]:
    turns = Turns()

    class Paused:
        sleep = turns.sleep

    monkeypatch.setattr(reload, "asyncio", Paused)
    watch = asyncio.ensure_future(watch_files(lambda: paths, turns.changed))
    await turns.begun()
    yield turns
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "router.yaml"
    path.write_text("one")
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def lose(path: Path) -> None:
    path.unlink()


def swap(path: Path, text: str) -> None:
    """Replace it as some tools do: what comes has the time of what was there."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    if path.exists():
        shutil.copystat(path, beside)
    beside.replace(path)


async def test_what_stays_the_same_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching([file], monkeypatch) as turns:
        assert 0 == await turns.pass_(5)


async def test_a_change_is_told_once_after_a_turn_of_rest(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching([file], monkeypatch) as turns:
        write(file, "one and more")
        assert [0, 1, 1] == [await turns.pass_() for _ in range(3)]


async def test_half_a_file_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching([file], monkeypatch) as turns:
        said = []
        for text in ("a", "ab", "abc"):
            write(file, text)
            said.append(await turns.pass_())
        assert [0, 0, 0, 1] == [*said, await turns.pass_()]


async def test_a_file_that_is_swapped_for_one_of_the_same_size_and_time_has_changed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching([file], monkeypatch) as turns:
        swap(file, "two")
        assert 1 == await turns.pass_(2)


async def test_a_file_that_was_away_and_is_back_is_told_of(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching([file], monkeypatch) as turns:
        lose(file)
        assert 0 == await turns.pass_()
        swap(file, "two")
        assert [0, 1] == [await turns.pass_() for _ in range(2)]


async def test_any_of_the_files_counts_and_two_at_once_are_one_change(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = file.with_name("keys.yaml")
    async with watching([file, keys], monkeypatch) as turns:
        write(keys, "keys: []")
        assert 1 == await turns.pass_(2)
        write(keys, "keys: [ ]")
        write(file, "changed too")
        assert 2 == await turns.pass_(2)


async def test_a_file_that_the_new_registry_names_is_watched_from_then_on(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = file.with_name("keys.yaml")
    write(keys, "keys: []")
    paths = [file]
    async with watching(paths, monkeypatch) as turns:
        paths.append(keys)
        assert 1 == await turns.pass_(2)  # the list itself has changed: read once too often, never too seldom
        write(keys, "keys: [ ]")
        assert 2 == await turns.pass_(2)


def test_a_stamp_is_none_for_what_cannot_be_looked_at(file: Path) -> None:
    assert (None, None) == (stamp(file.with_name("missing")), stamp(file / "below"))
    assert stamp(file) == stamp(file)
