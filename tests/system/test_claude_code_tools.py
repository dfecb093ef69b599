"""Claude Code at work through both ways: a tool, a session that is taken up again, a subagent.

A scripted instance says what a model would: which tool to call, then that it is done. What matters is what comes back.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour, Seen
from tests.rig.fake_slots import nonce_of
from tests.rig.router import MODEL, RouterProcess, registry
from tests.system.both_ways import WAYS
from tests.system.claude_code import ClaudeCode, Said, claude_code_program

# It is installed once, and takes 360 MB on the disk.
pytestmark = pytest.mark.slow
PATHS = {"native": "/v1/messages", "translated": "/v1/chat/completions"}
SECRET = "a heron stands in the reeds"


class Desk:
    """A user of Claude Code, the router, and behind it an instance that does what the test says."""

    def __init__(self, stack: ExitStack, folder: Path, way: str, script: Callable[[Seen], Behaviour]) -> None:
        self.path = PATHS[way]
        self.fake = stack.enter_context(FakeInstance(script, n_ctx=200_000))
        listed: dict[str, object] = {"url": self.fake.url, "id": "it", "capabilities": {"messages": way == "native"}}
        self.router = stack.enter_context(RouterProcess(registry([listed])))
        self.router.wait_ready()
        self.user = ClaudeCode(claude_code_program(), folder, self.router.watched_url, MODEL)
        self.note = folder / "project" / "note.txt"
        self.note.write_text(SECRET)

    def ask(self, prompt: str, *options: str) -> Said:
        said = self.user.ask(prompt, "--allowedTools", "Read,Agent", *options)
        assert (said.exit_status, said.result.get("is_error")) == (0, False), said
        return said

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The bodies that reached the instance. All came in this way, streamed, and none was refused."""
        assert {seen.path for seen in self.fake.calls} == {self.path}
        logged = [json.loads(line) for line in self.router.log.splitlines() if line.startswith('{"at":')]
        assert {(line["outcome"], line["stream"]) for line in logged} == {("ok", True)}
        assert len(logged) == len(self.fake.calls)
        return [seen.json for seen in self.fake.calls]


SetUp = Callable[[str, Callable[[Seen], Behaviour]], Desk]


@pytest.fixture
def set_up(tmp_path: Path) -> Iterator[SetUp]:
    with ExitStack() as stack:
        yield lambda way, script: Desk(stack, tmp_path, way, script)


def said_before(body: dict[str, Any]) -> int:
    """How often the model has spoken in this conversation."""
    return sum(message["role"] == "assistant" for message in body["messages"])


def call_ids(body: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The ids of all calls and of all results, in either dialect."""
    calls, results = [], []
    for message in body["messages"]:
        calls += [it["id"] for it in message.get("tool_calls") or ()]
        results += [message["tool_call_id"]] if message["role"] == "tool" else []
        blocks = message["content"] if isinstance(message["content"], list) else []
        calls += [it["id"] for it in blocks if it["type"] == "tool_use"]
        results += [it["tool_use_id"] for it in blocks if it["type"] == "tool_result"]
    return calls, results


def pieces(arguments: dict[str, str]) -> tuple[str, ...]:
    """As a model says them: in pieces that are no JSON by themselves."""
    whole = json.dumps(arguments)
    return whole[:2], whole[2:9], whole[9:]


# ------------------------------------------------------------------ a tool, and the session again


@pytest.mark.parametrize("way", WAYS)
def test_claude_code_runs_the_tool_and_its_session_is_taken_up_again(set_up: SetUp, way: str) -> None:
    def script(seen: Seen) -> Behaviour:
        if said_before(seen.json) == 0:
            return behave.answer(
                text=(), thinking=("Let me ", "see."), tool=("Read", pieces({"file_path": str(desk.note)}))
            )
        return behave.answer(text=("It ", "says ", "so. ", nonce_of(seen.json)))

    desk = set_up(way, script)
    first = desk.ask("read the note, nonce:one")
    assert (first.result["result"], first.result["num_turns"]) == ("It says so. nonce:one", 2)
    again = desk.ask("once more, nonce:two", "--resume", first.result["session_id"])
    assert again.result["result"] == "It says so. nonce:two"

    asked, answered, resumed = desk.calls
    assert SECRET not in json.dumps(asked)
    for body in (answered, resumed):
        assert SECRET in json.dumps(body)
        calls, results = call_ids(body)
        assert calls == results == ["t" * 32]  # the very id that the instance gave
        assert "Let me see." in json.dumps(body)  # and what it thought
    assert said_before(resumed) == 2


# ------------------------------------------------------------------ a subagent


@pytest.mark.parametrize("way", WAYS)
def test_claude_code_sends_a_subagent_and_hears_of_its_answer(set_up: SetUp, way: str) -> None:
    errand = {"description": "sub", "prompt": "say nonce:sub", "subagent_type": "general-purpose"}

    def script(seen: Seen) -> Behaviour:
        if said_before(seen.json) > 0:
            return behave.answer(text=("All ", "is ", "done."))
        if nonce_of(seen.json) == "nonce:sub":
            return behave.answer(text=("The errand ", "is run."))
        return behave.answer(text=("Going. ",), tool=("Agent", pieces(errand)))

    desk = set_up(way, script)
    said = desk.ask("send somebody, nonce:main")
    assert said.result["result"] == "All is done."
    calls = desk.calls
    assert [nonce_of(body) for body in calls].count("nonce:sub") >= 1
    (errands,) = [body for body in calls if said_before(body) == 0 and nonce_of(body) == "nonce:sub"]
    assert "send somebody" not in json.dumps(errands)
    told = [body for body in calls if "The errand is run." in json.dumps(body)]
    assert told  # the main agent has heard of it
    for body in told:
        made, answered = call_ids(body)
        assert made == answered
