"""Real llama-servers can be had, agree with what the scripted one imitates, and leave nothing behind."""

import subprocess
import sys

import httpx
import pytest

from router.demo.llama import answers_ok
from router.demo.process import StartError
from tests.rig.fake import FakeInstance
from tests.rig.llama import Pair
from tests.rig.router import registry
from tests.rig.start import StartLlama, assert_gone

ASK = {"model": "m", "max_tokens": 4, "temperature": 0, "messages": [{"role": "user", "content": "Say hi"}]}


def test_the_smollm2_pair_answers_with_two_slots_each(smollm2_pair: Pair) -> None:
    for server in smollm2_pair:
        props = httpx.get(f"{server.url}/props").json()
        assert (props["total_slots"], props["model_alias"]) == (2, "smollm2")
        answer = httpx.post(f"{server.url}/v1/messages", json=ASK, timeout=30).json()
        assert answer["content"][0]["text"]


def test_the_tiny_pair_has_four_slots_of_32k_and_reads_from_its_cache(tiny_pair: Pair) -> None:
    url = tiny_pair[0].url
    props = httpx.get(f"{url}/props").json()
    assert (props["total_slots"], props["default_generation_settings"]["n_ctx"]) == (4, 32_768)
    long = {**ASK, "messages": [{"role": "user", "content": "word " * 2000}]}
    httpx.post(f"{url}/v1/messages", json=long, timeout=60)
    again = httpx.post(f"{url}/v1/messages", json=long, timeout=60).json()["usage"]
    assert (again["input_tokens"], again["cache_read_input_tokens"] > 2000) == (1, True)


def test_a_real_stream_has_the_head_and_the_framing_that_the_scripted_one_imitates(tiny_pair: Pair) -> None:
    with FakeInstance() as fake:
        real, scripted = (
            httpx.post(f"{url}/v1/messages", json={**ASK, "stream": True}, timeout=30)
            for url in (tiny_pair[0].url, fake.url)
        )
    assert scripted.headers == real.headers
    names = [[line for line in answer.text.splitlines() if line.startswith("event: ")] for answer in (real, scripted)]
    assert names[0][:3] == names[1][:3]
    assert names[0][-3:] == names[1][-3:]


def test_one_of_our_own_can_be_suspended_resumed_and_restarted_on_its_port(start_llama: StartLlama) -> None:
    server = start_llama(slots=1)
    server.suspend()
    assert not answers_ok(server.spec.port, timeout_s=0.2)
    server.resume()
    assert answers_ok(server.spec.port, timeout_s=5)
    before, url = server.pid, server.url
    server.restart()
    assert (server.pid != before, server.url) == (True, url)


def test_one_that_cannot_start_says_why(start_llama: StartLlama) -> None:
    with pytest.raises(StartError, match=r"ended with code 1(.|\n)*failed to load model"):
        start_llama(model_path="/no/such.gguf")


@pytest.mark.parametrize("suspended", [False, True])
def test_a_server_dies_with_the_process_that_started_it(*, suspended: bool) -> None:
    program = f"""
import os
from tests.rig.llama import tiny_spec
from router.demo.llama import LlamaProcess
server = LlamaProcess(tiny_spec(slots=1, n_ctx_slot=512)).start()
server.wait_ready()
if {suspended}: server.suspend()
print(server.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    if suspended and sys.platform != "linux":
        pytest.skip("only Linux kills a stopped child with its parent")
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=60)
    assert_gone(int(ended.stdout))


def test_a_registry_text_lists_urls_things_with_urls_and_entries() -> None:
    fake = FakeInstance(port=1)
    text = registry(["http://a:1", fake, {"url": "http://b:2", "slots": 3}], poll={"every": "1s"})
    assert text.splitlines()[:1] == ["models:"]
    assert "- url: http://127.0.0.1:1\n" in text
    assert "slots: 3\n" in text
    assert text.endswith("poll:\n  every: 1s\n")
