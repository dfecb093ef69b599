import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from router.cli import init
from router.config.load import parse
from router.config.schema import RouterFile
from tests.rig.llama import Pair

Start = Callable[..., str]

PROPS = {
    "model_alias": "qwen3",
    "total_slots": 4,
    "default_generation_settings": {"n_ctx": 8192},
    "build_info": "b7000-abc",
}
LISTING = {"object": "list", "data": [{"id": "qwen3"}]}


class CannedHandler(BaseHTTPRequestHandler):
    """Answers a path with what is canned for it, and 401 to those without the key where one is set."""

    pages: Mapping[str, tuple[int, bytes]] = {}
    key: str | None = None

    def do_GET(self) -> None:
        status, body = self.pages.get(self.path, (404, b"{}"))
        if self.key is not None and self.headers.get("authorization") != f"Bearer {self.key}":
            status, body = 401, b'{"error": {}}'
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def start_one(
            props: object = PROPS, listing: object = LISTING, *, status: int = 200, key: str | None = None
        ) -> str:
            pages = {
                path: (status, body if isinstance(body, bytes) else json.dumps(body).encode())
                for path, body in (("/props", props), ("/v1/models", listing))
                if body is not None
            }
            handler = type("Handler", (CannedHandler,), {"pages": pages, "key": key})
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            stack.callback(server.server_close)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_address[1]}"

        yield start_one


def run(urls: Sequence[str], api_key: str | None = None, **more: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    status = init.run(urls, out=out, err=err, api_key=api_key, **more)
    return status, out.getvalue(), err.getvalue()


def loaded(text: str, env: Mapping[str, str] | None = None) -> RouterFile:
    return parse(text.encode(), env or {})


def test_running_servers_become_a_registry_that_loads(start: Start) -> None:
    first, second = start(), start(PROPS | {"model_alias": "gemma"})
    status, out, err = run([first, second.removeprefix("http://")])
    assert status == 0
    assert {name: [entry.url for entry in model.instances] for name, model in loaded(out).models.items()} == {
        "gemma": [second],
        "qwen3": [first],
    }
    assert "# 4 slots of 8192 tokens each, build b7000-abc" in out
    assert err.splitlines() == [f"{first}: qwen3, 4 slots", f"{second}: gemma, 4 slots"]


def test_a_server_that_does_not_answer_stays_as_a_comment(start: Start) -> None:
    good = start()
    status, out, err = run([good, "127.0.0.1:1"])
    assert status == 0
    assert '#     - {url: "http://127.0.0.1:1"}   # cannot be reached' in out
    assert "http://127.0.0.1:1: cannot be reached" in err
    assert len(loaded(out).models) == 1


def test_nothing_is_written_when_nobody_answers() -> None:
    status, out, err = run(["127.0.0.1:1"])
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("no llama-server answered; start one")


def test_without_a_url_the_usual_ports_of_this_machine_are_tried(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    assert init.DEFAULT_URLS[0] == "http://127.0.0.1:8080"
    assert init.DEFAULT_URLS[-1] == "http://127.0.0.1:8090"
    monkeypatch.setattr(init, "DEFAULT_URLS", (start(), "http://127.0.0.1:1"))
    status, out, err = run([])
    assert status == 0
    assert err.startswith("no URL given: trying 127.0.0.1, ports 8080 to 8090\n")
    assert '127.0.0.1:1"' not in out


def test_a_server_with_a_key_is_asked_with_it_and_the_key_is_not_written(start: Start) -> None:
    guarded, open_to_all = start(key="hunter2"), start(PROPS | {"model_alias": "gemma"})
    status, out, err = run([guarded, open_to_all], "hunter2", api_key_env="RIG_KEY")
    assert status == 0
    assert "hunter2" not in out + err
    models = loaded(out, {"RIG_KEY": "k"}).models
    assert (models["qwen3"].instances[0].api_key, models["gemma"].instances[0].api_key) == ("k", None)


def test_a_server_with_a_key_that_was_not_given_says_how_to_give_it(start: Start) -> None:
    url = start(key="hunter2")
    status, _, err = run([url])
    assert status == 1
    assert f"{url}: needs a key; put it in LLAMA_API_KEY and give --api-key-env LLAMA_API_KEY" in err


def test_a_wrong_key_is_told_without_showing_it(start: Start) -> None:
    status, _, err = run([start(key="right")], "hunter2")
    assert status == 1
    assert "refuses the key in LLAMA_API_KEY" in err
    assert "hunter2" not in err


@pytest.mark.parametrize("key", ["", "a b", "a\n", "ä"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    status, _, err = run(["127.0.0.1:1"], key)
    assert (status, err.count("\n")) == (1, 1)
    assert "LLAMA_API_KEY is empty, or has a space" in err


def test_a_server_that_is_loading_is_told_apart(start: Start) -> None:
    status, _, err = run([start(status=503)])
    assert status == 1
    assert "is still loading its model" in err


@pytest.mark.parametrize("body", [b"<html>", b"[" * 100_000, b"\xff", {"ok": True}, [1, 2]])
def test_another_kind_of_server_is_not_taken_for_one(start: Start, body: object) -> None:
    status, _, err = run([start(body, body)])
    assert status == 1
    assert "not a llama-server" in err


def test_a_server_without_these_pages_is_not_taken_for_one(start: Start) -> None:
    status, _, err = run([start(None, None)])
    assert status == 1
    assert "answers 404 on /props: not a llama-server" in err


def test_a_router_mode_server_is_listed_under_each_model(start: Start) -> None:
    url = start({"role": "router", "build_info": "b1"}, {"data": [{"id": "org/a:Q4"}, {"id": "b"}]})
    status, out, err = run([url])
    assert status == 0
    assert {name: model.instances[0].model for name, model in loaded(out).models.items()} == {
        "b": "b",
        "org/a:Q4": "org/a:Q4",
    }
    assert "(router mode)" in err


def test_what_is_no_url_is_told_without_repeating_it_and_the_rest_goes_on(start: Start) -> None:
    good = start()
    status, out, err = run(["http://u:hunter2@rig1", good, f"{good}/"])
    assert status == 0
    assert err.splitlines()[0].startswith("URL number 1 has a user or password in it; ")
    assert "hunter2" not in out + err
    assert len(loaded(out).models["qwen3"].instances) == 1


def test_a_real_llama_server_is_understood(smollm2_pair: Pair) -> None:
    status, out, _ = run([server.url for server in smollm2_pair])
    assert status == 0
    assert len(loaded(out).models["smollm2"].instances) == 2
    assert "# 2 slots of 8192 tokens each, build" in out
