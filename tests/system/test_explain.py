"""`explain` before real llama-servers: a turn of Claude Code goes where it said, and finds warm what it said."""

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from router.balance.mirror import near
from router.balance.policy import Place
from router.cli.explain import Options, run
from router.relay.explain import Explanation
from tests.captures.reading import HERE
from tests.rig.legality import check
from tests.rig.llama import Pair
from tests.rig.router import RouterProcess, registry

CAPTURE = HERE / "claude-code-2.1.330-multiturn.jsonl"  # three turns of one session, one on each line
MODEL = "claude-tiny"


@pytest.fixture
def router(tiny_pair: Pair) -> Iterator[RouterProcess]:
    # The tiny model's template shows no tools, and Claude Code brings some.
    listed = [{"id": f"real-{number}", "url": llama.url} for number, llama in enumerate(tiny_pair, 1)]
    model = {"aliases": ["claude-*"], "tools": "pass", "instances": listed}
    with RouterProcess(registry([], model="tiny", models={"tiny": model})) as process:
        process.wait_ready()
        yield process


def send(router: RouterProcess, line: int) -> tuple[httpx.Response, int, int]:
    """A turn as it was captured, with a short answer: the answer, its cached tokens, and those of its prompt."""
    entry = json.loads(CAPTURE.read_text().splitlines()[line - 1])
    headers = {name: value for name, value in entry["headers"] if name.lower().startswith(("x-claude", "anthropic"))}
    body = {**entry["body"], "model": MODEL, "max_tokens": 8}
    response = httpx.post(f"{router.url}/v1/messages", json=body, headers=headers, timeout=300, trust_env=False)
    assert response.status_code == 200, response.text
    usage: dict[str, Any] = dict(check(response.content).usage)
    cached = int(usage["cache_read_input_tokens"])
    return response, cached, cached + int(usage["input_tokens"])


def explain(router: RouterProcess, line: int) -> tuple[Explanation, str]:
    """As JSON, and as the page."""
    said = []
    for as_json in (True, False):
        out, err = io.StringIO(), io.StringIO()
        asked = Options(file=str(CAPTURE), line=line, model=MODEL, router=router.url, as_json=as_json)
        assert (0, "") == (run(asked, key=None, out=out, err=err), err.getvalue())
        said.append(out.getvalue())
    return msgspec.json.decode(said[0], type=Explanation), said[1]


def instance_of(router: RouterProcess, response: httpx.Response) -> str:
    router.wait_logged(response.headers["request-id"])
    (line,) = [line for line in router.log.splitlines() if response.headers["request-id"] in line]
    return str(json.loads(line)["instance_id"])


def test_a_turn_of_claude_code_goes_where_it_was_said_to_go_and_finds_warm_what_was_said(
    router: RouterProcess,
) -> None:
    cold, page = explain(router, 1)
    assert [0.0, 0.0] == [one.hit_tokens for one in cold.decision.ranking]
    assert "none of its prompt is warm there nor elsewhere" in page
    for line in (1, 2):
        response, _, _ = send(router, line)
        home = instance_of(router, response)
    told, page = explain(router, 3)
    assert Place(home) == told.decision.verdict
    best = told.decision.placed
    assert best is not None
    assert best.hit_tokens > 0.9 * best.prompt_tokens > 1000
    assert f"It would go to {home} now: {best.hit_tokens:,.0f} of {best.prompt_tokens:,.0f} prompt tokens" in page
    response, cached, prompt = send(router, 3)
    assert home == instance_of(router, response)
    assert abs(cached - best.hit_tokens) <= near(cached)
    assert abs(prompt - best.prompt_tokens) <= near(prompt)
