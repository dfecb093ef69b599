"""The command line from outside: help, version, and what is said to a slip of the fingers."""

import subprocess
import sys

import pytest

from router import __version__
from router.cli import main

COMMANDS = ["serve", "check", "init", "status", "drain", "resume", "reload", "explain", "simulate", "demo"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "router", *arguments], capture_output=True, text=True, timeout=20, check=False
    )


def test_the_module_and_its_command_are_the_same() -> None:
    ran = run("--version")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"llama-router {__version__}\n", "")


def test_help_names_every_command_and_gives_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n    {command} " in told
    assert "llama-router serve --config router.yaml" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_of_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"llama-router {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["serv"], "invalid choice: 'serv'"),
        (["serve", "--port", "1"], "unrecognized arguments"),
        (["status", "--router"], "expected one argument"),
        (["drain"], "INSTANCE|HOST"),
        (["reload", "gpu1"], "unrecognized arguments"),
        (["explain"], "REQUEST.json"),
        (["explain", "-", "--line", "0"], "must be a number from 1"),
        (["demo", "--port", "many"], "must be a number"),
    ],
)
def test_a_slip_is_told_on_stderr_with_status_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    told = capsys.readouterr()
    assert words in told.err
    assert told.out == ""


def test_help_and_check_start_without_the_server() -> None:
    code = "import sys; from router.cli import main; main(['check', 'nowhere.yaml']); print('uvicorn' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert ran.stdout.splitlines()[-1:] == ["False"], ran.stderr
