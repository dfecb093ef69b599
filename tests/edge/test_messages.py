"""POST /v1/messages as its clients meet it: what it takes, what it refuses and in which words, and who may call."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.rig.fake import FakeInstance
from tests.rig.legality import check
from tests.rig.router import MODEL, RouterProcess, registry
from tests.test_app import Stage, Wire, answered, as_bytes, ask, refused, text_of

INVALID = "invalid_request_error"
KEY = "sk-test-0123456789"


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    aliases = ["claude-*", "claude-sonnet-*", "short"]
    with FakeInstance() as twin:
        models = {"qwen3-coder": {"aliases": ["claude-opus-*"], "instances": [{"url": twin.url, "id": "twin"}]}}
        with Stage(models=models, aliases=aliases) as stage:
            stage.fakes.append(twin)
            yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    yield shared
    shared.at_rest()


# ---------------------------------------------------------------- what is refused

MESSAGES = [{"role": "user", "content": "hi"}]
BAD_BODIES: dict[str, tuple[object, str]] = {
    "no body": (b"", "no body"),
    "white space": (b" \r\n", "not valid JSON"),
    "text": (b"hello", "not valid JSON"),
    "cut JSON": (b'{"model": "test-mo', "not valid JSON"),
    "two objects": (json.dumps(ask()).encode() * 2, "not valid JSON"),
    "NaN": (b'{"model": "test-model", "max_tokens": NaN, "messages": []}', "not valid JSON"),
    "UTF-16": (json.dumps(ask()).encode("utf-16"), "UTF-8"),
    "Latin-1": (json.dumps(ask("nonce:é"), ensure_ascii=False).encode("latin-1"), "UTF-8 at byte"),
    "an array": ([], "must be a JSON object, not an array"),
    "a string": ("hello", "must be a JSON object, not a string"),
    "null": (None, "must be a JSON object, not null"),
    "no model": (ask(model=None), "model: field required"),
    "an empty model": (ask(model=""), "model: must not be empty"),
    "a number for a model": (ask(model=5), "model: must be a string, not an integer; name a model"),
    "no messages": (ask(messages=None), "messages: field required"),
    "no message": (ask(messages=[]), "messages: at least one"),
    "an object for messages": (ask(messages={}), "messages: must be an array, not an object"),
    "a string for a message": (ask(messages=["hi"]), "messages.0: must be an object, not a string"),
    "a message without role": (ask(messages=[{"content": "hi"}]), "messages.0.role: field required"),
    "an unknown role": (
        ask(messages=[{"role": "tool", "content": "hi"}]),
        "messages.0.role: must not be 'tool'; one of",
    ),
    "a message without content": (ask(messages=[*MESSAGES, {"role": "user"}]), "messages.1.content: field required"),
    "a number for content": (ask(messages=[{"role": "user", "content": 1}]), "messages.0.content: must be a string"),
    "null for content": (ask(messages=[{"role": "user", "content": None}]), "messages.0.content: must be a string"),
    "no max_tokens": (ask(max_tokens=None), "max_tokens: field required; say how many"),
    "a string for max_tokens": (ask(max_tokens="many"), "max_tokens: must be an integer, not a string"),
    "a fraction of a token": (ask(max_tokens=1.5), "max_tokens: must be an integer, not a number"),
    "less than no tokens": (ask(max_tokens=-1), "max_tokens: must be an integer of 0 or more"),
    "a string for stream": (ask(stream="yes"), "stream: must be true or false, not a string"),
    "a number for system": (ask(system=7), "system: must be a string or an array"),
    "a list for metadata": (ask(metadata=[]), "metadata: must be an object, not an array"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_refused_with_the_field_and_the_fix(stage: Stage, name: str) -> None:
    body, words = BAD_BODIES[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = stage.http.post("/v1/messages", content=content)
    message = refused(response, 400, INVALID)
    assert words in message
    assert "`" not in message
    assert "$" not in message


@pytest.mark.parametrize("name", ["no body", "no model", "an object for messages", "Latin-1"])
def test_a_bad_body_is_refused_by_count_tokens_in_the_same_words(stage: Stage, name: str) -> None:
    body, words = BAD_BODIES[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert words in refused(stage.http.post("/v1/messages/count_tokens", content=content), 400, INVALID)


@pytest.mark.parametrize("where", ["messages", "content", "unknown"])
def test_a_body_nested_without_end_is_refused_and_nothing_worse(stage: Stage, where: str) -> None:
    depth = 100_000
    nested = b"[" * depth + b"]" * depth
    bodies = {
        "messages": b'{"model":"test-model","max_tokens":1,"messages":%b}' % nested,
        "content": b'{"model":"test-model","max_tokens":1,"messages":[{"role":"user","content":%b}]}' % nested,
        "unknown": b'{"model":"test-model","max_tokens":1,"x":%b,"messages":[{"role":"user","content":"a"}]}' % nested,
    }
    refused(stage.http.post("/v1/messages", content=bodies[where]), 400, INVALID)


def test_a_model_that_is_nearly_one_of_ours_is_told_so(stage: Stage) -> None:
    message = refused(stage.post(ask(model="tets-model")), 404, "not_found_error")
    assert '"test-model"' in message
    assert "GET /v1/models" in message


def test_a_model_like_none_of_ours_is_told_which_there_are(stage: Stage) -> None:
    message = refused(stage.post(ask(model="gpt-5-xxl-0815")), 404, "not_found_error")
    assert '"test-model", "short", "qwen3-coder"' in message


def test_what_was_wrong_is_not_repeated_at_any_length(stage: Stage) -> None:
    assert len(refused(stage.post(ask(model="x" * 1_000_000)), 404, "not_found_error")) < 1000
    turns = [{"role": "x" * 1_000_000, "content": "hi"}]
    assert len(refused(stage.post(ask(messages=turns)), 400, INVALID)) < 1000
    assert len(refused(stage.http.get("/" + "x" * 60_000), 404, "not_found_error")) < 1000


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_another_method_is_not_allowed(stage: Stage, method: str, path: str) -> None:
    response = stage.http.request(method, path)
    if method == "HEAD":
        assert (response.status_code, response.content) == (405, b"")
    else:
        assert method in refused(response, 405, INVALID)
    assert "POST" in response.headers["allow"]


@pytest.mark.parametrize("path", ["/v1/message", "/v1/messages/", "/v1/messages/extra", "/v2/messages", "/v1", "/%00"])
def test_another_path_is_not_found(stage: Stage, path: str) -> None:
    response = stage.post(ask(), path)
    if path == "/v1/messages/" and response.status_code == 200:
        return  # a slash at the end may be forgiven
    assert "POST /v1/messages" in refused(response, 404, "not_found_error")


@pytest.mark.parametrize(
    "path", ["/v1/messages/batches", "/v1/messages/batches/abc/results", "/v1/files", "/v1/files/file_1/content"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_what_only_the_hosted_api_has_is_not_offered_and_says_so(stage: Stage, method: str, path: str) -> None:
    message = refused(stage.http.request(method, path), 501, "api_error")
    assert "not offered" in message
    assert "POST /v1/messages" in message


# ---------------------------------------------------------------- what is taken


@pytest.mark.parametrize("path", ["/v1/messages?beta=true", "/v1/messages?", "/v1/messages?a=%20&a=b#f"])
def test_a_query_changes_nothing(stage: Stage, path: str) -> None:
    nonce = stage.planned()
    answered(stage.post(ask(nonce), path), nonce)
    assert stage.seen(nonce)[0].target == "/v1/messages"


def test_a_path_may_be_written_with_percent_signs(stage: Stage) -> None:
    with Wire(stage.router.port) as wire:
        answered(wire.send(as_bytes(ask("nonce:pc"), start="POST /v1/%6Dessages HTTP/1.1")).answer(), "nonce:pc")


def test_an_absolute_url_in_the_request_line_is_understood(stage: Stage) -> None:
    with Wire(stage.router.port) as wire:
        start = f"POST {stage.router.url}/v1/messages HTTP/1.1"
        answered(wire.send(as_bytes(ask("nonce:abs"), start=start)).answer(), "nonce:abs")


@pytest.mark.parametrize("asked", [MODEL, "short", "claude-anything", "claude-sonnet-5"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_carries_the_model_name_that_was_asked_for(stage: Stage, asked: str, stream: bool) -> None:
    nonce = stage.planned()
    response = stage.post(ask(nonce, model=asked, stream=stream))
    named = check(response.content, "exact").model if stream else response.json()["model"]
    assert named == asked
    assert stage.seen(nonce)[0].json["model"] == asked  # a llama-server in router mode goes by it


def test_the_longest_pattern_that_fits_wins(stage: Stage) -> None:
    assert stage.post(ask(model="claude-opus-4")).headers["x-router-instance"] == "twin"
    assert stage.post(ask(model="claude-haiku-4")).headers["x-router-instance"] != "twin"


ODD = (
    b'{ "model":"test-model","max_tokens" : 16, "temperature":0.10000000000000001, "x-new":[1e400,{"a":null}],\n'
    b' "messages":[{"role":"user","content":[{"type":"text","text":"%b \\u00e9\\ud83d\\ude00 \xc3\xa9"}]}],'
    b'"metadata":{"user_id":null,"other":1}}'
)


def test_an_instance_of_ours_gets_the_canonical_form(stage: Stage) -> None:
    nonce = stage.planned()
    response = stage.http.post("/v1/messages", content=ODD % nonce.encode())
    assert response.status_code == 200, response.text
    assert response.headers["x-router-way"] == "native"
    (seen,) = stage.seen(nonce)
    assert seen.json == {
        "model": MODEL,
        "stream": False,
        "max_tokens": 16,
        "temperature": 0.10000000000000001,
        "messages": [{"role": "user", "content": f"{nonce} é😀 é"}],
    }
    assert b'"temperature":0.10000000000000001' in seen.body  # numbers as they were written


def test_two_spellings_of_one_request_are_the_same_to_the_instance(stage: Stage) -> None:
    nonce = stage.planned()
    block = {"type": "text", "text": f"say {nonce}", "cache_control": {"type": "ephemeral"}}
    for body in (ask(nonce), ask(messages=[{"role": "user", "content": [block]}], system=[])):
        answered(stage.post(body), nonce)
    first, second = stage.seen(nonce)
    assert first.body == second.body


@pytest.fixture(scope="module")
def hosted() -> Iterator[Stage]:
    with Stage(instances=1, entry={"dialect": "anthropic", "slots": 2}) as stage:
        yield stage


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_the_messages_api_itself_gets_every_byte_as_it_was_written(hosted: Stage, path: str) -> None:
    nonce = hosted.planned()
    content = ODD % nonce.encode()
    response = hosted.http.post(path, content=content)
    assert response.status_code == 200, response.text
    assert [content] == [seen.body for seen in hosted.fakes[0].requests if nonce.encode() in seen.body]


@pytest.mark.parametrize("stream", [False, True])
def test_the_way_that_a_call_went_is_told(stage: Stage, hosted: Stage, stream: bool) -> None:
    schema = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    for where, fields, way in ((stage, {}, "native"), (stage, {"output_config": schema}, "translated"),
                               (hosted, {}, "exact")):  # fmt: skip
        response = where.post(ask(where.planned(), stream=stream, **fields))
        assert response.status_code == 200, response.text
        told = response.headers.get("x-router-way") or response.text.partition("x-router-way: ")[2].splitlines()[0]
        assert told == way


def test_a_role_of_system_among_the_messages_is_let_through(stage: Stage) -> None:
    nonce = stage.planned()
    turns = [
        {"role": "user", "content": nonce},
        {"role": "assistant", "content": "x"},
        {"role": "system", "content": []},
    ]
    answered(stage.post(ask(messages=turns)), nonce)


def test_the_content_type_does_not_matter(stage: Stage) -> None:
    response = stage.http.post(
        "/v1/messages", content=json.dumps(ask("nonce:ct")), headers={"content-type": "text/plain"}
    )
    answered(response, "nonce:ct")


# ---------------------------------------------------------------- keys


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    keys = tmp_path_factory.mktemp("keys") / "keys.yaml"
    keys.write_text(yaml.safe_dump({"keys": [{"id": "ann", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]}))
    key = {"api_key": "instance-key"}
    with Stage(keys_file=str(keys), fake=key, entry=key) as stage:
        yield stage


GOOD_KEYS = {
    "x-api-key": {"x-api-key": KEY},
    "bearer": {"authorization": f"Bearer {KEY}"},
    "another case": {"Authorization": f"bearer {KEY}", "X-API-KEY": KEY},
    "x-api-key wins": {"x-api-key": KEY, "authorization": "Bearer wrong"},
    "an empty x-api-key does not": {"x-api-key": "", "authorization": f"Bearer {KEY}"},
}
BAD_KEYS = {
    "none": ({}, "x-api-key: KEY"),
    "a wrong one": ({"x-api-key": KEY + "x"}, "not known"),
    "the sum instead": ({"x-api-key": hashlib.sha256(KEY.encode()).hexdigest()}, "not known"),
    "the instance's": ({"x-api-key": "instance-key"}, "not known"),
    "a wrong bearer": ({"authorization": "Bearer nope"}, "not known"),
    "another scheme": ({"authorization": f"Basic {KEY}"}, "Bearer KEY"),
    "a bearer without a key": ({"authorization": "Bearer"}, "Bearer KEY"),
    "a wrong x-api-key wins": ({"x-api-key": "wrong", "authorization": f"Bearer {KEY}"}, "not known"),
}


@pytest.mark.parametrize("name", GOOD_KEYS)
def test_a_known_key_is_served_and_never_passed_on(guarded: Stage, name: str) -> None:
    nonce = guarded.planned()
    response = guarded.http.post("/v1/messages", json=ask(nonce), headers=GOOD_KEYS[name])
    answered(response, nonce)
    (seen,) = guarded.seen(nonce)
    assert [value for key, value in seen.headers if key.lower() in {"authorization", "x-api-key"}] == [
        "Bearer instance-key"
    ]
    assert KEY not in str(seen.headers)
    guarded.router.wait_logged(response.headers["request-id"])
    (line,) = [line for line in guarded.router.log.splitlines() if response.headers["request-id"] in line]
    assert json.loads(line)["key_id"] == "ann"


@pytest.mark.parametrize("name", BAD_KEYS)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_any_other_key_is_refused_before_the_body_is_read(guarded: Stage, name: str, path: str) -> None:
    headers, words = BAD_KEYS[name]
    nonce = guarded.planned()
    message = refused(guarded.http.post(path, json=ask(nonce), headers=headers), 401, "authentication_error")
    assert words in message
    assert guarded.seen(nonce) == []
    assert refused(guarded.http.post(path, content=b"nonsense", headers=headers), 401, "authentication_error")


@pytest.mark.parametrize("name", ["Authorization: Bearer", "x-api-key:"])
def test_a_header_with_a_key_that_comes_twice_is_refused(guarded: Stage, name: str) -> None:
    with Wire(guarded.router.port) as wire:
        response = wire.send(as_bytes(ask(), f"{name} {KEY}", f"{name} other")).answer()
    assert "twice" in refused(response, 401, "authentication_error")


def test_a_client_without_a_key_that_sends_on_is_still_told(guarded: Stage) -> None:
    with Wire(guarded.router.port) as wire:
        wire.send(as_bytes(b"x" * 8 * 1024 * 1024))
        refused(wire.answer(), 401, "authentication_error")
        answered(wire.send(as_bytes(ask("nonce:then"), f"x-api-key: {KEY}")).answer(), "nonce:then")


def test_models_need_a_key_and_ops_do_not(guarded: Stage) -> None:
    refused(guarded.http.get("/v1/models"), 401, "authentication_error")
    refused(guarded.http.get("/v1/models/test-model"), 401, "authentication_error")
    for path in ("/healthz", "/readyz", "/metrics"):
        assert guarded.http.get(path).status_code == 200
    guarded.at_rest()


def test_an_empty_keys_file_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    with FakeInstance() as fake, RouterProcess(registry([fake], keys_file=str(tmp_path / "keys.yaml"))) as router:
        router.wait_ready()
        with Wire(router.port) as wire:
            refused(wire.send(as_bytes(ask(), f"x-api-key: {KEY}")).answer(), 401, "authentication_error")


def test_a_stream_is_legal_and_says_what_was_asked(stage: Stage) -> None:
    nonce = stage.planned()
    said = check(stage.post(ask(nonce, stream=True)).content, "exact")
    assert (said.text, said.stop_reason, said.usage["output_tokens"]) == (text_of(nonce), "end_turn", 3)
