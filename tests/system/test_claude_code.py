"""Claude Code itself, headless, through our router on real llama-servers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rig import llama
from tests.rig.router import RouterProcess, registry
from tests.system.claude_code import ANSWER, ClaudeCode, claude_code_program, polite_spec

# It is installed once, and takes 360 MB on the disk.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program() -> Path:
    return claude_code_program()


@pytest.fixture(scope="module")
def polite(program: Path) -> Iterator[RouterProcess]:
    """The router in front of two servers with a model that ends its turn, and for Claude Code's own model names."""
    llama.need_llama()
    with contextmanager(llama.running_pair)(polite_spec()) as servers:
        listed = [{"id": name, "url": server.url} for name, server in zip("ab", servers, strict=True)]
        with RouterProcess(registry(listed, model="polite")) as router:
            for name in "ab":
                router.wait_logged(f"instance {name}: unknown -> serving")
            yield router


@pytest.mark.parametrize("number", range(3))
def test_claude_code_says_hi_and_goes_on_from_what_is_cached(
    program: Path, polite: RouterProcess, tmp_path: Path, number: int
) -> None:
    user = ClaudeCode(program, tmp_path, polite.watched_url, "claude-local")
    before, counted = len(call_log(polite)), calls_ok(polite)
    turns = [user.ask(f"say hi {number}"), user.ask("again", "--continue"), user.ask("and again", "--continue")]
    for said in turns:
        assert (said.exit_status, said.result.get("is_error")) == (0, False), said
        assert (said.result["result"], said.result["num_turns"]) == (ANSWER, 1)
    assert len({said.result["session_id"] for said in turns}) == 1

    calls = call_log(polite)[before:]
    assert [call["outcome"] for call in calls] == ["ok"] * 3  # one call a turn: nothing was asked twice
    assert calls_ok(polite) == counted + 3
    assert len({call["instance_id"] for call in calls}) == 1
    prompts = [call["input_tokens"] + call["cached_tokens"] for call in calls]
    assert prompts[0] > 10_000
    for call, prompt in zip(calls[1:], prompts, strict=False):
        assert call["cached_tokens"] > 0.98 * prompt, calls


def test_claude_code_is_told_of_an_unknown_model_without_being_kept_waiting(
    program: Path, polite: RouterProcess, tmp_path: Path
) -> None:
    said = ClaudeCode(program, tmp_path, polite.watched_url, "no-such-model").ask("say hi")
    assert (said.exit_status, said.result["is_error"], said.result["api_error_status"]) == (1, True, 404)
    assert "no-such-model" in said.result["result"]


def call_log(router: RouterProcess) -> list[dict[str, Any]]:
    """The lines of the call log so far."""
    return [json.loads(line) for line in router.log.splitlines() if line.startswith('{"at":')]


def calls_ok(router: RouterProcess) -> int:
    """How many calls went well, as /metrics says."""
    lines = httpx.get(f"{router.url}/metrics").text.splitlines()
    ok = [line for line in lines if line.startswith("llama_router_calls_total{") and 'outcome="ok"' in line]
    return sum(round(float(line.rpartition(" ")[2])) for line in ok)
