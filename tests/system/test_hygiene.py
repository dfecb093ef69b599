"""Nothing private comes out: no prompt, no key, no path and no address of an instance, in answers, heads or logs.

The instance of these tests tells all that it knows in everything that it sends; the router must not repeat it.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour, Seen
from tests.rig.fake_slots import nonce_of
from tests.rig.fake_turn import Turn
from tests.rig.fake_wire import JSON_TYPE, chunk, compact, error_body, event, message_body, message_frames, stream_head
from tests.rig.router import RouterProcess, registry
from tests.test_app import POLL, Wire, as_bytes, eventually

PROMPT = "PRIVATE-PROMPT"
SYSTEM = "PRIVATE-SYSTEM"
PERSON = "PRIVATE-PERSON"
CLIENT_KEY = "PRIVATE-CLIENT-KEY"
WRONG_KEY = "PRIVATE-WRONG-KEY"
INSTANCE_KEY = "PRIVATE-INSTANCE-KEY"
GGUF = "/srv/PRIVATE-FOLDER/PRIVATE-MODEL.gguf"
SAID = "PRIVATE-ANSWER"
LOADS = "nonce:loads"


def tells_all(text: str, fake: list[FakeInstance]) -> str:
    return f"failed in '{GGUF}' at {fake[0].url}/v1/messages: {text}"


def behaviours(fake: list[FakeInstance]) -> dict[str, Behaviour]:
    """Every way to answer, by the nonce that asks for it."""

    def answer() -> Behaviour:
        async def behaviour(turn: Turn) -> None:
            reply = turn.reply()
            if not turn.streamed:
                body = {**message_body(reply), "model": GGUF}
                own = ("X-Powered-By: llama.cpp", f"Location: {fake[0].url}", "Set-Cookie: PRIVATE-ANSWER=1")
                await turn.send(200, JSON_TYPE, compact(body), extra=own)
                return
            turn.closing = True
            frames = [frame.replace(b'"fake-model"', compact(GGUF)) for frame in message_frames(reply)]
            await turn.write(stream_head() + b"".join(map(chunk, frames)) + b"0\r\n\r\n")

        return behaviour

    def fails(status: int, kind: str, **more: int) -> Behaviour:
        async def behaviour(turn: Turn) -> None:
            await turn.json(status, error_body(status, tells_all("it broke", fake), kind, **more))

        return behaviour

    async def fails_in_the_middle(turn: Turn) -> None:
        turn.closing = True
        flat = {"code": 500, "message": tells_all("it broke", fake), "type": "server_error"}
        first = message_frames(turn.reply())[0].replace(b'"fake-model"', compact(GGUF))
        await turn.write(stream_head() + chunk(first) + chunk(event("error", flat)) + b"0\r\n\r\n")

    return {
        "nonce:answer": answer(),
        "nonce:refuses": fails(400, "invalid_request_error"),
        "nonce:breaks": fails(500, "server_error"),
        "nonce:away": fails(404, "not_found_error"),
        "nonce:locked": fails(401, "authentication_error"),
        LOADS: fails(503, "unavailable_error"),
        "nonce:limits": fails(429, "rate_limit_error"),
        "nonce:text": behave.not_json(f"{GGUF} {SAID}".encode()),
        "nonce:page": behave.not_json(f"<a href='{GGUF}'>{SAID}</a>".encode(), status=502),
        "nonce:garbage": behave.raw(f"{GGUF} {SAID}\r\n\r\n".encode()),
        "nonce:cut": behave.wrong_content_length(),
        "nonce:reset": behave.reset_before_head(),
        "nonce:middle": fails_in_the_middle,
        "nonce:json": behave.broken_event(0),
        "nonce:dies": behave.die_mid_chunk(1),
        "nonce:silent": behave.stall_mid_stream(1),
    }


def first_words(known: dict[str, Behaviour]) -> list[str]:
    """All but one; first those that break a stream after it has begun, while both instances are still trusted."""
    late = ["nonce:middle", "nonce:dies", "nonce:silent"]
    return [*late, *(nonce for nonce in known if nonce not in {*late, LOADS})]


class Heard:
    """Everything that came out of the router."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.logs: list[str] = []
        self.port = 0


def body(nonce: str, **more: object) -> dict[str, object]:
    said = [{"role": "user", "content": [{"type": "text", "text": f"{PROMPT} {nonce}"}]}]
    return {
        "model": "test-model",
        "max_tokens": 16,
        "system": SYSTEM,
        "metadata": {"user_id": PERSON},
        "messages": said,
        **more,
    }


def requests(nonces: list[str]) -> Iterator[bytes]:
    """Good and bad ones, all with secrets in them."""
    key = f"x-api-key: {CLIENT_KEY}"
    for nonce in nonces:
        for stream in (False, True):
            yield as_bytes(body(nonce, stream=stream), key, f"Cookie: {SAID}")
    yield as_bytes(body("nonce:answer"), key, start="POST /v1/messages/count_tokens HTTP/1.1")
    yield as_bytes(body("nonce:answer"), f"x-api-key: {WRONG_KEY}")
    yield as_bytes(body("nonce:answer"), f"Authorization: Bearer {WRONG_KEY}")
    yield as_bytes(body("nonce:answer"))
    yield as_bytes(body("nonce:answer", max_tokens=PROMPT), key)
    yield as_bytes(body("nonce:answer", messages=[{"role": "odd", "content": PROMPT}]), key)
    yield as_bytes(body("nonce:answer", messages=[{"role": "user", "content": {"text": PROMPT}}]), key)
    yield as_bytes(json.dumps(body("nonce:answer")).encode()[:-40], key)
    yield as_bytes(PROMPT.encode(), key)
    yield as_bytes(b'{"model": "test-model", "messages": "\xff' + PROMPT.encode() + b'"}', key)
    yield as_bytes(body("nonce:answer"), key, start="PUT /v1/messages HTTP/1.1")
    yield as_bytes(body("nonce:answer"), key, start="POST /v1/messages/batches HTTP/1.1")
    yield as_bytes(body("nonce:answer"), key, start="NONSENSE /v1/messages HTTP/1.1")
    yield as_bytes(body("nonce:answer"), key, "Content-Length: 5")
    for path in ("/v1/models", "/v1/models/test-model", "/healthz", "/readyz", "/metrics", "/admin/fleet", "/"):
        yield as_bytes(b"", key, start=f"GET {path} HTTP/1.1")


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    heard = Heard()
    fakes: list[FakeInstance] = []
    known = behaviours(fakes)

    def script(seen: Seen) -> Behaviour:
        return known.get(nonce_of(seen.json), behave.answer())

    folder = tmp_path_factory.mktemp("hygiene")
    (folder / "keys.yaml").write_text(_keys())
    with (
        FakeInstance(script, api_key=INSTANCE_KEY, model=GGUF) as one,
        FakeInstance(script, api_key=INSTANCE_KEY) as two,
    ):
        fakes += [one, two]
        one.props = {"model_path": GGUF, "model_alias": GGUF}
        heard.port = one.port
        entries = [{"url": fake.url, "id": id_, "api_key": "${INNER}"} for id_, fake in (("one", one), ("two", two))]
        deadlines = {"idle": "500ms", "call": "2s"}
        text = registry(entries, poll=POLL, deadlines=deadlines, keys_file=str(folder / "keys.yaml"))
        with RouterProcess(text, env={"INNER": INSTANCE_KEY}) as router:
            router.wait_ready()
            with ThreadPoolExecutor(4) as threads:
                heard.texts = list(threads.map(lambda raw: exchanged(router, raw), requests(first_words(known))))
            heard.texts += [exchanged(router, raw) for raw in requests([LOADS])]  # it takes both out for a moment
            eventually(lambda: '"ready":true' in exchanged(router, as_bytes(b"", start="GET /readyz HTTP/1.1")))
            one.stop()
            heard.texts.append(exchanged(router, as_bytes(body("nonce:answer"), f"x-api-key: {CLIENT_KEY}")))
            two.stop()
            eventually(lambda: '"models_serving":0' in exchanged(router, as_bytes(b"", start="GET /readyz HTTP/1.1")))
            heard.texts.append(exchanged(router, as_bytes(body("nonce:answer"), f"x-api-key: {CLIENT_KEY}")))
            heard.logs = router.log.splitlines()
            assert "Traceback" not in router.log
    return heard


def _keys() -> str:
    return yaml.safe_dump({"keys": [{"id": "ann", "sha256": hashlib.sha256(CLIENT_KEY.encode()).hexdigest()}]})


def exchanged(router: RouterProcess, raw: bytes) -> str:
    """The whole answer, head and all, as text."""
    with Wire(router.port) as wire:
        with contextlib.suppress(ConnectionError):
            wire.send(raw)
        response = wire.answer()
        head = "".join(f"{name}: {value}\n" for name, value in response.headers.multi_items())
        return f"{response.status_code}\n{head}\n{response.text}"


SECRETS = {
    "the prompt": PROMPT,
    "the system prompt": SYSTEM,
    "who the person is": PERSON,
    "the client's key": CLIENT_KEY,
    "a wrong key": WRONG_KEY,
    "the sum of a key": hashlib.sha256(CLIENT_KEY.encode()).hexdigest(),
    "the instance's key": INSTANCE_KEY,
    "a folder of the instance's machine": "PRIVATE-FOLDER",
    "the file of the model": "PRIVATE-MODEL",
    "the instance's words about itself": SAID,
}


@pytest.mark.parametrize("name", SECRETS)
def test_no_answer_holds(heard: Heard, name: str) -> None:
    assert not [text for text in heard.texts if SECRETS[name] in text]


@pytest.mark.parametrize("name", SECRETS)
def test_no_line_of_the_log_holds(heard: Heard, name: str) -> None:
    assert not [line for line in heard.logs if SECRETS[name] in line]


def test_no_answer_and_no_line_holds_an_address_of_an_instance(heard: Heard) -> None:
    assert not [text for text in (*heard.texts, *heard.logs) if f":{heard.port}" in text]


def test_no_answer_says_on_which_host_or_with_what_the_router_runs(heard: Heard) -> None:
    here = str(Path(__file__).resolve().parents[2])
    for text in heard.texts:
        assert here not in text
        for word in ("uvicorn", "litestar", "python", "llama.cpp", "Traceback", 'File "'):
            assert word.lower() not in text.lower().replace("x-powered-by: llama.cpp", "")


def test_the_mix_had_good_and_bad_of_all_kinds(heard: Heard) -> None:
    statuses = {int(text[:3]) for text in heard.texts}
    assert statuses >= {200, 400, 401, 405, 501, 502, 503}
    assert any("event: error" in text for text in heard.texts)
    outcomes = {json.loads(line)["outcome"] for line in heard.logs if line.startswith("{")}
    assert outcomes >= {"ok", "failed", "refused"}


def test_the_log_has_one_line_for_each_call_and_only_fields_that_are_meant(heard: Heard) -> None:
    calls = [json.loads(line) for line in heard.logs if line.startswith("{")]
    assert len({call["request_id"] for call in calls}) == len(calls)
    assert {call.get("key_id", "") for call in calls} <= {"ann", ""}
    for call in calls:
        assert call["endpoint"] in {"messages", "count_tokens"}
        assert set(call) <= KNOWN_FIELDS


KNOWN_FIELDS = {
    "at", "request_id", "endpoint", "outcome", "cause", "status", "key_id", "team", "model", "pool", "instance_id",
    "decision", "way", "dropped",
    "unread_fields", "unread_betas", "stream", "attempts", "failed_on", "causes", "queue_s", "foreseen", "ttft_s",
    "itl_s",
    "duration_s", "bytes_in", "bytes_out", "events", "input_tokens", "cached_tokens", "output_tokens", "stop_reason",
}  # fmt: skip
