import io
import pathlib
import shutil
from collections.abc import Mapping

import certifi
import pytest

from router.cli import check

ROOT = pathlib.Path(__file__).parents[2]


def run(path: pathlib.Path, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    status = check.run(path, out=out, err=err, env=env or {})
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def registry(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "router.yaml"


def test_the_example_is_described(registry: pathlib.Path) -> None:
    status, out, err = run(ROOT / "config" / "router.example.yaml")
    assert (status, err) == (0, "")
    for line in (
        "listen     127.0.0.1:8000",
        "keys       none asked for, loopback only",
        "queue      at most 64 x slots waiting per model, 2m each",
        "  rig1-gpu0  http://rig1:8081      host rig1  gpu 0          slots from /props  key none",
        "  spare      http://10.0.0.7:8080  no host    gpu not known  slots 4            key none",
        "3 models, 4 instances: good",
    ):
        assert line in out.splitlines()


def test_everything_that_is_set_is_shown_but_keys_are_not(registry: pathlib.Path) -> None:
    registry.write_text(
        "listen: 0.0.0.0:9000\n"
        "keys_file: keys.yaml\n"
        "queue: {max_waiting: 0}\n"
        "cors: {origins: ['https://chat.example.org']}\n"
        "limits: {body: 1MiB}\n"
        "hosts: {rig1: {api_key: hunter2}}\n"
        "models:\n"
        "  m:\n"
        "    display_name: The M\n"
        "    aliases: ['claude-*', x]\n"
        "    defaults: {max_tokens: 100}\n"
        "    instances:\n"
        "      - {url: 'https://rig1', host: rig1, gpus: [0, 1], ca_file: ca.pem, model: big}\n"
        "      - {url: 'http://rig2:1', api_key: '${KEY}'}\n"
    )
    (registry.parent / "keys.yaml").write_text("keys: []\n")
    shutil.copy(certifi.where(), registry.parent / "ca.pem")
    status, out, err = run(registry, {"KEY": "hunter2"})
    assert (status, err) == (0, "")
    assert "hunter2" not in out
    assert out.count("key set") == 2
    for phrase in (
        "keys       keys.yaml",
        "queue      off, nobody waits",
        "cors       https://chat.example.org",
        "body 1MiB",
        'model m (shown as "The M"; also claude-*, x; max_tokens 100 unless asked)',
        "gpu 0,1",
        "ca ca.pem, asked for big",
        "1 model, 2 instances: good",
    ):
        assert phrase in out


def test_every_error_is_a_line_and_the_last_line_counts_them(registry: pathlib.Path) -> None:
    registry.write_text("models:\n  m: {instances: [{ulr: 'http://a:1'}]}\nlisten: 1\n")
    status, out, err = run(registry)
    assert (status, out) == (1, "")
    first, second, last = err.splitlines()
    assert first.startswith(f"{registry}:2:20: models.m.instances[0].ulr: unknown key")
    assert second.startswith(f"{registry}:3:9: listen: is not HOST:PORT")
    assert last == f"2 errors in {registry}"


def test_one_error_is_not_called_errors(registry: pathlib.Path) -> None:
    registry.write_text("")
    status, _, err = run(registry)
    assert status == 1
    assert err.endswith(f"1 error in {registry}\n")


def test_a_missing_file_is_a_clear_line(registry: pathlib.Path) -> None:
    status, out, err = run(registry)
    assert (status, out) == (1, "")
    assert err == f"{registry}: no such file; `llama-router init` writes a first one\n"


def test_a_folder_is_no_registry(tmp_path: pathlib.Path) -> None:
    status, _, err = run(tmp_path)
    assert status == 1
    assert "directory" in err
