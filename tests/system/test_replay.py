"""All that clients were seen to send, sent again: through both ways, to a real server, and answered."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from tests.captures.reading import HERE
from tests.rig.legality import check
from tests.rig.legality_chat import check_chat
from tests.rig.llama import tiny_spec
from tests.rig.router import RouterProcess
from tests.system.both_ways import WAYS, Routers, both_ways
from tests.system.templates import HERMES

MODEL = "test-model"  # as they were recorded
MAX_TOKENS = 4
# These belong to the connection that was, or to its body as it was.
NOT_SENT = {"host", "content-length", "connection", "accept-encoding", "transfer-encoding"}


class Sent(NamedTuple):
    """One request as it was recorded; `fields` is None where it had no body."""

    name: str
    method: str
    path: str
    headers: dict[str, str]
    fields: dict[str, Any] | None

    @property
    def route(self) -> str:
        return self.path.partition("?")[0]

    @property
    def server_tool(self) -> bool:
        return any("input_schema" not in it and "function" not in it for it in (self.fields or {}).get("tools", ()))

    @property
    def usage_asked(self) -> bool:
        return bool(((self.fields or {}).get("stream_options") or {}).get("include_usage"))


def _sent(file: Path) -> Iterator[Sent]:
    for place, line in enumerate(file.read_text().splitlines(), 1):
        entry = json.loads(line)
        headers = {name.lower(): value for name, value in entry["headers"] if name.lower() not in NOT_SENT}
        yield Sent(f"{file.stem}-{place}", entry["method"], entry["path"], headers, entry["body"] or None)


ALL = [it for file in sorted(HERE.glob("*.jsonl")) for it in _sent(file)]
ANSWERED = [it for it in ALL if it.route in {"/v1/messages", "/v1/chat/completions"} and not it.server_tool]
# A whole prompt of Claude Code's takes seconds to read; one conversation of its stands for all where time is short.
QUICK = ("claude-code-2.1.330-tool-", "anthropic-sdk", "openai-sdk")


def of(*routes: str) -> list[Any]:
    return [pytest.param(it, id=it.name) for it in ALL if it.route in routes]


def either_speed() -> list[Any]:
    """Those that are answered; all but a few are marked slow."""
    return [
        pytest.param(it, id=it.name, marks=() if it.name.startswith(QUICK) else pytest.mark.slow) for it in ANSWERED
    ]


@pytest.fixture(scope="module")
def routers() -> Iterator[Routers]:
    """One slot: the second way, and the next turn, find the prompt in its cache."""
    # Scrambled words take more tokens than words do: the longest request has 40,000. It is read for half a minute,
    # and its answer shall have headers still.
    spec = msgspec.structs.replace(tiny_spec(slots=1, n_ctx_slot=65_536), chat_template=HERMES)
    with both_ways(spec, MODEL, deadlines={"hold": "2m"}) as found:
        yield found


def send(router: RouterProcess, it: Sent) -> httpx.Response:
    """With the headers of then, and room for few tokens: how many would have been said does not matter here."""
    content = None
    if it.fields is not None:
        given = [name for name in ("max_tokens", "max_completion_tokens") if name in it.fields]
        short = dict.fromkeys(given or ["max_tokens"], MAX_TOKENS) if it.route != "/v1/messages/count_tokens" else {}
        content = json.dumps({**it.fields, **short}, ensure_ascii=False).encode()
    url = router.url + it.path
    return httpx.request(
        it.method, url, headers=it.headers, content=content, timeout=120, verify=False, trust_env=False
    )


@pytest.mark.parametrize("it", either_speed())
def test_what_was_sent_is_answered_in_both_ways(routers: Routers, it: Sent) -> None:
    assert it.fields is not None
    counted = []
    for way in WAYS:
        answer = send(routers[way], it)
        assert answer.status_code == 200, answer.text
        if it.route == "/v1/chat/completions":
            assert answer.headers["x-router-way"] == "native"
            chat_answered(it, answer)
            continue
        # Forcing or forbidding tools is what the native route cannot do.
        assert answer.headers["x-router-way"] == ("translated" if "tool_choice" in it.fields else way)
        usage = message_usage(it, answer)
        counted.append(usage["input_tokens"] + usage["cache_read_input_tokens"])
    assert len(set(counted)) <= 1  # both ways make the same prompt


def message_usage(it: Sent, answer: httpx.Response) -> dict[str, Any]:
    assert it.fields is not None
    if it.fields.get("stream"):
        said = check(answer.content)
        assert said.error is None
        assert (said.model, said.stop_reason) == (it.fields["model"], "max_tokens")
        return dict(said.usage)
    plain = answer.json()
    assert (plain["model"], plain["stop_reason"]) == (it.fields["model"], "max_tokens")
    usage: dict[str, Any] = plain["usage"]
    return usage


def chat_answered(it: Sent, answer: httpx.Response) -> None:
    assert it.fields is not None
    if it.fields.get("stream"):
        said = check_chat(answer.content, usage_asked=it.usage_asked)
        assert said.error is None
        assert (said.model, said.finish_reason) == (it.fields["model"], "length")
        return
    plain = answer.json()
    assert (plain["object"], plain["model"]) == ("chat.completion", it.fields["model"])
    assert plain["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("it", of("/v1/messages/count_tokens"))
def test_what_was_counted_is_counted_alike_in_both_ways(routers: Routers, it: Sent) -> None:
    answers = [send(routers[way], it) for way in WAYS]
    assert [it.status_code for it in answers] == [200, 200], answers[0].text
    first, second = (answer.json() for answer in answers)
    assert first == second
    assert first["input_tokens"] > 0


@pytest.mark.parametrize("it", [pytest.param(it, id=it.name) for it in ANSWERED if it.route == "/v1/messages"])
def test_all_that_was_asked_is_counted_alike_in_both_ways(routers: Routers, it: Sent) -> None:
    """Claude Code's requests are as long as they were; nobody generates anything here, so that it takes no time."""
    assert it.fields is not None
    fields = {name: value for name, value in it.fields.items() if name not in {"max_tokens", "stream", "metadata"}}
    path = it.path.replace("/v1/messages", "/v1/messages/count_tokens")
    first, second = (send(routers[way], it._replace(path=path, fields=fields)).json() for way in WAYS)
    assert first == second
    assert first["input_tokens"] > 10


@pytest.mark.parametrize("it", [pytest.param(it, id=it.name) for it in ALL if it.server_tool])
@pytest.mark.parametrize("way", WAYS)
def test_a_search_that_nobody_here_can_make_is_refused_in_the_hosted_apis_words(
    routers: Routers, way: str, it: Sent
) -> None:
    answer = send(routers[way], it)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    words = "tools.0: Input tag 'web_search_20250305' found using 'type' does not match any of the expected tags"
    assert error["message"].startswith(words)


@pytest.mark.parametrize("it", of("/", "/api/hello"))
def test_a_greeting_is_answered(routers: Routers, it: Sent) -> None:
    assert it.method == "HEAD"
    answer = send(routers["native"], it)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("it", of("/v1/models"))
def test_a_list_of_models_is_whole_and_ends(routers: Routers, it: Sent) -> None:
    page = send(routers["native"], it).json()
    assert [model["id"] for model in page["data"]] == [MODEL]
    assert page["has_more"] is False


def test_no_kind_of_request_was_passed_over() -> None:
    known = {"/", "/api/hello", "/v1/models", "/v1/messages", "/v1/messages/count_tokens", "/v1/chat/completions"}
    assert {it.route for it in ALL} == known
    assert len(ANSWERED) > 30
    assert any(it.server_tool for it in ALL)
