"""The application as a whole; and the stage on which the tests of edge, relay and probe play."""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import httpx
import pytest
import yaml
from litestar import get

from router.admit import retries
from router.cli import main, serve
from router.edge import protocol
from router.fleet import health
from router.probe import stuck
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour, Seen
from tests.rig.fake_slots import nonce_of, spoken
from tests.rig.fake_speech import say_some
from tests.rig.fake_turn import Turn
from tests.rig.legality import check
from tests.rig.router import MODEL, RouterProcess, registry

Json = dict[str, Any]
POLL = {"every": "200ms", "deadline": "2s"}
NAMES = ("one", "two", "three", "four")
_numbers = itertools.count(1)


class Plan:
    """What the instances do with which call: behaviours by its nonce, in the order of its attempts; then honest."""

    def __init__(self) -> None:
        self.calls: list[Seen] = []
        self._left: dict[str, deque[Behaviour]] = {}

    def __call__(self, seen: Seen) -> Behaviour:
        self.calls.append(seen)
        left = self._left.get(nonce_of(seen.json))
        return left.popleft() if left else behave.answer()

    def add(self, nonce: str, behaviours: tuple[Behaviour, ...]) -> None:
        self._left[nonce] = deque(behaviours)


class Stage:
    """Scripted instances named one, two, ... and a router in front of them. A module's tests share one.

    A test plans what happens to a call by its nonce, so it need not know which instance the call goes to first.
    """

    def __init__(
        self,
        *,
        instances: int = 2,
        fake: Mapping[str, Any] | None = None,
        entry: Mapping[str, object] | None = None,
        glass: bool = False,
        stuck_s: float | None = None,
        **top: Any,
    ) -> None:
        """`fake` and `entry` go to every instance and its line in the registry; `top` are keys of the registry.

        `stuck_s`: how long the glass router waits for a decode.
        """
        self.plan = Plan()
        self.fakes = [FakeInstance(self.plan, **(fake or {})) for _ in range(instances)]
        self._entry = entry or {}
        self._top = {"poll": POLL, **top}
        self._kind = GlassRouter if glass else RouterProcess
        self._env = {"STUCK_S": f"{stuck_s:g}"} if stuck_s is not None else {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for fake in self.fakes:
                stack.enter_context(fake)
            pairs = zip(NAMES, self.fakes, strict=False)
            listed = [{"url": fake.url, "id": name, **self._entry} for name, fake in pairs]
            self.router = stack.enter_context(self._kind(registry(listed, **self._top), env=self._env))
            self.router.wait_ready(path="/healthz")
            one_rests = httpx.Limits(max_keepalive_connections=1)
            client = httpx.Client(base_url=self.router.watched_url, timeout=20, trust_env=False, limits=one_rests)
            self.http = stack.enter_context(client)
            eventually(self._serving)
            self._sockets = self._usual_sockets()
            self._tasks = self.tasks()
            self._read = 0
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def planned(self, *behaviours: Behaviour) -> str:
        """A new nonce, whose attempts will meet these behaviours."""
        nonce = f"nonce:n{next(_numbers)}"
        self.plan.add(nonce, behaviours)
        return nonce

    def post(self, body: object, path: str = "/v1/messages", **headers: str) -> httpx.Response:
        return self.http.post(path, json=body, headers={key.replace("_", "-"): it for key, it in headers.items()})

    def seen(self, nonce: str) -> list[Seen]:
        """The attempts that reached an instance, in order."""
        return [seen for seen in self.plan.calls if nonce_of(seen.json) == nonce]

    def fake(self, name: str) -> FakeInstance:
        return self.fakes[NAMES.index(name)]

    def fleet(self) -> Json:
        fleet: Json = self.http.get("/admin/fleet").json()
        return fleet

    def tasks(self) -> int:
        return int(self.http.get("/tasks").text) if self._kind is GlassRouter else 0

    def at_rest(self) -> None:
        """No lease is out, nobody waits, everybody serves, and there are no more sockets and tasks than at first."""
        try:
            eventually(self.well, within_s=8)
            eventually(lambda: self._sockets_now() <= self._sockets, within_s=3)
            eventually(lambda: self.tasks() <= self._tasks, within_s=3)
            assert "Traceback" not in self.router.log[self._read :]
        finally:  # what is left over is told once, not by every test that follows
            self._sockets, self._tasks = max(self._sockets, self._sockets_now()), self.tasks()
            self._read = len(self.router.log)

    def well(self) -> bool:
        """As `_serving`; what is on probation gets the call that it is waiting for."""
        if any(it["state"] == "probation" for it in self.fleet()["instances"]):
            self.post(ask(self.planned()))
        return self._serving()

    def _serving(self) -> bool:
        fleet = self.fleet()
        ours = [it for it in fleet["instances"] if it["id"] in NAMES]
        idle = all(it["state"] == "serving" and it["busy"] == it["closing"] == 0 for it in ours)
        return idle and all(it["waiting"] == 0 for it in fleet["models"])

    def _sockets_now(self) -> int:
        """Those to instances left out: they come and go with every look."""
        return self.router.open_files - sum(len(fake._open) for fake in self.fakes)

    def _usual_sockets(self) -> int:
        """Counted often, since the two counts above are not made in the same moment."""
        counts = []
        for _ in range(15):
            counts.append(self._sockets_now())
            time.sleep(0.005)
        return max(counts)


class GlassRouter(RouterProcess):
    """The same program, sooner out of patience and sooner well again, and two routes for looking into it."""

    def __init__(self, config: str, **options: Any) -> None:
        super().__init__(config, **options)
        self._command = ("tests.test_app", *self._command[1:])


class Wire:
    """A client of the router, byte by byte."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.sock.close()

    def send(self, data: bytes) -> Self:
        self.sock.sendall(data)
        return self

    def answer(self, *, body: bool = True) -> httpx.Response:
        """The next answer. `body` False: there is none, as after HEAD."""
        status = int(self._line().split(b" ")[1])
        headers = []
        while line := self._line():
            name, _, value = line.partition(b": ")
            headers.append((name, value))
        fields = httpx.Headers(headers)
        content = b""
        if body and status >= 200:
            if fields.get("transfer-encoding") == "chunked":
                content = b"".join(self._chunks())
            else:
                content = self._file.read(int(fields.get("content-length", -1)))
        return httpx.Response(status, headers=headers, content=content)

    def at_end(self) -> bool:
        """Wait until the router closes; True when nothing came before that."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def read(self, count: int) -> bytes:
        return self._file.read(count)

    def _line(self) -> bytes:
        line = self._file.readline()
        assert line.endswith(b"\r\n"), f"the connection ended in a head: {line!r}"
        return line.removesuffix(b"\r\n")

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line(), 16):
            yield self._file.read(size)
            assert self._line() == b""
        assert self._line() == b""


def ask(nonce: str = "nonce:plain", **more: object) -> Json:
    """A request for the nonce; `more` fields are added, those that are None are left out."""
    body = {"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": f"say {nonce}"}], **more}
    return {key: value for key, value in body.items() if value is not None}


def as_bytes(body: object, *headers: str, start: str = "POST /v1/messages HTTP/1.1") -> bytes:
    """A whole request; bytes are sent as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [start, "Host: router", *headers, f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


def refused(response: httpx.Response, status: int, type_: str) -> str:
    """Check the envelope and return its sentence."""
    assert (response.status_code, response.headers.get("content-type")) == (status, "application/json"), response.text
    body = response.json()
    assert body == {
        "type": "error",
        "error": {"type": type_, "message": body["error"]["message"]},
        "request_id": response.headers["request-id"],
    }
    assert body["request_id"].startswith("req_")
    assert body["error"]["message"]
    return str(body["error"]["message"])


def text_of(nonce: str, tokens: int = 3) -> str:
    """What an honest instance answers."""
    return "".join(spoken(nonce, tokens))


def answered(response: httpx.Response, nonce: str) -> None:
    """Check a plain answer: it is the one to this question."""
    assert response.status_code == 200, response.text
    assert response.json()["content"] == [{"type": "text", "text": text_of(nonce)}]


def eventually(met: Callable[[], object], within_s: float = 20.0) -> None:
    """Wait until it holds."""
    due = time.monotonic() + within_s
    while not met():
        if time.monotonic() > due:
            pytest.fail(f"not within {within_s:g} s")
        time.sleep(0.01)


# ---------------------------------------------------------------- tests


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage(limits={"body": "64KiB", "connections": 12}, log={"level": "info"}) as stage:
        yield stage


def test_a_call_shows_in_the_answer_the_log_and_the_metrics_under_one_id(stage: Stage) -> None:
    nonce = stage.planned()
    response = stage.post(ask(nonce))
    answered(response, nonce)
    stage.router.wait_logged(response.headers["request-id"])
    (line,) = [line for line in stage.router.log.splitlines() if response.headers["request-id"] in line]
    record = json.loads(line)
    instance = response.headers["x-router-instance"]
    assert (record["outcome"], record["model"], record["instance_id"]) == ("ok", MODEL, instance)
    assert record["output_tokens"] == 3
    counted = f'model="{MODEL}",outcome="ok"'
    lines = [line for line in stage.http.get("/metrics").text.splitlines() if counted in line and instance in line]
    calls = [line for line in lines if line.startswith("llama_router_calls_total")]
    assert [line.rpartition(" ")[2] for line in calls] == ["1.0"]


def test_a_refused_call_is_logged_with_its_cause(stage: Stage) -> None:
    response = stage.post(ask(model="nobody"))
    stage.router.wait_logged(response.headers["request-id"])
    (line,) = [line for line in stage.router.log.splitlines() if response.headers["request-id"] in line]
    record = json.loads(line)
    assert (record["outcome"], record["cause"], record["status"]) == ("refused", "model_not_found", 404)


def test_the_registrys_cap_on_bodies_holds_to_the_byte(stage: Stage) -> None:
    body = json.dumps(ask()).encode()
    whole = body + b" " * (64 * 1024 - len(body))
    assert stage.http.post("/v1/messages", content=whole).status_code == 200
    message = refused(stage.http.post("/v1/messages", content=whole + b" "), 413, "request_too_large")
    assert "larger than 64 KiB;" in message


def test_connections_over_the_registrys_cap_are_closed_and_room_comes_back(stage: Stage) -> None:
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(stage.router.port)) for _ in range(12)]
        eventually(lambda: stage.router.open_files >= stage._sockets + 10)
        one_more = stack.enter_context(Wire(stage.router.port))
        assert one_more.at_end()
        wires[0].send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wires[0].answer().status_code == 200
    stage.at_rest()


def test_litestars_own_pages_are_not_there(stage: Stage) -> None:
    for path in ("/schema", "/schema/openapi.json", "/docs"):
        refused(stage.http.get(path), 404, "not_found_error")


def test_a_registry_that_logs_warnings_only_has_no_line_for_a_call() -> None:
    with Stage(instances=1, log={"level": "warning"}) as stage:
        response = stage.post(ask())
        assert response.status_code == 200
        stage.at_rest()
        assert response.headers["request-id"] not in stage.router.log
        assert "serving" not in stage.router.log


def test_the_example_registry_makes_an_application_that_starts_with_nobody_there() -> None:
    nobody = yaml.safe_load(registry(["http://127.0.0.1:1"], poll=POLL))
    with RouterProcess(yaml.safe_dump(nobody)) as router:
        router.wait_ready(path="/healthz")
        response = httpx.post(f"{router.url}/v1/messages", json=ask(), trust_env=False)
        assert "no instance of test-model" in refused(response, 503, "api_error")
        assert 1 <= int(response.headers["retry-after"]) <= 30


def test_how_many_tasks_there_are_is_told(stage: Stage) -> None:
    def told() -> float:
        (line,) = [it for it in stage.http.get("/metrics").text.splitlines() if it.startswith("llama_router_tasks ")]
        return float(line.rpartition(" ")[2])

    eventually(lambda: told() > 2)


# ---------------------------------------------------------------- reloads, and instances that hang


def test_an_id_that_gets_a_new_address_leaves_the_calls_at_the_old_process_alone() -> None:
    """Its death is told to them alone, and what they see says nothing of the new one."""
    with FakeInstance() as new, Stage(instances=1, glass=True, entry={"slots": 4}) as stage:
        waits, speaks = stage.planned(behave.stall_before_head()), stage.planned(behave.stall_mid_stream())
        with ThreadPoolExecutor() as threads:
            calls = [threads.submit(stage.post, ask(nonce, stream=True)) for nonce in (waits, speaks)]
            eventually(lambda: stage.seen(waits) and stage.seen(speaks))
            stage.router.write_config(registry([{"url": new.url, "id": "one", "slots": 4}], **stage._top))
            assert stage.post({}, "/admin/reload").json()["added"] == ["one"]
            eventually(lambda: stage.fleet()["instances"][0]["state"] == "serving")
            (removed,) = stage.fleet()["removed"]
            assert ("one", 2) == (removed["id"], removed["busy"])
            assert not any(call.done() for call in calls)
            stage.fakes[0].stop()
            first, second = [check(call.result(timeout=20).content, "exact") for call in calls]
        assert (first.text, first.error, len(new.calls)) == (text_of(waits), None, 1)
        assert second.error is not None
        (one,) = stage.fleet()["instances"]
        assert ("serving", 0) == (one["state"], one["busy"])
        assert "removed" not in stage.fleet()
        assert "ejected" not in stage.router.log


async def _comments(turn: Turn) -> None:
    """Two events, and then comments without end: a GPU that hangs behind a server that does not."""
    await say_some(turn, 2)
    while True:
        await turn.chunk(b":\n\n")
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("instances", [1, 2])
def test_every_call_at_a_stuck_instance_ends_and_those_without_an_answer_move(instances: int) -> None:
    poll = {"every": "100ms", "deadline": "1s"}
    with Stage(instances=instances, glass=True, stuck_s=1.0, poll=poll, deadlines={"idle": "500ms"}) as stage:
        begun = stage.planned(_comments)
        with ThreadPoolExecutor() as threads:
            call = threads.submit(stage.post, ask(begun, stream=True))
            eventually(lambda: stage.seen(begun))
            said = check(call.result(timeout=10).content, "exact")
            assert said.error is not None
            assert "is stuck" in said.error["message"]
            assert said.events[-1].name == "error"
            if instances == 2:
                plain = stage.planned(behave.stall_before_head())
                answered(threads.submit(stage.post, ask(plain)).result(timeout=10), plain)
                assert len(stage.seen(plain)) == 2


# ---------------------------------------------------------------- the router behind glass


@get("/tasks", media_type="text/plain")
async def _tasks() -> str:
    return str(len(asyncio.all_tasks()))


@get("/bug")
async def _bug() -> None:
    raise ValueError("a fault of the router, with nonce:secret in it")


def _behind_glass() -> int:
    """Run the command line with what `GlassRouter` promises."""
    protocol.HEAD_DEADLINE_S = 1.0
    protocol.BODY_DEADLINE_S = 1.5
    protocol.SWEEP_S = 0.1
    protocol.LINGER_BYTES = 48 * 1024 * 1024
    health.BACK_OFF_S = health.MAX_BACK_OFF_S = 0.1
    stuck.STUCK_S = float(os.environ.get("STUCK_S", stuck.STUCK_S))
    retries.PER_CALL = 2.0  # a module of failures on purpose is no fleet that is failing
    build = vars(serve)["build"]

    def with_routes(*args: Any, **options: Any) -> Any:
        router = build(*args, **options)
        router.app.register(_tasks)
        router.app.register(_bug)
        return router

    vars(serve)["build"] = with_routes
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(_behind_glass())
