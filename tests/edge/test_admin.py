"""The operator's view, and who may have it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from router.edge.admin import _loopback_only
from router.errors import Forbidden
from tests.rig import behave
from tests.test_app import Stage, answered, ask, eventually


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage(
        instances=1, fake={"slots": 1, "api_key": "s3cret"}, entry={"api_key": "s3cret", "host": "rig1"}
    ) as stage:
        yield stage


def test_the_fleet_is_shown_without_addresses_and_keys(stage: Stage) -> None:
    response = stage.http.get("/admin/fleet")
    assert response.json() == {
        "instances": [
            {
                "id": "one",
                "host": "rig1",
                "models": ["test-model"],
                "state": "serving",
                "busy": 0,
                "slots": 1,
                "ctx_tokens": 4096,
            }
        ],
        "models": [{"model": "test-model", "aliases": ["claude-*"], "waiting": 0}],
    }
    assert "s3cret" not in response.text
    assert str(stage.fakes[0].port) not in response.text


def test_busy_slots_and_waiting_calls_are_shown_as_they_are(stage: Stage) -> None:
    nonces = [stage.planned(behave.stall_before_head()) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(stage.post, ask(nonce)) for nonce in nonces]
        eventually(lambda: stage.fleet()["models"][0]["waiting"] == 2)
        assert stage.fleet()["instances"][0]["busy"] == 1
        stage.fakes[0].release()
        for call, nonce in zip(calls, nonces, strict=True):
            answered(call.result(), nonce)
    stage.at_rest()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "", "::ffff:127.0.0.1"])
def test_whoever_asks_from_this_machine_may_see_it(address: str) -> None:
    _loopback_only(scope(address))


@pytest.mark.parametrize("address", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "0.0.0.0", "rig1", "169.254.1.1"])
def test_nobody_else_may(address: str) -> None:
    with pytest.raises(Forbidden, match="own machine"):
        _loopback_only(scope(address))


def scope(address: str) -> Any:
    return {"client": (address, 5000) if address else None}
