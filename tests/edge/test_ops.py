"""What machines ask: is it up, is it ready, what does it count, which models are there; and browsers, where allowed."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour
from tests.rig.router import RouterProcess, registry
from tests.test_app import POLL, Stage, Wire, answered, as_bytes, ask, eventually, refused

PAGE = "https://chat.example.org"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    models = {
        "ggml-org/gemma-3:Q4": {"aliases": ["tiny"], "instances": [{"url": "http://127.0.0.1:9", "id": "away"}]},
    }
    stage = Stage(fake={"n_ctx": 32768}, aliases=["claude-*", "house"], models=models)
    stage.fakes[1].n_ctx = 8192
    with stage:
        yield stage


# ---------------------------------------------------------------- up and ready


def test_a_router_is_up_before_an_instance_is_and_ready_after(stage: Stage) -> None:
    with FakeInstance() as fake:
        fake.loading = True
        with RouterProcess(registry([fake], poll=POLL, queue={"deadline": "300ms"})) as router:
            router.wait_ready(path="/healthz")
            response = httpx.get(f"{router.url}/readyz")
            assert (response.status_code, response.json()) == (503, {"ready": False, "models_serving": 0})
            assert httpx.head(f"{router.url}/readyz").status_code == 503
            early = httpx.post(f"{router.url}/v1/messages", json=ask())  # it may be back soon, so the call waits for it
            assert "no slot of test-model came free" in refused(early, 529, "overloaded_error")
            fake.loading = False
            router.wait_ready()
            assert httpx.get(f"{router.url}/readyz").json() == {"ready": True, "models_serving": 1}
            answered(httpx.post(f"{router.url}/v1/messages", json=ask("nonce:up")), "nonce:up")
            fake.stop()
            eventually(lambda: httpx.get(f"{router.url}/readyz").status_code == 503)
            assert httpx.get(f"{router.url}/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/", "/api/hello"])
def test_a_client_may_warm_its_connection_up(stage: Stage, path: str) -> None:
    with Wire(stage.router.port) as wire:
        for _ in range(2):
            response = wire.send(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).answer(body=False)
            assert response.status_code == 200
        answered(wire.send(as_bytes(ask("nonce:warm"))).answer(), "nonce:warm")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_head_is_answered_like_get_without_a_body(stage: Stage, path: str) -> None:
    """A load balancer may ask with either."""
    got = stage.http.get(path)
    with Wire(stage.router.port) as wire:
        for _ in range(2):
            head = wire.send(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).answer(body=False)
            assert (got.status_code, b"") == (head.status_code, head.content)
            assert got.headers["content-length"] == head.headers["content-length"]
            assert got.headers["content-type"] == head.headers["content-type"]
        answered(wire.send(as_bytes(ask("nonce:looked"))).answer(), "nonce:looked")


def test_what_is_not_served_with_head_says_with_what(stage: Stage) -> None:
    response = stage.http.post("/readyz")
    refused(response, 405, "invalid_request_error")
    assert response.headers["allow"] == "GET, HEAD"


def test_the_root_says_where_to_go(stage: Stage) -> None:
    told = stage.http.get("/").json()
    assert (told["name"], told["messages"], told["models"]) == ("llama-router", "/v1/messages", "/v1/models")


# ---------------------------------------------------------------- metrics


def samples(stage: Stage) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = stage.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def total(stage: Stage, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for (it, has), value in samples(stage).items() if it == name and wanted <= has)


def test_metrics_are_of_the_type_that_prometheus_asks_for(stage: Stage) -> None:
    assert stage.http.get("/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_calls_are_counted_by_how_they_ended(stage: Stage) -> None:
    before = {it: total(stage, "llama_router_calls_total", outcome=it) for it in ("ok", "failed", "refused")}
    answered(stage.post(ask("nonce:ok1")), "nonce:ok1")
    refused(stage.post(ask(stage.planned(behave.server_error(), behave.server_error()))), 502, "api_error")
    refused(stage.post(ask(max_tokens=-1)), 400, "invalid_request_error")
    nonce = stage.planned(behave.broken_head())
    answered(stage.post(ask(nonce)), nonce)
    after = {it: total(stage, "llama_router_calls_total", outcome=it) for it in before}
    assert {it: after[it] - before[it] for it in before} == {"ok": 2, "failed": 1, "refused": 1}


@pytest.mark.parametrize(
    "failure",
    [behave.broken_head(), behave.server_error(), behave.die_mid_stream(2)],
    ids=["made good", "told", "in the middle of a stream"],
)
def test_an_attempt_that_failed_is_counted_against_its_instance(stage: Stage, failure: Behaviour) -> None:
    before = total(stage, "llama_router_attempts_failed_total")
    nonce = stage.planned(failure)
    stage.post(ask(nonce, stream=True))  # a stream is whole for its client before it is for us
    eventually(lambda: total(stage, "llama_router_attempts_failed_total") == before + 1)
    name = next(it for it in ("one", "two") if stage.fake(it).url.endswith(str(stage.seen(nonce)[0].header("host"))))
    assert total(stage, "llama_router_attempts_failed_total", instance=name) >= 1


def test_tokens_and_times_are_observed(stage: Stage) -> None:
    tokens = total(stage, "llama_router_tokens_total", kind="output")
    times = total(stage, "llama_router_ttft_seconds_count")
    assert stage.post(ask("nonce:tokens", stream=True)).status_code == 200
    eventually(lambda: total(stage, "llama_router_ttft_seconds_count") == times + 1)
    assert total(stage, "llama_router_tokens_total", kind="output") == tokens + 3


def test_the_fleet_is_shown_by_gauges(stage: Stage) -> None:
    assert total(stage, "llama_router_slots", instance="one") == 2
    assert total(stage, "llama_router_slots_busy") == 0
    assert total(stage, "llama_router_waiting") == 0
    assert total(stage, "llama_router_instance_state", instance="one", state="serving") == 1
    assert total(stage, "llama_router_instance_state", instance="away", state="ejected") == 1


def test_no_label_holds_what_a_caller_wrote(stage: Stage) -> None:
    refused(stage.post(ask(model="caller-text")), 404, "not_found_error")
    answered(stage.post(ask("nonce:glob", model="claude-caller-text")), "nonce:glob")
    assert "caller-text" not in stage.http.get("/metrics").text


# ---------------------------------------------------------------- models


def test_the_list_of_models_suits_both_kinds_of_client(stage: Stage) -> None:
    page = stage.http.get("/v1/models").json()
    assert [entry["id"] for entry in page["data"]] == ["test-model", "house", "ggml-org/gemma-3:Q4", "tiny"]
    assert (page["object"], page["has_more"], page["first_id"], page["last_id"]) == (
        "list",
        False,
        "test-model",
        "tiny",
    )
    for entry in page["data"]:
        assert (entry["type"], entry["object"], entry["owned_by"]) == ("model", "model", "llama-router")
        assert entry["created_at"].endswith("Z")


def test_a_context_size_is_the_smallest_that_an_instance_has(stage: Stage) -> None:
    sizes = {entry["id"]: entry["max_input_tokens"] for entry in stage.http.get("/v1/models").json()["data"]}
    assert sizes == {"test-model": 8192, "house": 8192, "ggml-org/gemma-3:Q4": None, "tiny": None}


def test_pages_lead_through_all_models_in_both_directions(stage: Stage) -> None:
    def page(**cursor: str) -> Any:
        return stage.http.get("/v1/models", params={"limit": "3", **cursor}).json()

    first = page()
    assert ([it["id"] for it in first["data"]], first["has_more"]) == (
        ["test-model", "house", "ggml-org/gemma-3:Q4"],
        True,
    )
    second = page(after_id=first["last_id"])
    assert ([it["id"] for it in second["data"]], second["has_more"]) == (["tiny"], False)
    back = page(before_id="tiny")
    assert ([it["id"] for it in back["data"]], back["has_more"]) == (
        ["test-model", "house", "ggml-org/gemma-3:Q4"],
        False,
    )


@pytest.mark.parametrize(
    ("query", "words"),
    [("limit=0", "limit"), ("limit=1001", "limit"), ("limit=many", "limit"), ("after_id=nobody", "after_id")],
)
def test_a_page_that_cannot_be_is_refused(stage: Stage, query: str, words: str) -> None:
    assert words in refused(stage.http.get(f"/v1/models?{query}"), 400, "invalid_request_error")


@pytest.mark.parametrize("name", ["test-model", "house", "claude-anything", "ggml-org/gemma-3:Q4"])
@pytest.mark.parametrize("quoted", [False, True])
def test_one_model_is_shown_under_the_name_that_was_asked_for(stage: Stage, name: str, quoted: bool) -> None:
    path = name.replace("/", "%2F").replace(":", "%3A") if quoted else name
    response = stage.http.get(f"/v1/models/{path}")
    assert response.status_code == 200, response.text
    assert response.json()["id"] == name


def test_an_unknown_model_is_not_found(stage: Stage) -> None:
    assert '"test-model"' in refused(stage.http.get("/v1/models/test-modal"), 404, "not_found_error")


# ---------------------------------------------------------------- browsers


def asks_from(page: str) -> dict[str, str]:
    return {"origin": page, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}


def test_no_page_may_call_unless_the_registry_says_so(stage: Stage) -> None:
    responses = [
        stage.http.options("/v1/messages", headers=asks_from(PAGE)),
        stage.http.post("/v1/messages", json=ask(), headers={"origin": PAGE}),
        stage.http.post("/v1/messages", json=ask(stream=True), headers={"origin": PAGE}),
        stage.http.get("/v1/models", headers={"origin": PAGE}),
    ]
    for response in responses:
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.fixture(scope="module")
def open_stage() -> Iterator[Stage]:
    with Stage(instances=1, cors={"origins": [PAGE]}) as stage:
        yield stage


def test_a_page_that_the_registry_names_may_ask_whether_it_may_call(open_stage: Stage) -> None:
    response = open_stage.http.options("/v1/messages", headers=asks_from(PAGE))
    assert response.status_code in {200, 204}
    assert response.headers["access-control-allow-origin"] == PAGE
    other = open_stage.http.options("/v1/messages", headers=asks_from("https://evil.example.org"))
    assert other.headers.get("access-control-allow-origin") is None


@pytest.mark.parametrize("body", [ask(), ask(stream=True), ask(model="nobody")], ids=["plain", "streamed", "refused"])
def test_a_page_that_the_registry_names_may_read_its_answers(open_stage: Stage, body: object) -> None:
    response = open_stage.http.post("/v1/messages", json=body, headers={"origin": PAGE})
    assert response.headers.get("access-control-allow-origin") == PAGE
    response = open_stage.http.post("/v1/messages", json=body, headers={"origin": "https://evil.example.org"})
    assert response.headers.get("access-control-allow-origin") is None
    open_stage.at_rest()
