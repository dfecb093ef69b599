"""`serve` as an operator meets it: how it starts, why it may not, and how it ends."""

import io
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from router.cli.serve import open_port, run
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.legality import check
from tests.rig.router import RouterProcess, registry
from tests.test_app import POLL, Wire, answered, as_bytes, ask, eventually, refused, text_of

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def fake() -> Iterator[FakeInstance]:
    with FakeInstance() as fake:
        yield fake


def tried(config: Path, *, listen: str | None = None, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run `serve` where it must not start; the exit status and what it said."""
    err = io.StringIO()
    return run(config, listen=listen, err=err, env=env or {}), err.getvalue()


def written(folder: Path, text: str) -> Path:
    path = folder / "router.yaml"
    path.write_text(text)
    return path


# ---------------------------------------------------------------- why it may not start


def test_a_missing_file_is_told_with_the_command_that_writes_one(tmp_path: Path) -> None:
    status, said = tried(tmp_path / "none.yaml")
    assert status == 1
    assert said.count("\n") == 1
    assert f"there is no file {tmp_path / 'none.yaml'}" in said
    assert "llama-router init" in said


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    status, said = tried(tmp_path)
    assert status == 1
    assert str(tmp_path) in said
    assert "Traceback" not in said


def test_a_busy_port_is_told_with_its_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for listen, text in ((address, registry([NOBODY])), (None, registry([NOBODY], listen=address))):
            status, said = tried(written(tmp_path, text), listen=listen)
            assert status == 1
            assert said == f"cannot listen on {address}: Address already in use\n"


@pytest.mark.parametrize("listen", ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:8000", "example.org:8000"])
def test_without_keys_only_this_machine_may_be_listened_to(tmp_path: Path, listen: str) -> None:
    status, said = tried(written(tmp_path, registry([NOBODY])), listen=listen)
    assert status == 1
    assert "keys_file" in said
    assert "without" in said
    status, said = tried(written(tmp_path, registry([NOBODY], listen=listen)))
    assert status == 1
    assert "keys_file" in said


@pytest.mark.parametrize("listen", ["8000", "localhost", "127.0.0.1:99999", "127.0.0.1:http", ""])
def test_an_address_that_is_none_is_told(tmp_path: Path, listen: str) -> None:
    status, said = tried(written(tmp_path, registry([NOBODY])), listen=listen)
    assert status == 1
    assert "--listen" in said


def test_an_address_of_another_machine_is_told(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    status, said = tried(written(tmp_path, registry([NOBODY], keys_file="keys.yaml")), listen="192.0.2.1:8000")
    assert status == 1
    assert said.startswith("cannot listen on 192.0.2.1:8000: ")


def test_a_registry_with_errors_is_told_with_every_one(tmp_path: Path) -> None:
    status, said = tried(written(tmp_path, "modles: {}\nlisten: nowhere\n"))
    assert status == 1
    assert "router.yaml:1" in said
    assert "models" in said


def test_a_missing_or_broken_keys_file_is_told(tmp_path: Path) -> None:
    config = written(tmp_path, registry([NOBODY], keys_file="keys.yaml"))
    status, said = tried(config)
    assert status == 1
    assert str(tmp_path / "keys.yaml") in said
    assert "llama-router init" not in said
    (tmp_path / "keys.yaml").write_text("keys: [{id: a, sha256: secret-in-clear}]\n")
    status, said = tried(config)
    assert status == 1
    assert "keys.yaml:1" in said
    assert "secret-in-clear" not in said


def test_a_secret_that_is_not_in_the_environment_is_told_by_its_name(tmp_path: Path) -> None:
    status, said = tried(written(tmp_path, registry([{"url": NOBODY, "api_key": "${INNER_KEY}"}])))
    assert status == 1
    assert "INNER_KEY" in said


def test_an_open_port_may_be_ipv6_and_any_free_one() -> None:
    with open_port("127.0.0.1:0") as listener:
        assert listener.getsockname()[1] > 0
    try:
        with open_port("[::1]:0") as listener:
            assert listener.family == socket.AF_INET6
    except OSError:
        pytest.skip("this machine has no IPv6")


# ---------------------------------------------------------------- how it starts and ends


def test_it_says_where_it_answers_and_that_it_asks_nobody_for_a_key(fake: FakeInstance) -> None:
    with RouterProcess(registry([fake])) as router:
        router.wait_ready()
        assert f"llama-router answers on http://127.0.0.1:{router.port}\n" in router.log
        assert "no keys_file" in router.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_exits_with_0(fake: FakeInstance, number: signal.Signals) -> None:
    with RouterProcess(registry([fake])) as router:
        router.wait_ready()
        answered(httpx.post(f"{router.url}/v1/messages", json=ask("nonce:bye")), "nonce:bye")
        with Wire(router.port) as idle:
            assert idle.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").answer(body=False).status_code == 200
            os.kill(router.pid, number)
            assert router.wait(5) == 0
            assert idle.at_end()
        assert "Traceback" not in router.log
        assert "ERROR" not in router.log


def test_told_to_stop_it_lets_running_calls_finish_and_takes_no_new_ones(fake: FakeInstance) -> None:
    fake.then(behave.stall_mid_stream(1))
    with RouterProcess(registry([fake], poll=POLL)) as router:
        router.wait_ready()
        with ThreadPoolExecutor() as threads:
            body = ask("nonce:last", stream=True)
            call = threads.submit(httpx.post, f"{router.url}/v1/messages", json=body, timeout=20)
            fake.wait_for(lambda it: it.tokens_predicted >= 1)
            os.kill(router.pid, signal.SIGTERM)
            eventually(lambda: readiness(router.port) == 503)
            late = httpx.post(f"{router.url}/v1/messages", json=ask("nonce:late"))
            assert "shutting down" in refused(late, 503, "api_error")
            assert late.headers["retry-after"] == "5"
            fake.release()
            said = check(call.result().content, "exact")
        assert (said.text, said.error) == (text_of("nonce:last"), None)
        assert router.wait(5) == 0
        assert "Traceback" not in router.log
    assert len(fake.calls) == 1


@pytest.mark.parametrize("how", ["a second signal", "the grace is over"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_call_that_does_not_finish_is_told_that_it_is_over(fake: FakeInstance, how: str, stream: bool) -> None:
    fake.then(behave.stall_mid_stream(1) if stream else behave.stall_before_head())
    grace = "60s" if how == "a second signal" else "500ms"
    with RouterProcess(registry([fake], deadlines={"shutdown_grace": grace})) as router:
        router.wait_ready()
        with Wire(router.port) as wire:
            wire.send(as_bytes(ask("nonce:cut", stream=stream)))
            fake.wait_for(lambda it: it.in_flight >= 1)
            if stream:
                fake.wait_for(lambda it: it.tokens_predicted >= 1)
            started = time.monotonic()
            os.kill(router.pid, signal.SIGTERM)
            eventually(lambda: readiness(router.port) == 503)
            if how == "a second signal":
                os.kill(router.pid, signal.SIGTERM)
            response = wire.answer()
            assert wire.at_end()
        if stream:
            said = check(response.content, "exact")
            assert said.error is not None
            assert "was shut down before this answer was whole" in str(said.error)
        else:
            assert "was shut down" in refused(response, 503, "api_error")
        assert router.wait(8) == 0
        assert time.monotonic() - started < 5
        assert "Traceback" not in router.log
        fake.wait_for_hangups(1)


def test_a_call_that_waits_for_a_slot_when_the_grace_is_over_is_told_too() -> None:
    with (
        FakeInstance([behave.stall_before_head()], slots=1) as fake,
        RouterProcess(registry([fake], deadlines={"shutdown_grace": "100ms"})) as router,
    ):
        router.wait_ready()
        with Wire(router.port) as running, Wire(router.port) as waiting:
            running.send(as_bytes(ask()))
            fake.wait_for_calls(1)
            waiting.send(as_bytes(ask()))
            eventually(lambda: httpx.get(f"{router.url}/admin/fleet").json()["models"][0]["waiting"] == 1)
            os.kill(router.pid, signal.SIGTERM)
            for wire in (running, waiting):
                assert "was shut down" in refused(wire.answer(), 503, "api_error")
        assert router.wait(5) == 0
        assert len(fake.calls) == 1


def test_it_starts_again_at_once_on_the_port_that_it_left(fake: FakeInstance) -> None:
    with RouterProcess(registry([fake])) as router:
        for _ in range(2):
            router.wait_ready()
            with Wire(router.port) as wire:
                answered(wire.send(as_bytes(ask("nonce:again"))).answer(), "nonce:again")
                os.kill(router.pid, signal.SIGTERM)
                assert router.wait(5) == 0
            router._reap()
            router.start()
        router.wait_ready()


def test_a_busy_port_ends_the_process_with_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        router = RouterProcess(registry([NOBODY]), port=taken.getsockname()[1])
        with router:
            assert router.wait(10) == 1
            assert "cannot listen on 127.0.0.1:" in router.log
            assert "Traceback" not in router.log


def readiness(port: int) -> int:
    return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code
