"""The registry and its keys file, read as `serve` and `check` read them; and --listen over the file's own address."""

import hashlib
from pathlib import Path

import pytest

from router.cli.files import load, loader
from router.config.problem import ConfigInvalid

SUM = hashlib.sha256(b"sk-1").hexdigest()
KEYS = f"keys: [{{id: anna, sha256: {SUM}}}]\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "router.yaml")


def write(path: Path, *lines: str, url: str = "http://rig1:8080") -> Path:
    path.write_text("\n".join([f'models: {{m: {{instances: [{{url: "{url}"}}]}}}}', *lines, ""]))
    return path


def reason(error: pytest.ExceptionInfo[ConfigInvalid]) -> tuple[str, str]:
    (problem,) = error.value.problems
    return problem.file, problem.reason


def test_without_a_keys_file_nobody_is_asked_for_a_key(config: Path) -> None:
    file, keys = load(config, listen=None, env={})
    assert (["m"], None) == (list(file.models), keys)


def test_the_keys_file_stands_beside_the_registry_wherever_the_command_runs(config: Path) -> None:
    write(config, "keys_file: secret/keys.yaml")
    (config.parent / "secret").mkdir()
    (config.parent / "secret" / "keys.yaml").write_text(KEYS)
    _, keys = load(config, listen=None, env={})
    assert keys is not None
    assert ["anna"] == [key.id for key in keys]


def test_a_keys_file_elsewhere_is_named_with_its_whole_path(config: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keys.yaml").write_text("keys: []\n")
    write(config, f"keys_file: {elsewhere / 'keys.yaml'}")
    assert () == load(config, listen=None, env={})[1]


def test_what_the_registry_takes_from_the_environment_is_given_to_it(config: Path) -> None:
    config.write_text('models: {m: {instances: [{url: "http://rig1:8080", api_key: "${INNER}"}]}}\n')
    file, _ = load(config, listen=None, env={"INNER": "sk-inner"})
    assert ["sk-inner"] == [entry.api_key for entry in file.models["m"].instances]


@pytest.mark.parametrize("missing", ["router.yaml", "keys.yaml"])
def test_a_file_that_is_not_there_is_named_by_the_error(config: Path, missing: str) -> None:
    write(config, "keys_file: keys.yaml")
    (config.parent / "keys.yaml").write_text(KEYS)
    (config.parent / missing).unlink()
    with pytest.raises(FileNotFoundError) as error:
        load(config, listen=None, env={})
    assert str(config.parent / missing) == str(error.value.filename)


def test_a_problem_is_told_with_the_file_that_has_it(config: Path) -> None:
    write(config, "keys_file: keys.yaml")
    keys = config.parent / "keys.yaml"
    keys.write_text("keys: [{id: anna}]\n")
    with pytest.raises(ConfigInvalid) as error:
        load(config, listen=None, env={})
    assert str(keys) == reason(error)[0]
    write(config, "liste: 8000")
    with pytest.raises(ConfigInvalid) as error:
        load(config, listen=None, env={})
    assert str(config) == reason(error)[0]


# ---------------------------------------------------------------- --listen


@pytest.mark.parametrize("listen", ["127.0.0.1:9000", "localhost:9000", "[::1]:9000"])
def test_listen_wins_over_the_file(config: Path, listen: str) -> None:
    write(config, "listen: 127.0.0.1:8123")
    assert listen == load(config, listen=listen, env={})[0].listen
    assert "127.0.0.1:8123" == load(config, listen=None, env={})[0].listen


def test_listen_for_other_machines_needs_a_keys_file(config: Path) -> None:
    with pytest.raises(ConfigInvalid) as error:
        load(config, listen="0.0.0.0:9000", env={})
    file, words = reason(error)
    assert "--listen" == file
    assert "keys_file" in words
    write(config, "keys_file: keys.yaml")
    (config.parent / "keys.yaml").write_text(KEYS)
    assert "0.0.0.0:9000" == load(config, listen="0.0.0.0:9000", env={})[0].listen


@pytest.mark.parametrize("listen", ["", "9000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:many", "127.0.0.1:70000"])
def test_listen_that_is_no_address_is_told_as_such(config: Path, listen: str) -> None:
    with pytest.raises(ConfigInvalid) as error:
        load(config, listen=listen, env={})
    assert "--listen" == reason(error)[0]


# ---------------------------------------------------------------- read again


def test_whoever_reads_again_later_sees_the_files_as_they_are_then(config: Path) -> None:
    read_again = loader(config, listen="127.0.0.1:9000", env={})
    before = read_again()
    write(config, "keys_file: keys.yaml", "listen: 127.0.0.1:8123", url="http://rig2:8080")
    (config.parent / "keys.yaml").write_text(KEYS)
    file, keys = read_again()
    assert ("http://rig1:8080", None) == (before[0].models["m"].instances[0].url, before[1])
    assert ("http://rig2:8080", "127.0.0.1:9000") == (file.models["m"].instances[0].url, file.listen)
    assert keys is not None
