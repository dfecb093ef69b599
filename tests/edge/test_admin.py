"""The operator's view and verbs, and who may have them."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from router.balance.policy import Place
from router.config.keys import KeyEntry
from router.edge.admin import _operators_only
from router.edge.auth import Keys
from router.edge.link import EXTENSION
from router.errors import Forbidden
from router.relay.explain import Explanation
from tests.rig import behave
from tests.test_app import Stage, answered, ask, eventually, refused


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
                "closing": 0,
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


# ---------------------------------------------------------------- the verbs


def test_what_is_drained_finishes_what_runs_and_takes_no_more_until_it_is_resumed() -> None:
    with Stage(instances=1, entry={"host": "rig1"}) as stage, ThreadPoolExecutor() as pool:
        nonce, later = stage.planned(behave.stall_before_head()), stage.planned()
        running = pool.submit(stage.post, ask(nonce))
        eventually(lambda: stage.seen(nonce))
        (told,) = stage.post({"name": "one"}, "/admin/drain").json()["instances"]
        assert (told["id"], told["state"], told["busy"]) == ("one", "draining", 1)
        assert "is serving" in refused(stage.post(ask()), 503, "api_error")
        stage.fakes[0].release()
        answered(running.result(), nonce)
        eventually(lambda: stage.fleet()["instances"][0]["busy"] == 0)
        assert stage.fleet()["instances"][0]["state"] == "draining"
        # A host stands for its instances; what was resumed is looked at now.
        assert stage.post({"name": "rig1"}, "/admin/resume").json()["instances"][0]["state"] == "unknown"
        answered(stage.post(ask(later)), later)
        stage.at_rest()


def test_a_registry_that_has_not_changed_changes_nothing(stage: Stage) -> None:
    for _ in range(2):
        assert stage.post({}, "/admin/reload").json() == {"added": [], "removed": [], "needs_restart": []}
    assert stage.fleet()["instances"][0]["state"] == "serving"


@pytest.mark.parametrize("verb", ["drain", "resume"])
@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ({"name": "nobody"}, (404, "not_found_error"), "no instance and no host 'nobody'"),
        ({"name": ""}, (404, "not_found_error"), "no instance and no host ''"),
        ({}, (400, "invalid_request_error"), '{"name": "INSTANCE or HOST"}'),
        ({"name": 1}, (400, "invalid_request_error"), '{"name": "INSTANCE or HOST"}'),
        ({"name": "one", "hard": True}, (400, "invalid_request_error"), '{"name": "INSTANCE or HOST"}'),
        ([], (400, "invalid_request_error"), '{"name": "INSTANCE or HOST"}'),
    ],
)
def test_an_order_that_cannot_be_followed_is_refused(
    stage: Stage, verb: str, body: object, error: tuple[int, str], words: str
) -> None:
    assert words in refused(stage.post(body, f"/admin/{verb}"), *error)
    assert stage.fleet()["instances"][0]["state"] == "serving"


@pytest.mark.parametrize("verb", ["drain", "resume", "reload", "explain"])
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_an_order_that_a_web_page_could_give_is_refused(stage: Stage, verb: str, kind: str | None) -> None:
    headers = {"content-type": kind} if kind else {}
    response = stage.http.post(f"/admin/{verb}", content=b'{"name":"one"}', headers=headers)
    assert "content-type: application/json" in refused(response, 400, "invalid_request_error")
    assert stage.fleet()["instances"][0]["state"] == "serving"


# ---------------------------------------------------------------- explain


def explained(stage: Stage, body: object) -> Explanation:
    response = stage.post(body, "/admin/explain")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json"), response.text
    return msgspec.json.decode(response.content, type=Explanation)


@pytest.mark.parametrize(
    "asked",
    [
        ask(),
        {"body": ask()},
        {"body": ask(), "path": "/v1/messages?beta=true"},
        {"body": ask(), "headers": {"X-Claude-Code-Session-Id": "s1"}},
        {"body": ask(max_tokens=None), "path": "/v1/chat/completions"},
        {"body": {"model": "test-model", "input": "hi"}, "path": "/v1/embeddings"},
    ],
    ids=["a request", "wrapped", "with a query", "with headers", "chat", "another route"],
)
def test_a_request_is_explained_and_not_sent(stage: Stage, asked: object) -> None:
    calls = len(stage.fakes[0].calls)
    told = explained(stage, asked)
    assert (Place("one"), "test-model", "ptx", 4096) == (
        told.decision.verdict, told.pool, told.policy, told.ctx_tokens
    )  # fmt: skip
    assert calls == len(stage.fakes[0].calls)
    assert 0 == stage.fleet()["instances"][0]["busy"]


def test_headers_may_be_written_in_any_case_and_tell_the_conversation() -> None:
    with Stage(instances=4) as stage:
        ids = {
            name: [
                explained(stage, {"body": ask(), "headers": {name: f"s{number}"}}).decision.ranking[0].instance_id
                for number in range(12)
            ]
            for name in ("x-session-id", "X-Session-ID", "x-unheard-of")
        }
        assert ids["x-session-id"] == ids["X-Session-ID"]
        assert len(set(ids["x-session-id"])) > 1
        assert 1 == len(set(ids["x-unheard-of"]))


def test_what_ranks_is_named(stage: Stage) -> None:
    with Stage(instances=1, placement={"policy": "least"}) as other:
        policies = [it.policy for it in (explained(stage, ask()), explained(other, ask()))]
    assert ["ptx", "least"] == policies


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ({}, (400, "invalid_request_error"), '"body": A REQUEST'),
        ([], (400, "invalid_request_error"), '"body": A REQUEST'),
        ({"body": ask(), "header": {}}, (400, "invalid_request_error"), '"headers"'),
        ({"body": ask(), "headers": [["a", "b"]]}, (400, "invalid_request_error"), '"headers"'),
        ({"body": ask(), "path": 7}, (400, "invalid_request_error"), '"path"'),
        ({"body": 7}, (400, "invalid_request_error"), "object"),
        ({"body": ask(), "path": "/v1/nothing"}, (400, "invalid_request_error"), "/v1/chat/completions"),
        ({"body": ask(), "path": "/v1/messages/count_tokens"}, (400, "invalid_request_error"), "takes no slot"),
        ({"body": ask(model="nobody")}, (404, "not_found_error"), "'nobody' is not served here"),
        (ask(max_tokens=None), (400, "invalid_request_error"), "max_tokens"),
    ],
)
def test_what_cannot_be_explained_is_refused(stage: Stage, body: object, error: tuple[int, str], words: str) -> None:
    assert words in refused(stage.post(body, "/admin/explain"), *error)


def test_what_is_no_json_is_refused(stage: Stage) -> None:
    for content in (b"", b"{", b'{"body": {"model": "\xff"}}', b"[" * 100_000):
        response = stage.http.post("/admin/explain", content=content, headers={"content-type": "application/json"})
        assert refused(response, 400, "invalid_request_error")


def test_only_operators_are_answered(stage: Stage) -> None:
    response = stage.post({"body": ask()}, "/admin/explain", x_forwarded_for=FAR)
    assert "own machine" in refused(response, 403, "permission_error")


# ---------------------------------------------------------------- who may

ADMIN, PERSON = "admin-key", "person-key"
KEYS = Keys(
    tuple(
        KeyEntry(id=key, sha256=hashlib.sha256(key.encode()).hexdigest(), admin=key == ADMIN) for key in (ADMIN, PERSON)
    )
)
FAR = "192.0.2.7"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("keys", [KEYS, Keys(None), Keys(())], ids=["keys", "nobody is asked", "no key"])
def test_whoever_asks_from_this_machine_may(address: str, keys: Keys) -> None:
    _operators_only(scope(address), keys)


@pytest.mark.parametrize("address", [FAR, "::ffff:192.0.2.7", "2001:db8::1", "0.0.0.0", "rig1", "169.254.1.1"])
@pytest.mark.parametrize("key", [None, PERSON, "unknown"])
@pytest.mark.parametrize("keys", [KEYS, Keys(None), Keys(())], ids=["keys", "nobody is asked", "no key"])
def test_nobody_else_may(address: str, key: str | None, keys: Keys) -> None:
    with pytest.raises(Forbidden, match="own machine"):
        _operators_only(scope(address, key), keys)


def test_an_admin_key_may_from_anywhere() -> None:
    _operators_only(scope(FAR, ADMIN), KEYS)
    with pytest.raises(Forbidden):
        _operators_only(scope(FAR, ADMIN), Keys(None))


def scope(address: str, key: str | None = None) -> Any:
    class Link:
        headers = [(b"x-api-key", key.encode())] if key else []

    return {"client": (address, 5000) if address else None, "extensions": {EXTENSION: Link()}}
