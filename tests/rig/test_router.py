"""The router runs as a process that tests can look at from outside."""

import httpx
import pytest

from router.demo.process import StartError
from tests.rig.legality import check
from tests.rig.router import RouterProcess, registry
from tests.rig.start import StartFake, StartRouter, assert_gone

ASK = {
    "model": "claude-x",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "echo nonce:r1"}],
}


def test_a_call_goes_through_it_to_a_scripted_instance(start_fake: StartFake, start_router: StartRouter) -> None:
    fake = start_fake()
    router = start_router(registry([{"url": fake.url, "id": "a"}]))
    answer = httpx.post(f"{router.url}/v1/messages", json={**ASK, "stream": True}, timeout=10)
    assert answer.headers["x-router-instance"] == "a"
    assert check(answer.content, "exact").text == "nonce:r1 w1 w2"
    assert len(fake.calls) == 1


def test_its_memory_files_and_log_can_be_looked_at(start_fake: StartFake, start_router: StartRouter) -> None:
    router = start_router(registry([start_fake()]))
    assert 10 << 20 < router.rss_bytes < 500 << 20
    assert router.open_files > 5
    router.wait_logged(f"127.0.0.1:{router.port}")
    assert "Traceback" not in router.log


def test_it_is_gone_with_its_files_once_stopped(start_fake: StartFake) -> None:
    with RouterProcess(registry([start_fake()])) as router:
        router.wait_ready()
    assert_gone(router.pid)
    assert not router.config_path.exists()


def test_a_registry_that_cannot_run_is_told_with_the_routers_own_words() -> None:
    with RouterProcess("models: {}\n") as router, pytest.raises(StartError, match=r"router.yaml(.|\n)*models"):
        router.wait_ready()
