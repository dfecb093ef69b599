"""Every SDK of Anthropic's that people use hears the same of both ways: newest, oldest still in use, and Node's."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.system.both_ways import (
    BEGUN,
    CITY_SCHEMA,
    CLOCK,
    ONE_CALL_EACH,
    PARIS,
    SUMS,
    THINKING,
    WAYS,
    WEATHER,
    Routers,
    both_ways,
    talking_spec,
    user,
)

MODEL = "smollm2"
CONTEXT = 8192
RUN_S = 120.0
HERE = Path(__file__).parent
# Where the Makefile puts what cannot be installed beside the newest one.
VENV = Path(sys.executable).parent.parent
OLD, NODE = VENV / "anthropic0", VENV / "node" / "node_modules"


class Sdk(msgspec.Struct, frozen=True):
    """How a client with this SDK is started; `env` is added to ours. `major`: of its version."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    major: int


def newest() -> Sdk:
    return Sdk((sys.executable, str(HERE / "sdk_client.py")), {}, 2)


def oldest() -> Sdk:
    if not OLD.exists():
        missing("the anthropic SDK of the 0.x kind is not there: make test installs it", must="CI" in os.environ)
    return Sdk((sys.executable, str(HERE / "sdk_client.py")), {"PYTHONPATH": str(OLD)}, 0)


def node() -> Sdk:
    if not NODE.exists():
        # Without npm nobody could have installed it.
        must = "CI" in os.environ and shutil.which("npm") is not None
        missing("the Node SDK of Anthropic is not there: make test installs it where there is npm", must=must)
    program = shutil.which("node")
    if program is None:
        pytest.skip("there is no node on the PATH")
    return Sdk((program, str(HERE / "sdk_client.cjs")), {"NODE_PATH": str(NODE)}, 1)


def missing(what: str, *, must: bool) -> None:
    (pytest.fail if must else pytest.skip)(what)


SDKS = {"newest": newest, "oldest": oldest, "node": node}


@pytest.fixture(scope="module")
def routers() -> Iterator[Routers]:
    with both_ways(talking_spec(), MODEL) as found:
        yield found


def ask(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 60, "messages": messages, **more}


CALL = ask([*ONE_CALL_EACH, PARIS], tools=[WEATHER, CLOCK])
FORCED = ask([PARIS], tools=[CLOCK, WEATHER], tool_choice={"type": "tool", "name": "get_weather"})
THINK = ask(SUMS, thinking=THINKING, max_tokens=1100)
SHAPED = ask([user("Talk to me of a city.")], output_config={"format": {"type": "json_schema", "schema": CITY_SCHEMA}})
STOPPED = ask(BEGUN, stop_sequences=["five"])
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"call {how}": (how, CALL) for how in ("plain", "streamed")},
    **{f"forced {how}": (how, FORCED) for how in ("plain", "streamed")},
    **{f"think {how}": (how, THINK) for how in ("plain", "streamed")},
    **{f"shaped {how}": (how, SHAPED) for how in ("plain", "streamed")},
    **{f"stopped {how}": (how, STOPPED) for how in ("plain", "streamed")},
    **{f"unknown {how}": (how, {**STOPPED, "model": "gpt-oss"}) for how in ("plain", "streamed")},
    **{f"long {how}": (how, ask([user("word " * 9000)])) for how in ("plain", "streamed")},
    **{f"picture {how}": (how, ask([user([PICTURE])])) for how in ("plain", "streamed")},
    "counted": ("counted", {name: CALL[name] for name in ("model", "messages", "tools")}),
    "listed": ("listed", {"limit": 1}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sdk", SDKS)
def test_an_sdk_hears_what_it_expects(routers: Routers, sdk: str, way: str) -> None:
    found = SDKS[sdk]()
    said = run(found, routers[way].watched_url)
    assert int(said["version"].partition(".")[0]) == found.major
    for how in ("plain", "streamed"):
        call, forced, thought = (said[f"{name} {how}"] for name in ("call", "forced", "think"))
        assert (call["kinds"], call["calls"]) == (["tool_use"], [["get_weather", {"city": "Paris"}]])
        assert (call["stop"], call["model"]) == (["tool_use", None], MODEL)
        assert call["prompt_tokens"] == said["counted"]["prompt_tokens"]
        assert (forced["stop"], [name for name, _ in forced["calls"]]) == (["tool_use", None], ["get_weather"])
        assert (thought["kinds"], thought["stop"]) == (["thinking", "text"], ["end_turn", None])
        assert thought["thinking"].startswith("The user asks for")
        assert set(json.loads(said[f"shaped {how}"]["text"])) == {"city", "big"}
        assert said[f"stopped {how}"]["stop"] == ["stop_sequence", "five"]
    assert said["call streamed"]["deltas"]["input_json_delta"] > 1
    assert said["think streamed"]["deltas"]["signature_delta"] == 1
    assert said["listed"] == {"ids": [MODEL]}
    refusals(said)


def refusals(said: Mapping[str, Any]) -> None:
    expected = {
        "unknown": ("NotFoundError", 404, "not_found_error", "'gpt-oss' is not served here"),
        "long": ("BadRequestError", 400, "invalid_request_error", f"tokens > {CONTEXT} maximum"),
        "picture": ("BadRequestError", 400, "invalid_request_error", "takes no images"),
    }
    for name, (kind, status, type_, words) in expected.items():
        for how in ("plain", "streamed"):
            told = said[f"{name} {how}"]
            assert (told["class"], told["status"], told["type"]) == (kind, status, type_)
            assert words in told["message"]
            assert told["has_request_id"]


def run(sdk: Sdk, url: str) -> dict[str, Any]:
    """Let a client do all the jobs, and return what it heard."""
    ended = subprocess.run(
        sdk.command,
        input=json.dumps({"url": url, "jobs": JOBS}),
        env={**os.environ, **sdk.env},
        capture_output=True, text=True, check=False, timeout=RUN_S,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
