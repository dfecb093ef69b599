"""Loops beside the calls: started, counted and started again when they fail, and all ended at the end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from router.observe.supervise import FIRST_PAUSE_S, LONGEST_PAUSE_S, Supervisor
from router.observe.tally import Counter

pytestmark = pytest.mark.anyio
Loop = Callable[[], Awaitable[None]]


@pytest.fixture
def failures() -> Counter:
    return Counter("loop_failures", "For the test.", ("loop",))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for; none of them takes any time."""
    asked: list[float] = []

    async def at_once(pause_s: float) -> None:
        asked.append(pause_s)
        await turn()

    monkeypatch.setattr("asyncio.sleep", at_once)
    return asked


async def turn() -> None:
    """One turn of the event loop, which `asyncio.sleep(0)` would be if nobody had replaced it."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, None)
    await done


def failing(times: int, then: Loop) -> tuple[Loop, list[int]]:
    """Raises so many times; and the numbers of its runs."""
    runs: list[int] = []

    async def loop() -> None:
        runs.append(len(runs) + 1)
        if len(runs) <= times:
            raise ValueError(f"fault {len(runs)}")
        await then()

    return loop, runs


async def for_ever() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    """Is over."""


async def until(met: Callable[[], object]) -> None:
    for _ in range(1000):
        if met():
            return
        await turn()
    pytest.fail("it does not come about")


async def test_a_loop_that_fails_is_counted_told_and_started_again(
    failures: Counter, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    loop, runs = failing(2, for_ever)
    with caplog.at_level(logging.ERROR, "llama_router"):
        async with Supervisor(failures) as supervisor:
            supervisor.start("sweep", loop)
            await until(lambda: len(runs) == 3)
            assert supervisor.running("sweep")
    assert (2.0, [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S]) == (failures.series(("sweep",)).value, pauses)
    assert ["the loop sweep failed and starts again in 0.5 s", "the loop sweep failed and starts again in 1.0 s"] == [
        record.getMessage() for record in caplog.records
    ]
    assert "ValueError: fault 2" in caplog.text


async def test_pauses_grow_to_the_longest_and_no_further(failures: Counter, pauses: list[float]) -> None:
    loop, runs = failing(10, for_ever)
    async with Supervisor(failures) as supervisor:
        supervisor.start("sweep", loop)
        await until(lambda: len(runs) == 11)
    assert [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0] == pauses
    assert LONGEST_PAUSE_S == max(pauses)


async def test_many_loops_of_a_kind_are_counted_as_one(failures: Counter, pauses: list[float]) -> None:
    async with Supervisor(failures) as supervisor:
        for name in ("poll one", "poll two"):
            loop, runs = failing(1, for_ever)
            supervisor.start(name, loop, kind="poll")
            await until(lambda runs=runs: len(runs) == 2)  # type: ignore[misc]  # bound on purpose
    assert 2.0 == failures.series(("poll",)).value
    assert [("poll",)] == list(failures._series)
    assert 2 == len(pauses)


async def test_a_loop_that_is_over_is_not_started_again(failures: Counter) -> None:
    loop, runs = failing(0, at_once)
    async with Supervisor(failures) as supervisor:
        supervisor.start("closing one", loop)
        assert supervisor.running("closing one")
        await until(lambda: not supervisor.running("closing one"))
        assert "Supervisor[]" == repr(supervisor)
    assert ([1], {}) == (runs, failures._series)


async def test_a_name_that_is_started_again_ends_the_first_and_keeps_the_second(failures: Counter) -> None:
    ended: list[str] = []

    def noting(name: str) -> Loop:
        async def loop() -> None:
            try:
                await for_ever()
            finally:
                ended.append(name)

        return loop

    async with Supervisor(failures) as supervisor:
        supervisor.start("poll", noting("first"))
        await turn()
        supervisor.start("poll", noting("second"))
        await until(lambda: ended)
        await turn()  # the first one's end must not be taken for the second's
        assert (["first"], True, "Supervisor[poll]") == (ended, supervisor.running("poll"), repr(supervisor))
    assert ["first", "second"] == ended


async def test_a_loop_that_is_stopped_ends_and_stopping_it_twice_is_harmless(failures: Counter) -> None:
    async with Supervisor(failures) as supervisor:
        supervisor.start("sweep", for_ever)
        for _ in range(2):
            supervisor.stop("sweep")
            assert not supervisor.running("sweep")
        supervisor.stop("nobody")
    assert {} == failures._series


async def test_leaving_ends_every_loop_and_waits_for_it(failures: Counter) -> None:
    before = asyncio.all_tasks()
    tidied: list[str] = []

    async def slow_to_end() -> None:
        try:
            await for_ever()
        finally:
            await turn()
            tidied.append("tidied")

    async with Supervisor(failures) as supervisor:
        supervisor.start("slow", slow_to_end)
        supervisor.start("failing", failing(100, for_ever)[0])
        await turn()
        await turn()
    assert (["tidied"], before) == (tidied, asyncio.all_tasks())


async def test_an_error_of_whoever_uses_it_passes_and_still_ends_the_loops(failures: Counter) -> None:
    before = asyncio.all_tasks()

    async def fails() -> None:
        async with Supervisor(failures) as supervisor:
            supervisor.start("sweep", for_ever)
            raise KeyError

    with pytest.raises(KeyError):
        await fails()
    assert before == asyncio.all_tasks()
