from pathlib import Path

import pytest

from benchmarks.replay.asked import Asked, parse
from benchmarks.replay.trace import Split


def test_nothing_asked_is_the_whole_run() -> None:
    assert Asked() == parse([])
    assert ((6, 10, 16), (0, 8)) == (parse([]).users, parse([]).cache_ram)


def test_what_is_asked_is_taken() -> None:
    line = "--trace t.gz --sessions held-out --users 4 5 --cache-ram 0 --rounds 2 --window 7.5 --only a b --seed 9"
    asked = parse(line.split())
    assert (Path("t.gz"), Split.HELD_OUT, (4, 5), (0,)) == (asked.trace, asked.sessions, asked.users, asked.cache_ram)
    assert (2, 7.5, ("a", "b"), 9) == (asked.rounds, asked.window, asked.only, asked.seed)


@pytest.mark.parametrize("line", ["--users 0", "--rounds 0", "--sessions some", "--scale no"])
def test_what_makes_no_sense_ends_the_program(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(line.split())
    assert line.partition(" ")[0] in capsys.readouterr().err
