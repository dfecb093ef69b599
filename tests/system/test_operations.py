"""What an operator does to a running router, under load: no call fails and no stream is cut."""

import asyncio
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.demo.llama import LlamaProcess
from router.demo.process import ChildProcess
from tests.rig import behave, llama
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour, Seen
from tests.rig.fake_slots import nonce_of
from tests.rig.fake_speech import say_frames, say_some
from tests.rig.fake_turn import Turn
from tests.rig.router import MODEL, RouterProcess, registry
from tests.rig.start import StartLlama, StartRouter
from tests.system.load import Call, Crowd, Load, command, instances, new_nonce, report, run_command, states, taken
from tests.test_app import ask, eventually, refused, text_of

POLL = {"every": "200ms", "deadline": "2s"}
NAMES = ("one", "two", "three")


class Site:
    """Three scripted instances, two of them on the host `rig`, and a router whose registry has `one` and `two`.

    A module's tests share it, and `reset` makes it as it was.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stalling: set[str] = set()
        self._release = threading.Event()
        self.fakes = {
            name: stack.enter_context(FakeInstance(self._plan, slots=4, tokens=12, token_delay_s=0.01))
            for name in NAMES
        }
        self.router = stack.enter_context(RouterProcess(self.text("one", "two")))
        self.router.wait_ready(path="/healthz")
        self.http = stack.enter_context(httpx.Client(base_url=self.router.url, timeout=20, trust_env=False))
        self.crowd = stack.enter_context(Crowd(self.router.port))

    def reset(self) -> None:
        self.release()
        for name in states(self.router.url):
            self.order("resume", name)
        self.write("one", "two")
        self.reload()
        self.serving("one", "two")
        eventually(lambda: taken(self.router.url) == 0)
        self._release.clear()
        for fake in self.fakes.values():
            fake.wait_idle()
            fake.hangups = 0

    def text(self, *names: str, **top: Any) -> str:
        """A registry with these instances."""
        return registry([self.entry(name) for name in names], **{"poll": POLL, **top})

    def entry(self, name: str) -> dict[str, object]:
        return {"url": self.fakes[name].url, "id": name, **({} if name == "three" else {"host": "rig"})}

    def write(self, *names: str, **top: Any) -> None:
        self.router.write_config(self.text(*names, **top))

    def reload(self) -> None:
        assert self.post("reload", {}).status_code == 200

    def have(self, *names: str, **top: Any) -> None:
        """Serve with exactly these."""
        self.write(*names, **top)
        self.reload()
        self.serving(*names)

    def post(self, path: str, body: object) -> httpx.Response:
        return self.http.post(f"/admin/{path}", json=body)

    def order(self, verb: str, name: str) -> None:
        assert self.post(verb, {"name": name}).status_code == 200

    def serving(self, *names: str) -> None:
        """Wait until these instances, and no others, are there and serve."""
        eventually(lambda: states(self.router.url) == dict.fromkeys(names, "serving"))

    def run(self, *args: str) -> tuple[int, str]:
        """Run a llama-router command on it; its exit status and what it printed."""
        return run_command(*args, "--router", self.router.url)

    def running(self, model: str = MODEL) -> Call:
        """A call in the middle of its answer, where it stays until `release`."""
        nonce = new_nonce()
        self._stalling.add(nonce)
        call = self.crowd.call(ask(nonce, stream=True, model=model, max_tokens=12), text=text_of(nonce, 12))
        return call.wait_for(lambda it: it.content)

    def release(self) -> None:
        self._release.set()

    @contextmanager
    def under_load(self, clients: int = 4) -> Iterator[Load]:
        """Calls all the while, none of which may fail."""
        with self.crowd.load(clients) as load:
            load.more(clients)
            yield load
            load.more(2 * clients)
        assert load.faults() == []

    def _plan(self, seen: Seen) -> Behaviour:
        return self._stall if nonce_of(seen.json) in self._stalling else behave.answer()

    async def _stall(self, turn: Turn) -> None:
        rest = await say_some(turn, 2)
        while not self._release.is_set():  # noqa: ASYNC110  # it is set by another thread
            await asyncio.sleep(0.01)
        await say_frames(turn, rest)


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack)


@pytest.fixture
def here(shared: Site) -> Iterator[Site]:
    shared.reset()
    read = len(shared.router.log)
    yield shared
    assert "Traceback" not in shared.router.log[read:]


# ------------------------------------------------------------------ drain and resume


def test_a_drain_under_load_finishes_what_runs_and_a_resume_brings_the_instance_back(here: Site) -> None:
    with here.under_load() as load:
        assert load.used() == {"one", "two"}
        status, said = here.run("drain", "one")
        drained_s = time.monotonic()
        assert status == 0, said
        assert said.splitlines()[-1] == "one: empty; it takes no calls until: llama-router resume one"
        assert here.fakes["one"].in_flight == 0
        load.more(12)
        assert load.used(drained_s) == {"two"}
        assert states(here.router.url) == {"one": "draining", "two": "serving"}
        assert here.run("resume", "one") == (0, "resumed: one\n")
        here.serving("one", "two")
        resumed_s = time.monotonic()
        load.more(12)
        assert load.used(resumed_s) == {"one", "two"}


def test_the_drain_command_waits_and_says_how_many_still_run(here: Site) -> None:
    here.have("one")
    call = here.running()
    with command("drain", "one", "--router", here.router.url) as drain:
        drain.wait_until(lambda: "draining one: 1 running" in drain.log, 20)
        with pytest.raises(subprocess.TimeoutExpired):
            drain.wait(1.0)
        assert "empty" not in drain.log
        here.release()
        assert drain.wait(10) == 0
        assert drain.log.splitlines()[-1].startswith("one: empty")
    assert call.ended().fault() == ""


def test_giving_up_waiting_for_a_drain_leaves_it_draining(here: Site) -> None:
    here.have("one")
    call = here.running()
    with command("drain", "one", "--router", here.router.url) as drain:
        drain.wait_until(lambda: "1 running" in drain.log, 20)
        drain.send(signal.SIGINT)
        assert drain.wait(10) == 1
        assert "still draining" in drain.log
        assert "Traceback" not in drain.log
    assert states(here.router.url) == {"one": "draining"}
    here.release()
    assert call.ended().fault() == ""


def test_a_host_drains_as_a_whole(here: Site) -> None:
    here.have(*NAMES)
    with here.under_load() as load:
        status, said = here.run("drain", "rig")
        drained_s = time.monotonic()
        assert (status, said.splitlines()[-1].partition(":")[0]) == (0, "one, two")
        assert states(here.router.url) == {"one": "draining", "two": "draining", "three": "serving"}
        load.more(12)
        assert load.used(drained_s) == {"three"}
        assert here.run("resume", "rig") == (0, "resumed: one, two\n")
        here.serving("one", "two", "three")


def test_a_drained_instance_stays_drained_through_a_reload_and_through_its_own_restart(here: Site) -> None:
    with here.under_load() as load:
        here.order("drain", "one")
        eventually(lambda: here.fakes["one"].in_flight == 0)
        assert here.post("reload", {}).status_code == 200
        here.fakes["one"].stop()
        load.more(12)
        here.fakes["one"].start()
        asked = len(here.fakes["one"].requests)
        here.fakes["one"].wait_for(lambda fake: len(fake.requests) > asked + 3)  # it is looked at
        assert states(here.router.url) == {"one": "draining", "two": "serving"}
        here.order("resume", "one")
        here.serving("one", "two")


def test_an_unknown_name_is_told_and_changes_nothing(here: Site) -> None:
    message = refused(here.post("drain", {"name": "rig9"}), 404, "not_found_error")
    assert "no instance and no host 'rig9'" in message
    status, said = here.run("drain", "rig9")
    assert (status, said.strip()) == (1, message)
    assert here.run("resume", "rig9")[0] == 1
    here.serving("one", "two")


def test_a_command_without_a_router_says_so() -> None:
    status, said = run_command("drain", "one", "--router", "http://127.0.0.1:1")
    assert status == 1
    assert "no router answers at http://127.0.0.1:1" in said


@pytest.mark.parametrize("verb", ["drain", "resume", "reload"])
def test_the_operators_posts_are_taken_as_json_only(here: Site, verb: str) -> None:
    """A web page can have a browser post a form or plain text to this machine, but not JSON."""
    body = json.dumps({"name": "one"})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        headers = {"content-type": kind} if kind else {}
        response = here.http.post(f"/admin/{verb}", content=body, headers=headers)
        assert "application/json" in refused(response, 400, "invalid_request_error")
    assert here.http.get(f"/admin/{verb}").status_code == 405
    here.serving("one", "two")


# ------------------------------------------------------------------ reload


def by_post(here: Site) -> None:
    here.reload()


def by_signal(here: Site) -> None:
    here.router.send(signal.SIGHUP)


def by_itself(here: Site) -> None:
    """The file has changed: nobody says anything."""


WAYS: dict[str, Callable[[Site], None]] = {"a post": by_post, "SIGHUP": by_signal, "the file": by_itself}


@pytest.mark.parametrize("way", WAYS)
def test_instances_come_and_go_with_the_registry_under_load(here: Site, way: str) -> None:
    with here.under_load() as load:
        here.write("one", "two", "three")
        WAYS[way](here)
        here.serving("one", "two", "three")
        added_s = time.monotonic()
        load.more(18)
        assert load.used(added_s) == {"one", "two", "three"}
        here.write("three")
        WAYS[way](here)
        here.serving("three")
        removed_s = time.monotonic()
        load.more(12)
        assert load.used(removed_s) == {"three"}
        assert [here.fakes[name].hangups for name in NAMES] == [0, 0, 0]


def test_the_reload_command_says_what_has_changed(here: Site) -> None:
    here.write("two", "three", cors={"origins": ["https://chat.example.org"]})
    said = "reloaded: added three, removed one\ncors has changed too; that takes a restart\n"
    assert here.run("reload") == (0, said)
    assert here.post("reload", {}).json() == {"added": [], "removed": [], "needs_restart": ["cors"]}  # until it is done


def test_a_call_goes_on_at_an_instance_that_the_registry_no_longer_has(here: Site) -> None:
    call = here.running()
    name = call.instance
    other = "two" if name == "one" else "one"
    here.write(other)
    here.reload()
    here.serving(other)
    here.release()
    assert call.ended().fault() == ""
    assert here.fakes[name].hangups == 0


def test_an_instance_whose_address_changes_is_a_new_one_under_its_old_name(here: Site) -> None:
    with here.under_load() as load:
        moved = {"url": here.fakes["three"].url, "id": "one", "host": "rig"}
        here.router.write_config(registry([moved, here.entry("two")], poll=POLL))
        here.reload()
        eventually(lambda: states(here.router.url) == {"one": "serving", "two": "serving"})
        eventually(lambda: here.fakes["one"].in_flight == 0)
        asked = len(here.fakes["one"].calls)
        load.more(18)
        assert len(here.fakes["one"].calls) == asked
        assert len(here.fakes["three"].calls) > 0


def test_an_instance_that_stays_keeps_its_health_and_what_runs_on_it(here: Site) -> None:
    call = here.running()
    before = instances(here.router.url)[call.instance]
    assert (before["state"], before["busy"]) == ("serving", 1)
    here.write("one", "two", "three", queue={"max_waiting": 7})
    here.reload()
    assert instances(here.router.url)[call.instance] == before
    here.release()
    assert call.ended().fault() == ""
    eventually(lambda: taken(here.router.url) == 0)


def test_models_and_aliases_come_change_and_go_under_load(here: Site) -> None:
    with here.under_load():
        more = {"other-model": {"aliases": ["nick"], "instances": [here.entry("three")]}}
        here.write("one", "two", models=more)
        here.reload()
        here.serving("one", "two", "three")
        for name in ("other-model", "nick"):
            assert here.crowd.call(ask(new_nonce(), stream=True, model=name)).ended().instance == "three"
        here.write("one", "two", models={"other-model": {"aliases": ["nack"], "instances": [here.entry("three")]}})
        here.reload()
        assert here.crowd.call(ask(new_nonce(), model="nack")).ended().status == 200
        assert here.crowd.call(ask(new_nonce(), model="nick")).ended().status == 404
        here.write("one", "two")
        here.reload()
        assert here.crowd.call(ask(new_nonce(), model="other-model")).ended().status == 404
        assert {row["id"] for row in here.http.get("/v1/models").json()["data"]} == {MODEL}


def test_a_call_that_waits_is_refused_when_its_model_is_taken_away(here: Site) -> None:
    here.have("one")
    more = {"busy": {"instances": [{**here.entry("three"), "slots": 1}]}}
    here.write("one", models=more)
    here.reload()
    here.serving("one", "three")
    running = here.running(model="busy")
    waits = here.crowd.call(ask(new_nonce(), stream=True, model="busy"))
    eventually(lambda: "waiting" in here.http.get("/admin/fleet").text and not waits.over and taken(here.router.url))
    here.write("one")
    here.reload()
    assert waits.ended().status in {404, 503}
    here.release()
    assert running.ended().fault() == ""


def test_a_key_that_is_mended_in_the_registry_brings_its_instance_in(here: Site) -> None:
    with FakeInstance(api_key="right", slots=4) as locked:
        entry = {"url": locked.url, "id": "locked", "api_key": "wrong"}
        with here.under_load() as load:
            here.router.write_config(registry([here.entry("one"), entry], poll=POLL))
            here.reload()
            eventually(lambda: states(here.router.url).get("locked") == "ejected")
            here.router.write_config(registry([here.entry("one"), {**entry, "api_key": "right"}], poll=POLL))
            here.reload()
            eventually(lambda: states(here.router.url)["locked"] in {"probation", "serving"})
            since_s = time.monotonic()
            load.more(12)
            assert "locked" in load.used(since_s)


def test_new_deadlines_hold_from_the_next_call_on(here: Site) -> None:
    before = here.running()
    here.have("one", "two", deadlines={"hold": "300ms"})
    call = here.running().wait_for(lambda it: b"event: ping" in it.raw, 5)
    here.release()
    assert (before.ended().fault(), call.ended().fault()) == ("", "")
    assert before.message.pings == 0


BROKEN = {
    "models:\n  test-model:\n    instances:\n      - urk: http://127.0.0.1:1\n": ":4:",
    "models:\n  test-model: [\n": ":3:",
    "": ":1:1: the file is empty",
}


def test_a_broken_registry_changes_nothing_and_is_told_with_file_line_and_path(here: Site) -> None:
    with here.under_load():
        for text, place in BROKEN.items():
            here.router.write_config(text)
            message = refused(here.post("reload", {}), 400, "invalid_request_error")
            assert f"router.yaml{place}" in message
            status, said = here.run("reload")
            assert (status, said.strip()) == (1, message.strip())
            here.router.send(signal.SIGHUP)
            here.router.wait_logged(f"the registry was not reloaded, everything stays as it was:\n{message}")
            if "urk" in text:
                assert "models.test-model.instances[0].urk" in message
        here.serving("one", "two")
    here.write(*NAMES)
    here.serving(*NAMES)


def test_a_registry_file_that_is_gone_for_a_moment_changes_nothing(here: Site) -> None:
    with here.under_load():
        here.router.config_path.unlink()
        assert "cannot be read" in refused(here.post("reload", {}), 400, "invalid_request_error")
        here.serving("one", "two")
        here.write("one", "two", "three")
        here.serving("one", "two", "three")


def test_a_hundred_reloads_under_load_cost_nothing_and_leave_nothing(here: Site) -> None:
    with here.under_load():
        here.reload()
        files, threads = here.router.open_files, _threads(here.router)
        for number in range(100):
            here.write(*(NAMES if number % 2 else NAMES[:2]))
            here.reload()
        here.serving(*NAMES)
        here.write("one", "two")
        here.reload()
        here.serving("one", "two")
    eventually(lambda: here.router.open_files <= files)
    assert _threads(here.router) <= threads


def _threads(process: ChildProcess) -> int:
    return sum(1 for _ in Path(f"/proc/{process.pid}/task").iterdir())


# ------------------------------------------------------------------ a rolling restart


def test_a_rolling_restart_of_every_instance_under_load_fails_no_call_and_cuts_no_stream(
    start_llama: StartLlama, start_router: StartRouter
) -> None:
    servers = {name: start_llama(llama.tiny_spec()) for name in ("one", "two")}
    router = start_router(registry([{"url": it.url, "id": name} for name, it in servers.items()]))
    eventually(lambda: set(states(router.url).values()) == {"serving"})
    with Crowd(router.port) as crowd, crowd.load(6, max_tokens=64) as load:
        load.more(6)
        for name, server in servers.items():
            with command("drain", name, "--router", router.url) as drain:
                assert drain.wait(20) == 0, drain.log
            server.stop()
            load.more(6)
            server.start()
            server.wait_ready(llama.READY_S)
            assert run_command("resume", name, "--router", router.url) == (0, f"resumed: {name}\n")
            eventually(lambda: set(states(router.url).values()) == {"serving"})
        since_s = time.monotonic()
        load.more(40)
        assert load.used(since_s) == {"one", "two"}
    assert load.faults() == []
    report(f"{len(load.calls)} calls during the restart of both instances")
    assert "Traceback" not in router.log


def test_an_id_that_gets_a_new_address_under_load_leaves_the_old_process_its_calls(
    start_llama: StartLlama, start_router: StartRouter
) -> None:
    old, two, new = (start_llama(llama.tiny_spec()) for _ in range(3))
    router = start_router(registry([{"url": old.url, "id": "one"}, {"url": two.url, "id": "two"}]))
    eventually(lambda: set(states(router.url).values()) == {"serving"})
    with Crowd(router.port) as crowd, crowd.load(4, max_tokens=64) as load:
        load.more(4)
        long = at_length(crowd, "one")
        router.write_config(registry([{"url": new.url, "id": "one"}, {"url": two.url, "id": "two"}]))
        assert run_command("reload", "--router", router.url) == (0, "reloaded: added one, removed one\n")
        moved_s = time.monotonic()
        assert not long.over  # it is still with the old process
        eventually(lambda: states(router.url) == {"one": "serving", "two": "serving"})
        load.more(20)
        assert load.used(moved_s) == {"one", "two"}
        assert told(new, "tokens_predicted_total") > 0
        assert long.ended(60).fault() == ""
        assert long.instance == "one"
        eventually(lambda: told(old, "requests_processing") == 0)
        before = told(old, "n_decode_total")
        load.more(20)
        assert told(old, "n_decode_total") == before
        old.stop()
        load.more(20)
    assert load.faults() == []
    report(f"{len(load.calls)} calls while an id got a new address; none failed and none was cut")
    assert "Traceback" not in router.log


def at_length(crowd: Crowd, instance: str) -> Call:
    """A call in the middle of a long answer at this instance."""
    while True:
        calls = [it.wait_for(lambda call: call.content or call.over) for it in crowd.calls(4, max_tokens=3_000)]
        chosen = next((it for it in calls if it.instance == instance and not it.over), None)
        for call in calls:
            if call is not chosen:
                call.leave()
        if chosen is not None:
            return chosen


def told(server: LlamaProcess, name: str) -> float:
    """What a llama-server's own /metrics says."""
    page = httpx.get(f"{server.url}/metrics", timeout=20, trust_env=False).text
    return float(page.partition(f"\nllamacpp:{name} ")[2].partition("\n")[0])
