"""From running llama-servers to a registry that serves them: `init`, `check` and `serve`, as people type them."""

import re
import subprocess
import sys
from pathlib import Path

import anthropic
import httpx
from anthropic.types import MessageParam

from router.demo.llama import free_port
from tests.rig.llama import Pair
from tests.rig.start import StartRouter


def test_what_init_writes_passes_check_and_serves_real_calls_on_every_instance(
    tiny_pair: Pair, start_router: StartRouter, tmp_path: Path
) -> None:
    first, second = tiny_pair
    written = llama_router("init", first.url, f"127.0.0.1:{second.spec.port}")  # as a URL, and as people type it
    assert written.stderr.splitlines() == [f"{server.url}: tiny, 4 slots" for server in tiny_pair]
    file = tmp_path / "router.yaml"
    file.write_text(written.stdout)
    checked = llama_router("check", str(file))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert {server.url for server in tiny_pair} == set(re.findall(r"http://127\.0\.0\.1:\d+", checked.stdout))

    router = start_router(written.stdout)
    for number in (1, 2):
        router.wait_logged(f"instance llama-{number}: unknown -> serving")
    with anthropic.Anthropic(base_url=router.url, api_key="any", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        hit = set()
        for number in range(16):
            prompt: list[MessageParam] = [{"role": "user", "content": f"conversation {number}"}]
            answer = client.messages.with_raw_response.create(model="tiny", max_tokens=2, messages=prompt)
            assert answer.parse().usage.output_tokens == 2
            hit.add(answer.headers["x-router-instance"])
    assert hit == {"llama-1", "llama-2"}
    assert httpx.get(f"{router.url}/readyz").json() == {"ready": True, "models_serving": 1}


def test_init_leaves_out_a_server_that_does_not_answer_and_says_so(tiny_pair: Pair, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    written = llama_router("init", tiny_pair[0].url, nobody)
    assert (written.returncode, f"{nobody}: cannot be reached" in written.stderr) == (0, True)
    file = tmp_path / "router.yaml"
    file.write_text(written.stdout)
    checked = llama_router("check", str(file))
    assert (checked.returncode, tiny_pair[0].url in checked.stdout, nobody in checked.stdout) == (0, True, False)


def llama_router(*words: str) -> subprocess.CompletedProcess[str]:
    """Run our command line to its end."""
    command = [sys.executable, "-m", "router", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
