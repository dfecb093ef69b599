"""The demo's registry is one that the router accepts, and half a fleet leaves nothing behind."""

import msgspec
import pytest

from router.config.load import parse
from router.demo.fleet import CLIENT_MODEL, MODEL, Fleet, registry
from router.demo.llama import LlamaProcess, LlamaSpec, free_port
from router.demo.process import StartError
from tests.rig.llama import need_llama
from tests.rig.start import assert_gone


def test_the_registry_names_every_instance_under_both_names() -> None:
    spec = LlamaSpec(model_path="m.gguf", alias=MODEL)
    llamas = {name: LlamaProcess(spec) for name in ("llama-1", "llama-2")}
    file = parse(msgspec.yaml.encode(registry(llamas)), {})
    assert [it.instance_id for it in file.models[MODEL].instances] == ["llama-1", "llama-2"]
    assert file.models[MODEL].aliases == (CLIENT_MODEL, "claude-*")
    assert file.models[MODEL].tools == "pass"  # Claude Code always sends some, and the model's template shows it none


def test_when_the_router_cannot_start_the_servers_are_stopped_again() -> None:
    need_llama()
    fleet = Fleet(port=free_port(), instances=1, say=lambda _: None)
    fleet.registry = fleet.registry.with_name("another.yaml")  # written there, but not what the router reads
    with pytest.raises(StartError, match="the router ended with code 1"), fleet:
        pass
    assert_gone(fleet.llamas["llama-1"].pid)
    assert not fleet.registry.parent.exists()
