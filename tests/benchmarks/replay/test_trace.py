import gzip
from pathlib import Path

import msgspec
import pytest

from benchmarks.replay import made_up, trace
from benchmarks.replay.trace import Split
from router.sim.claude_code import Entry, Session

LINE = (
    b'{"id":"s","block_size":64,"tool_tokens":128,"system_tokens":64,"requests":['
    b'{"t":0,"type":"n","in":640,"out":5,"think_time":1.5,"runs":[[1,10]]},'
    b'{"type":"subagent","agent_id":"a","tool_tokens":64,"system_tokens":0,"requests":'
    b'[{"t":0,"type":"n","in":64,"out":5,"runs":[[90,1]]}]}]}'
)


def session(*sizes: int, name: str = "s") -> Session:
    entries = tuple(Entry(type="n", in_tokens=size, runs=((1, size // 64),)) for size in sizes)
    return Session(id=name, block_size=64, tool_tokens=64, system_tokens=64, requests=entries)


@pytest.mark.parametrize("packed", [False, True])
def test_a_trace_is_read_packed_or_not(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "trace"
    path.write_bytes(gzip.compress(LINE) if packed else LINE + b"\n")
    (read,) = trace.read(path)
    assert ("s", 1, 1) == (read.id, trace.turns(read), trace.agents(read))
    assert ((1, 10),) == read.requests[0].runs


def test_a_line_that_is_no_session_is_told_by_its_number() -> None:
    with pytest.raises(ValueError, match="line 2 is not a session"):
        trace.decode([LINE, b'{"id":3}'])


def test_a_session_is_cut_off_before_its_first_long_prompt() -> None:
    (cut,) = trace.playable([session(*[640] * 9, 6400, 640)], Split.ALL, 5000)
    assert [640] * 9 == [entry.in_tokens for entry in cut.requests]


def test_a_session_of_which_little_is_left_is_not_played() -> None:
    assert [] == trace.playable([session(*[640] * 7, 6400, 640, 640)], Split.ALL, 5000)


def test_a_long_sub_agent_is_cut_off_and_the_session_goes_on() -> None:
    agent = Entry(type="subagent", requests=session(640, 6400).requests)
    whole = session(*[640] * 9)
    with_agent = msgspec.structs.replace(whole, requests=(*whole.requests[:2], agent, *whole.requests[2:]))
    (cut,) = trace.playable([with_agent], Split.ALL, 5000)
    assert (9, 1) == (trace.turns(cut), len(cut.requests[2].requests))


def test_each_session_is_on_one_side_and_both_sides_have_some() -> None:
    everything = made_up.sessions(seed=1)
    parts = [trace.playable(everything, split, 100_000) for split in (Split.TUNE, Split.HELD_OUT)]
    ids = [{one.id for one in part} for part in parts]
    assert all(ids)
    assert not ids[0] & ids[1]
    assert {one.id for one in trace.playable(everything, Split.ALL, 100_000)} == ids[0] | ids[1]


def test_a_session_stays_on_its_side() -> None:
    # Written down once: what a rule was tuned on must not wander to the other side.
    assert [Split.HELD_OUT, Split.TUNE] == [trace.side("trace_0003"), trace.side("trace_0006")]
