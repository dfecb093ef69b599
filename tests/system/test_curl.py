"""curl, as people try an endpoint out, on real llama-servers."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.legality import check
from tests.rig.llama import Pair
from tests.rig.router import RouterProcess, registry

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on the PATH")

MODEL = "tiny"
ASK = {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "Say hi."}]}


@pytest.fixture(scope="module")
def tiny(tiny_pair: Pair) -> Iterator[RouterProcess]:
    with RouterProcess(registry(tiny_pair, model=MODEL)) as process:
        process.wait_ready()
        yield process


def test_curl_makes_a_plain_call(tiny: RouterProcess) -> None:
    message = json.loads(curl("-H", "x-api-key: any", "-d", json.dumps(ASK), f"{tiny.url}/v1/messages").stdout)
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", MODEL)
    assert message["usage"]["output_tokens"] == 8


def test_curl_reads_a_stream_as_it_comes(tiny: RouterProcess) -> None:
    body = json.dumps({**ASK, "stream": True})
    answer = curl("-N", "-i", "-H", "x-api-key: any", "-d", body, f"{tiny.url}/v1/messages").stdout
    head, _, events = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\ncontent-type: text/event-stream" in head
    said = check(events)
    assert (said.error, said.stop_reason, said.usage["output_tokens"]) == (None, "max_tokens", 8)


def test_curl_sends_two_megabytes_after_it_was_told_to_continue(tiny: RouterProcess, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text(json.dumps({**ASK, "metadata": {"user_id": "x" * (2 << 20)}}))  # long for us, not for the model
    data = ("--data-binary", f"@{file}", f"{tiny.url}/v1/messages")
    answer = curl("-v", "-H", "Expect: 100-continue", "--expect100-timeout", "20", *data)
    assert json.loads(answer.stdout)["usage"]["output_tokens"] == 8
    said = [line for line in answer.stderr.decode(errors="replace").splitlines() if line.startswith("< HTTP/")]
    assert [line.split()[2] for line in said] == ["100", "200"]


def test_curl_gets_an_error_in_the_envelope_with_the_same_id_as_in_the_head(tiny: RouterProcess) -> None:
    answer = curl("-i", "-d", json.dumps({**ASK, "model": "no-such"}), f"{tiny.url}/v1/messages").stdout.decode()
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 404 ")
    error = json.loads(body)
    assert (error["type"], error["error"]["type"]) == ("error", "not_found_error")
    assert f"\r\nrequest-id: {error['request_id']}" in head


def test_curl_warms_up_with_a_head_request(tiny: RouterProcess) -> None:
    answer = curl("--head", f"{tiny.url}/").stdout
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


def curl(*words: str) -> subprocess.CompletedProcess[bytes]:
    """Run curl without the user's settings and proxies, and fail with its own words where it fails."""
    ended = subprocess.run(
        ["curl", "-q", "--noproxy", "*", "-sS", "--max-time", "60", "-H", "content-type: application/json", *words],
        capture_output=True, check=False, timeout=90,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    return ended
