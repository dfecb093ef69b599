import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.launch import Place
from benchmarks.replay import fronts
from router.config.load import parse
from tests.rig.tiny_gguf import BLOCKS, HEADS, KV_HEADS, WIDTH


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(folder=tmp_path, port=21_000, spare_port=21_001, mocks=(21_002, 21_003))


@pytest.mark.parametrize("name", [name for name in fronts.known() if name.startswith(fronts.OURS)])
def test_our_registry_is_one_that_the_router_reads(place: Place, name: str) -> None:
    command = fronts.known(8)[name].command
    assert command is not None
    command(place)
    text = (place.folder / "router.yaml").read_bytes()
    parse(text, {})
    told = json.loads(text)
    policy = name.removeprefix(fronts.OURS + "-")
    assert told.get("placement", {"policy": "least"}) == {"policy": policy}


def test_the_bytes_of_a_token_are_those_of_the_tiny_model() -> None:
    keys_and_values = 2 * BLOCKS * (WIDTH // HEADS * KV_HEADS)
    assert fronts.BYTES_PER_TOKEN == 2 * keys_and_values


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="no HAProxy")
@pytest.mark.parametrize("name", ["haproxy-session-hash", "haproxy-leastconn"])
def test_haproxy_accepts_its_configuration(place: Place, name: str) -> None:
    command = fronts.known()[name].command
    assert command is not None
    command(place)
    path = place.folder / "haproxy.cfg"
    checked = subprocess.run(["haproxy", "-c", "-f", path], capture_output=True, text=True, timeout=20, check=False)
    assert checked.returncode == 0, checked.stderr
    assert ("maxconn 2" in path.read_text()) is (name == "haproxy-leastconn")
    assert ("hash-type consistent" in path.read_text()) is (name == "haproxy-session-hash")
