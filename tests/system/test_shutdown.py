"""A router that is told to stop lets running calls finish, refuses new ones with a status, and exits with 0."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import httpx
import pytest

from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.legality import check
from tests.rig.router import MODEL, RouterProcess, registry
from tests.rig.transcript import read_events
from tests.system.load import Call, Crowd, new_nonce, taken, waiting
from tests.test_app import Wire, ask, eventually, refused, text_of

SIGNALS = [signal.SIGTERM, signal.SIGINT]


class Scene:
    """A router in front of one scripted instance with two slots, whose calls stall when told to."""

    def __init__(self, stack: ExitStack, top: dict[str, Any]) -> None:
        self.fake = stack.enter_context(FakeInstance(slots=2))
        self.router = stack.enter_context(RouterProcess(registry([{"url": self.fake.url, "id": "one"}], **top)))
        self.router.wait_ready()
        self.crowd = stack.enter_context(Crowd(self.router.port))
        self.http = stack.enter_context(httpx.Client(base_url=self.router.url, timeout=20, trust_env=False))

    def running(self, streamed: bool = True) -> Call:
        """A call that stalls in the middle of its answer; a plain one has shown nothing yet."""
        nonce = new_nonce()
        stream = {"stream": True} if streamed else {}
        before = taken(self.router.url)
        self.fake.then(behave.stall_mid_stream() if streamed else behave.stall_before_head())
        call = self.crowd.call(ask(nonce, **stream), text=text_of(nonce))
        if streamed:
            return call.wait_for(lambda it: it.content)
        eventually(lambda: taken(self.router.url) == before + 1)
        return call

    def waiting(self) -> Call:
        nonce = new_nonce()
        call = self.crowd.call(ask(nonce, stream=True), text=text_of(nonce))
        eventually(lambda: waiting(self.router.url) == 1)
        return call

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal, and wait until the router has taken notice."""
        self.router.send(number)
        eventually(lambda: self.http.get("/readyz").status_code == 503)


Open = Callable[..., Scene]


@pytest.fixture
def scene() -> Iterator[Open]:
    scenes: list[Scene] = []
    with ExitStack() as stack:

        def make(**top: Any) -> Scene:
            scenes.append(Scene(stack, top))
            return scenes[-1]

        yield make
        for scene in scenes:
            assert "Traceback" not in scene.router.log
            assert "Task was destroyed" not in scene.router.log


@pytest.mark.parametrize("number", SIGNALS)
def test_running_calls_finish_new_ones_are_refused_and_the_exit_status_is_0(
    scene: Open, number: signal.Signals
) -> None:
    here = scene()
    running = [here.running(), here.running(streamed=False)]
    waits = here.waiting()
    here.stop(number)
    assert here.http.get("/readyz").json() == {"ready": False, "models_serving": 0}
    assert here.http.get("/healthz").status_code == 200
    for body in (ask(), ask(stream=True)):
        response = here.http.post("/v1/messages", json=body)
        assert "shutting down" in refused(response, 503, "api_error")
        assert 1 <= int(response.headers["retry-after"]) <= 30
    assert not any(call.over for call in (*running, waits))
    here.fake.release()
    assert [call.ended().fault() for call in (*running, waits)] == ["", "", ""]
    assert here.router.wait(10) == 0


def test_a_router_with_nothing_to_do_is_gone_at_once(scene: Open) -> None:
    here = scene()
    here.http.get("/healthz")  # leaves an idle connection
    since_s = time.monotonic()
    here.router.send(signal.SIGTERM)
    assert here.router.wait(10) == 0
    assert time.monotonic() - since_s < 2


def test_calls_that_outlast_the_grace_get_one_error_each(scene: Open) -> None:
    here = scene(deadlines={"shutdown_grace": "1s"})
    streamed, plain = here.running(), here.running(streamed=False)
    waits = here.waiting()
    since_s = time.monotonic()
    here.router.send(signal.SIGTERM)
    for call in (streamed, plain, waits):
        call.ended()
    assert 0.9 < time.monotonic() - since_s < 3
    assert here.router.wait(10) == 0
    assert streamed.whole
    said = check(streamed.raw, comments=True)
    assert said.error is not None
    assert (said.error["type"], said.events[-1].name) == ("api_error", "error")
    assert "shut down before this answer was whole" in said.error["message"]
    assert [event.name for event in read_events(streamed.raw)].count("error") == 1
    for call in (plain, waits):  # nothing was sent yet, so the status tells
        assert call.status == 503, call
        assert json.loads(call.raw)["error"]["type"] == "api_error"
        assert 1 <= int(call.headers["retry-after"]) <= 30
    here.fake.wait_idle()
    assert here.fake.hangups == 2


def test_a_held_call_that_outlasts_the_grace_gets_its_error_in_the_stream(scene: Open) -> None:
    here = scene(deadlines={"shutdown_grace": "1s", "hold": "200ms"})
    running = [here.running(), here.running()]
    held = here.waiting().wait_for(lambda it: b"event: ping" in it.raw)
    here.router.send(signal.SIGTERM)
    assert held.ended().whole
    said = check(held.raw)
    assert said.error is not None
    assert said.error["type"] == "api_error"
    assert here.router.wait(10) == 0
    assert [check(call.ended().raw, comments=True).error is not None for call in running] == [True, True]


def test_no_grace_ends_calls_at_once(scene: Open) -> None:
    here = scene(deadlines={"shutdown_grace": "0s"})
    call = here.running()
    since_s = time.monotonic()
    here.router.send(signal.SIGTERM)
    assert check(call.ended().raw, comments=True).error is not None
    assert here.router.wait(10) == 0
    assert time.monotonic() - since_s < 3


def test_a_grace_that_a_reload_has_changed_is_the_one_that_counts(scene: Open) -> None:
    here = scene(deadlines={"shutdown_grace": "60s"})
    call = here.running()
    here.router.write_config(registry([here.fake], deadlines={"shutdown_grace": "300ms"}))
    assert here.http.post("/admin/reload", json={}).status_code == 200
    here.router.send(signal.SIGTERM)
    assert here.router.wait(10) == 0
    assert check(call.ended().raw, comments=True).error is not None


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_at_once_and_still_tells_the_clients(scene: Open, second: signal.Signals) -> None:
    here = scene()
    call = here.running()
    here.stop()
    assert not call.over
    since_s = time.monotonic()
    here.router.send(second)
    assert here.router.wait(10) == 0
    assert time.monotonic() - since_s < 2
    assert call.ended().whole
    assert check(call.raw, comments=True).error is not None


def test_the_sdk_is_told_of_a_shutdown_in_the_middle_of_an_answer(scene: Open) -> None:
    here = scene(deadlines={"shutdown_grace": "500ms"})
    here.fake.then(behave.stall_mid_stream())
    said: Any = [{"role": "user", "content": "say nonce:sdk"}]
    with (
        anthropic.Anthropic(base_url=here.router.watched_url, api_key="any", max_retries=0, timeout=20) as sdk,
        sdk.messages.stream(model=MODEL, max_tokens=16, messages=said) as stream,
    ):
        here.router.send(signal.SIGTERM)
        with pytest.raises(anthropic.APIStatusError, match="shut down before this answer was whole"):
            stream.until_done()


def test_a_client_that_is_sending_its_request_when_the_grace_ends_cannot_keep_the_router(scene: Open) -> None:
    here = scene(deadlines={"shutdown_grace": "300ms"})
    with Wire(here.router.port) as half:
        half.send(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        since_s = time.monotonic()
        here.router.send(signal.SIGTERM)
        assert here.router.wait(10) == 0
        assert time.monotonic() - since_s < 4
