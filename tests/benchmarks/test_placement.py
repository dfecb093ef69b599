"""The run against itself; real llama-servers in the last one."""

import dataclasses
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from benchmarks import placement, stand
from benchmarks.contenders import Contender
from benchmarks.replay import fronts, model
from benchmarks.replay.deal import Part
from benchmarks.replay.filler import Filler
from benchmarks.replay.rows import Row, Visit
from benchmarks.replay.visit import Load, servers
from router.demo.llama import LlamaProcess
from tests.benchmarks.replay.test_figures import row
from tests.rig.llama import need_llama

ONLY = ("--only", "llama-router-least", "sglang-router", "vllm-router")
Calls = list[tuple[str, int, int, str]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Visits that take no time; what was asked of each. The one named vllm-router never comes up."""
    made: Calls = []

    def visit(name: str, contender: Contender, load: Load, hands: Sequence[Sequence[Part]], _: Filler) -> Visit:
        assert contender.name == name
        made.append((name, load.round, load.users, hands[0][0].session_id))
        if name == "vllm-router":
            raise stand.StartFailed("no answer\nits log")
        return Visit(
            name=name,
            round=load.round,
            users=load.users,
            cache_ram_mib=load.cache_ram_mib,
            window_s=load.window_s,
            rows=[row()],
        )

    known = fronts.known

    def installed(cache_ram_mib: int = 0) -> dict[str, Contender]:
        return {name: dataclasses.replace(one, version=lambda: "1") for name, one in known(cache_ram_mib).items()}

    monkeypatch.setattr(fronts, "known", installed)
    monkeypatch.setattr(placement, "visit", visit)
    monkeypatch.setattr(placement, "words", lambda: [" a"])
    return made


def test_contenders_take_turns_with_the_same_sessions(calls: Calls) -> None:
    placement.main(["--users", "3", "5", "--cache-ram", "0", "--rounds", "2", *ONLY[:3]])
    assert 8 == len(calls)
    for at in range(0, 8, 2):
        one, other = calls[at : at + 2]
        assert one[1:] == other[1:]
        assert one[0] != other[0]
    assert 2 == len({calls[at][0] for at in range(0, 8, 2)}), "always the same one first"
    assert {0: 1, 1: 1} == {number: len({call[3] for call in calls if call[1] == number}) for number in range(2)}
    assert 2 == len({call[3] for call in calls}), "each round has conversations of its own"


def test_one_that_does_not_come_up_is_told_and_not_tried_again(calls: Calls, tmp_path: Path) -> None:
    line = ["--users", "3", "--cache-ram", "0", "--rounds", "3", *ONLY, "--out", str(tmp_path)]
    assert placement.main(line) == 1
    assert 1 == sum(call[0] == "vllm-router" for call in calls)
    told = json.loads((tmp_path / "placement.json").read_text())
    assert ["", "", "no answer"] == [front["failure"] for front in told["fronts"]]


def test_figures_and_rows_are_written(calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--users", "3", "--cache-ram", "0", "8", "--rounds", "1", *ONLY[:2], "--out", str(tmp_path)]
    assert placement.main(line) == 0
    assert (tmp_path / "placement.md").read_text().strip() == capsys.readouterr().out.strip()
    told = json.loads((tmp_path / "placement.json").read_text())
    assert [0, 8] == [result["cache_ram_mib"] for result in told["results"]]
    assert 0.5 == told["results"][0]["figures"]["ttft_mean_s"]["median"]
    visits = json.loads(gzip.decompress((tmp_path / "placement-rows.json.gz").read_bytes()))
    assert [600, 600] == [one["rows"][0]["cached_tokens"] for one in visits]
    assert len(calls) == 2


@pytest.mark.parametrize("line", [["--only", "nobody"], ["--trace", "no/such/file"], ["--longest", "10"]])
def test_what_cannot_be_played_is_said(calls: Calls, line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert placement.main([*line, "--users", "1"]) == 2
    assert capsys.readouterr().err
    assert calls == []


def test_a_word_is_a_token() -> None:
    need_llama()
    words = model.words()
    with servers(0, 1) as (server,):
        assert {1} == {len(tokens) for tokens in _tokens(server, words[::97])}
        (together,) = _tokens(server, ["".join(words[:500])])
    assert 500 == len(together)


@pytest.mark.slow
def test_a_short_run_on_real_servers(tmp_path: Path) -> None:
    need_llama()
    line = ["--users", "3", "--cache-ram", "0", "--rounds", "1", "--warm", "1", "--window", "8"]
    assert placement.main([*line, "--only", "llama-router-least", "--out", str(tmp_path)]) == 0
    (visit,) = json.loads(gzip.decompress((tmp_path / "placement-rows.json.gz").read_bytes()))
    rows = [Row(**one) for one in visit["rows"]]
    done = [one for one in rows if not one.error]
    assert done
    for one in done:
        assert one.prompt_tokens is not None
        assert 0 < one.prompt_tokens - one.words < 400, "more than the chat template adds"
        assert {"x-router-instance", "x-router-decision"} <= set(one.router)
        assert "instance_id" in one.log
    assert any(one.cached_tokens for one in done)


def _tokens(server: LlamaProcess, texts: Sequence[str]) -> list[list[int]]:
    found = []
    for text in texts:
        answer = httpx.post(f"{server.url}/tokenize", json={"content": text}, timeout=30)
        found.append(answer.json()["tokens"])
    return found
