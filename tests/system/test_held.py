"""A client that is kept waiting hears that somebody is there, and is then answered, refused, or served elsewhere.

From the hold on the status is out: what goes wrong later is one error event, of the type that the status would have
had, and the instance is named in a comment.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.lib.streaming import MessageStreamManager
from openai.types.chat import ChatCompletionChunk

from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour, Seen
from tests.rig.fake_slots import nonce_of
from tests.rig.legality import check
from tests.rig.legality_chat import check_chat
from tests.rig.openai_sdk import sdk_said
from tests.rig.router import MODEL, RouterProcess, registry
from tests.rig.transcript import read_events
from tests.system.claude_code import ClaudeCode, claude_code_program
from tests.system.load import Call, Crowd, states, taken, waiting
from tests.test_app import ask, eventually, text_of

HOLD_S, QUEUE_S = 0.5, 3.0
PATIENCE: dict[str, Any] = {"deadlines": {"hold": "500ms", "head": "2s"}, "queue": {"deadline": "3s"}}
POLL = {"every": "200ms", "deadline": "1s"}


class Scene:
    """A router in front of scripted instances with one slot each, `one`, `two` ..., which stall when told to."""

    def __init__(self, stack: ExitStack, instances: int, top: dict[str, Any]) -> None:
        self.stalls: dict[str, Behaviour] = {}  # by nonce; each of them stalls once
        self.fakes = {
            name: stack.enter_context(FakeInstance(self._plan, slots=1)) for name in ("one", "two")[:instances]
        }
        entries = [{"url": fake.url, "id": name} for name, fake in self.fakes.items()]
        self.router = stack.enter_context(RouterProcess(registry(entries, poll=POLL, **top)))
        self.router.wait_ready(path="/healthz")
        eventually(lambda: set(states(self.router.url).values()) == {"serving"})
        self.crowd = stack.enter_context(Crowd(self.router.port))
        self.sdk = stack.enter_context(
            anthropic.Anthropic(base_url=self.router.watched_url, api_key="any", max_retries=0, timeout=20)
        )

    def call(self, nonce: str, stalls: Behaviour | None = None, **more: object) -> Call:
        """Make a streamed call; where it is tried first, it meets this behaviour."""
        if stalls is not None:
            self.stalls[nonce] = stalls
        return self.crowd.call(ask(nonce, **{"stream": True, **more}), text=text_of(nonce))

    def stream(self, nonce: str) -> MessageStreamManager[None]:
        """The same, with the SDK."""
        said: Any = [{"role": "user", "content": f"say {nonce}"}]
        return self.sdk.messages.stream(model=MODEL, max_tokens=16, messages=said)

    def fill(self) -> Call:
        """Take the only slot of the only instance until `release`."""
        call = self.call("nonce:first", behave.stall_after_head())
        eventually(lambda: taken(self.router.url) == 1)
        return call

    def release(self) -> None:
        for fake in self.fakes.values():
            fake.release()

    def holder(self, nonce: str) -> FakeInstance:
        """The instance that this call has reached."""
        holders = [fake for fake in self.fakes.values() if any(nonce_of(seen.json) == nonce for seen in fake.calls)]
        assert len(holders) == 1
        return holders[0]

    def at_rest(self) -> None:
        eventually(lambda: (taken(self.router.url), waiting(self.router.url)) == (0, 0))
        assert "Traceback" not in self.router.log

    def _plan(self, seen: Seen) -> Behaviour:
        return self.stalls.pop(nonce_of(seen.json), behave.answer())


Stage = Callable[..., Scene]


@pytest.fixture
def stage() -> Iterator[Stage]:
    scenes: list[Scene] = []
    with ExitStack() as stack:

        def make(instances: int = 1, **top: Any) -> Scene:
            scenes.append(Scene(stack, instances, {**PATIENCE, **top}))
            return scenes[-1]

        yield make
        for scene in scenes:
            scene.at_rest()


def pinged(call: Call) -> bool:
    return call.raw.count(b"event: ping\n") >= 2


# ------------------------------------------------------------------ held, then answered


def test_a_call_that_waits_for_a_slot_hears_pings_and_is_then_answered_legally(stage: Stage) -> None:
    scene = stage()
    first = scene.fill()
    held = scene.call("nonce:held").wait_for(pinged)
    assert (held.status, held.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert held.headers["request-id"].startswith("req_")
    assert "x-router-instance" not in held.headers
    assert HOLD_S * 0.9 < held.head_s - held.started_s < HOLD_S + 0.5
    assert {event.name for event in read_events(held.raw)} == {"ping"}  # message_start waits for the true one
    scene.release()
    assert (held.ended().fault(), first.ended().fault()) == ("", "")
    said = held.message
    assert said.pings >= 2
    assert said.comments[0].startswith("x-router-instance: one; x-router-queue-ms: ")
    assert "place after wait" in said.comments[0]
    assert [event.name for event in read_events(held.raw)][: said.pings + 2] == ["ping"] * said.pings + [
        ":",
        "message_start",
    ]


def test_pings_come_as_long_as_nothing_else_does(stage: Stage) -> None:
    """An instance has taken the call and says nothing: a prompt that is read for long."""
    scene = stage()
    held = scene.call("nonce:read", behave.stall_after_head())
    held.wait_for(lambda it: it.raw.count(b"event: ping\n") >= 4)
    scene.release()
    assert held.ended().fault() == ""
    assert held.message.comments[0].startswith("x-router-instance: one")


def test_pings_fill_the_silence_inside_an_answer_too(stage: Stage) -> None:
    scene = stage()
    held = scene.call("nonce:mid", behave.stall_mid_stream()).wait_for(pinged)
    assert held.content
    scene.release()
    assert held.ended().fault() == ""
    assert held.headers["x-router-instance"] == "one"  # it was known before the hold
    assert held.message.comments == ()


def test_a_call_that_waits_for_less_than_the_hold_is_answered_with_headers(stage: Stage) -> None:
    scene = stage(deadlines={"hold": "10s"})
    scene.fill()
    held = scene.call("nonce:short")
    eventually(lambda: waiting(scene.router.url) == 1)
    scene.release()
    assert held.ended().fault() == ""
    assert held.headers["x-router-instance"] == "one"
    assert held.headers["x-router-decision"].startswith("place after wait")
    assert int(held.headers["x-router-queue-ms"]) >= 1
    assert (held.message.pings, held.message.comments) == (0, ())


def test_the_sdk_reads_a_held_answer_as_any_other(stage: Stage) -> None:
    scene = stage()
    scene.fill()
    with scene.stream("nonce:sdk") as stream:  # returns once the head is there
        assert "x-router-instance" not in stream.response.headers
        scene.release()
        message = stream.get_final_message()
    assert [block.text for block in message.content if block.type == "text"] == [text_of("nonce:sdk")]
    assert (message.stop_reason, message.model) == ("end_turn", MODEL)


# ------------------------------------------------------------------ held, then refused


def test_a_deadline_that_passes_while_a_call_is_held_is_told_in_one_error_event(stage: Stage) -> None:
    scene = stage()
    first = scene.fill()
    held = scene.call("nonce:late").ended()
    assert (held.status, held.whole) == (200, True)
    assert QUEUE_S - 0.1 < held.ended_s - held.started_s < QUEUE_S + 1.0
    events = read_events(held.raw)
    assert [event.name for event in events] == ["ping"] * (len(events) - 1) + ["error"]
    assert len(events) > 3
    assert set(events[-1].data) == {"type", "error", "request_id"}
    assert events[-1].data["error"]["type"] == "overloaded_error"
    assert "within 3 s" in events[-1].data["error"]["message"]
    assert events[-1].data["request_id"] == held.headers["request-id"]
    check(held.raw)
    scene.release()
    assert first.ended().fault() == ""
    assert len(scene.fakes["one"].calls) == 1


def test_the_sdk_raises_what_the_error_event_says(stage: Stage) -> None:
    scene = stage(queue={"deadline": "1s"})
    scene.fill()
    with pytest.raises(anthropic.APIStatusError) as caught, scene.stream("nonce:sdk") as stream:
        stream.until_done()
    assert caught.value.type == "overloaded_error"
    assert isinstance(caught.value.body, dict)
    assert "no slot" in caught.value.body["error"]["message"]
    scene.release()


def test_a_deadline_before_the_hold_keeps_its_real_status(stage: Stage) -> None:
    scene = stage(deadlines={"hold": "10s"}, queue={"deadline": "700ms"})
    scene.fill()
    refused = scene.call("nonce:late").ended()
    assert (refused.status, json.loads(refused.raw)["error"]["type"]) == (529, "overloaded_error")
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    scene.release()


def test_a_plain_call_keeps_its_real_status_however_long_it_waits(stage: Stage) -> None:
    scene = stage(queue={"deadline": "1500ms"})
    scene.fill()
    refused = scene.call("nonce:plain", stream=None).ended()
    assert refused.ended_s - refused.started_s > 2 * HOLD_S
    assert (refused.status, json.loads(refused.raw)["error"]["type"]) == (529, "overloaded_error")
    scene.release()


# ------------------------------------------------------------------ held, then served elsewhere


def test_an_instance_that_dies_after_the_hold_and_before_its_first_event_is_replaced_unseen(stage: Stage) -> None:
    scene = stage(instances=2)
    held = scene.call("nonce:moved", behave.stall_after_head()).wait_for(pinged)
    dead = scene.holder("nonce:moved")
    other = next(name for name, fake in scene.fakes.items() if fake is not dead)
    dead.stop()
    assert held.ended().fault() == ""
    assert held.message.comments == (held.message.comments[0],)
    assert held.message.comments[0].startswith(f"x-router-instance: {other};")
    dead.start()


def test_the_sdk_does_not_notice_that_the_instance_behind_a_held_call_has_died(stage: Stage) -> None:
    scene = stage(instances=2)
    scene.stalls["nonce:sdk"] = behave.stall_after_head()
    with scene.stream("nonce:sdk") as stream:
        dead = scene.holder("nonce:sdk")
        dead.stop()
        message = stream.get_final_message()
    assert [block.text for block in message.content if block.type == "text"] == [text_of("nonce:sdk")]
    dead.start()


def test_an_instance_that_never_sends_a_head_is_given_up_and_the_held_call_goes_to_the_next(stage: Stage) -> None:
    scene = stage(instances=2, deadlines={"hold": "500ms", "head": "1200ms"})
    held = scene.call("nonce:mute", behave.stall_before_head()).ended()
    assert held.fault() == ""
    assert 1.1 < held.wait_s < 2.5
    assert held.message.pings >= 2
    assert sum(len(fake.calls) for fake in scene.fakes.values()) == 2


def test_when_every_instance_fails_a_held_call_it_ends_in_one_error_event(stage: Stage) -> None:
    scene = stage(instances=1, deadlines={"hold": "500ms", "idle": "1200ms"})
    held = scene.call("nonce:none", behave.stall_after_head()).ended()
    assert (held.status, held.whole) == (200, True)
    said = check(held.raw)
    assert [event.name for event in said.events] == ["error"]
    assert said.error is not None
    assert said.error["type"] == "timeout_error"
    assert said.pings >= 2
    assert held.ended_s - held.started_s < 4


# ------------------------------------------------------------------ Claude Code


class PatientClaudeCode(ClaudeCode):
    """It tries again, as it does for everybody."""

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "CLAUDE_CODE_MAX_RETRIES": "3"}


def claudes(fake: FakeInstance) -> list[Seen]:
    """What has come from Claude Code."""
    return [seen for seen in fake.calls if nonce_of(seen.json) == "nonce:claude"]


@pytest.mark.slow
def test_claude_code_reads_a_held_answer_as_any_other(stage: Stage, tmp_path: Path) -> None:
    program = claude_code_program()
    scene = stage(queue={"deadline": "30s"})
    first = scene.fill()
    user = ClaudeCode(program, tmp_path, scene.router.watched_url, MODEL)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(user.ask, "say nonce:claude")
        eventually(lambda: waiting(scene.router.url) == 1, 60)
        behind = scene.call("nonce:behind").wait_for(pinged)  # then so is the one before it
        scene.release()
        said = asked.result()
    assert (said.exit_status, said.result.get("is_error")) == (0, False), said
    assert (said.result["result"], said.result["num_turns"]) == (text_of("nonce:claude"), 1)
    assert [call.ended().fault() for call in (first, behind)] == ["", ""]
    assert [seen.json["stream"] for seen in claudes(scene.fakes["one"])] == [True]  # asked once, and streamed


@pytest.mark.slow
def test_claude_code_does_not_notice_that_the_instance_behind_its_held_call_has_died(
    stage: Stage, tmp_path: Path
) -> None:
    program = claude_code_program()
    scene = stage(instances=2, queue={"deadline": "30s"})
    scene.stalls["nonce:claude"] = behave.stall_after_head()
    user = ClaudeCode(program, tmp_path, scene.router.watched_url, MODEL)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(user.ask, "say nonce:claude")
        eventually(lambda: taken(scene.router.url) == 1, 60)
        beside = scene.call("nonce:beside", behave.stall_after_head()).wait_for(pinged)  # then so is Claude Code's
        beside.leave()
        eventually(lambda: taken(scene.router.url) == 1)
        dead = scene.holder("nonce:claude")
        dead.stop()
        said = asked.result()
    assert (said.exit_status, said.result.get("is_error")) == (0, False), said
    assert (said.result["result"], said.result["num_turns"]) == (text_of("nonce:claude"), 1)
    assert [len(claudes(fake)) for fake in scene.fakes.values()] == [1, 1]  # the router asked twice, not the client
    assert scene.router.log.count('"endpoint":"messages","outcome":"ok"') == 1
    dead.start()


@pytest.mark.slow
def test_claude_code_asks_again_and_streamed_after_an_error_event_that_came_first(stage: Stage, tmp_path: Path) -> None:
    """An error event after pings alone is a normal retry for it: no falling back to a call that is not streamed."""
    program = claude_code_program()
    scene = stage(queue={"deadline": "1s"})
    first = scene.fill()
    user = PatientClaudeCode(program, tmp_path, scene.router.watched_url, MODEL)
    fake = scene.fakes["one"]
    refusal = '"cause":"overloaded"'

    def release_then() -> None:
        scene.router.wait_logged(refusal, 60)
        scene.release()

    with ThreadPoolExecutor() as pool:
        released = pool.submit(release_then)
        said = user.ask("say nonce:claude")
        released.result()
    assert (said.exit_status, said.result.get("is_error")) == (0, False), said
    assert first.ended().fault() == ""
    calls = [seen for seen in fake.calls if nonce_of(seen.json) != "nonce:first"]
    assert [seen.json.get("stream") for seen in calls] == [True] * len(calls)
    refused = [line for line in scene.router.log.splitlines() if refusal in line]
    assert refused
    assert all('"stream":true' in line for line in refused)


# ------------------------------------------------------------------ the openai SDK
# It reads the same three ends of a hold; its pings are comments, and its error is one object without a name.


def chat_stream(client: openai.OpenAI, nonce: str) -> openai.Stream[ChatCompletionChunk]:
    """A streamed chat completion; returns once the head is there."""
    said: Any = [{"role": "user", "content": f"say {nonce}"}]
    found: openai.Stream[ChatCompletionChunk] = client.chat.completions.create(
        model=MODEL, max_tokens=16, messages=said, stream=True, stream_options={"include_usage": True}
    )
    return found


@pytest.fixture
def chatting(stage: Stage) -> Iterator[Callable[..., tuple[Scene, openai.OpenAI]]]:
    """Make a scene and an SDK that calls its router."""
    with ExitStack() as stack:

        def make(instances: int = 1, **top: Any) -> tuple[Scene, openai.OpenAI]:
            scene = stage(instances, **top)
            sdk = openai.OpenAI(base_url=f"{scene.router.watched_url}/v1", api_key="any", max_retries=0, timeout=20)
            return scene, stack.enter_context(sdk)

        yield make


Chatting = Callable[..., tuple[Scene, openai.OpenAI]]


def test_the_openai_sdk_reads_a_held_answer_as_any_other(chatting: Chatting) -> None:
    scene, sdk = chatting()
    scene.fill()
    with chat_stream(sdk, "nonce:chat") as stream:
        assert "x-router-instance" not in stream.response.headers
        scene.release()
        chunks = list(stream)
    assert sdk_said(chunks) == (text_of("nonce:chat"), [], "stop")
    assert {chunk.model for chunk in chunks} == {MODEL}
    assert chunks[-1].usage is not None


def test_the_bytes_of_a_held_chat_completion_are_legal_and_name_the_instance_in_a_comment(stage: Stage) -> None:
    scene = stage()
    scene.fill()
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "say nonce:raw"}]}
    with httpx.stream("POST", f"{scene.router.url}/v1/chat/completions", json=body, timeout=20) as answer:
        raw, pieces = b"", answer.iter_raw()
        while raw.count(b": ping\n\n") < 2:
            raw += next(pieces)
        assert b"data:" not in raw
        scene.release()
        raw += b"".join(pieces)
    said = check_chat(raw)
    assert (said.text, said.finish_reason, said.error) == (text_of("nonce:raw"), "stop", None)
    assert [it for it in said.comments if it.startswith("x-router-instance: one;")] == [said.comments[-1]]


def test_the_openai_sdk_raises_what_ends_a_hold(chatting: Chatting) -> None:
    scene, sdk = chatting(queue={"deadline": "1s"})
    scene.fill()
    with pytest.raises(openai.APIError, match="no slot") as caught, chat_stream(sdk, "nonce:chat") as stream:
        list(stream)
    assert caught.value.type == "server_error"
    scene.release()


def test_the_openai_sdk_does_not_notice_that_the_instance_behind_a_held_call_has_died(chatting: Chatting) -> None:
    scene, sdk = chatting(instances=2)
    scene.stalls["nonce:chat"] = behave.stall_after_head()
    with chat_stream(sdk, "nonce:chat") as stream:
        dead = scene.holder("nonce:chat")
        dead.stop()
        chunks = list(stream)
    assert sdk_said(chunks) == (text_of("nonce:chat"), [], "stop")
    dead.start()
