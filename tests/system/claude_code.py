"""Claude Code for tests: where it comes from, how it is run without a login, and a tiny model that can talk to it.

It is installed once, with npm, into the user's cache directory; remove the folder to get a newer one. Each run
is headless, in a home and a project folder of the test's own, and sees nothing of the user's settings.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy
import pytest
from gguf import GGUFReader, GGUFWriter

from router.demo.llama import LlamaSpec
from tests.rig.llama import tiny_spec
from tests.rig.tiny_gguf import tiny_model_path

PACKAGE = "@anthropic-ai/claude-code"
INSTALL_S, RUN_S = 300.0, 120.0

# Part of the cached model's name: count it up when anything below changes.
VERSION = 1
# Whatever it is asked, the model says this and ends its turn. The first is what stands before an answer.
SAYS = ("Ċ", "Hi", "Ġthere", ".", "<|im_end|>")
ANSWER = "Hi there."

# SmolLM2's own template leaves the tools out. Most models print them first, and so make of "say hi" what it is.
TEMPLATE = """\
{%- if tools %}{{ '<|im_start|>system\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\n' + (message['content'] or '') + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}
"""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What one headless run ended with. `result` is empty when it printed no JSON."""

    exit_status: int
    result: dict[str, Any]
    stderr: str


class ClaudeCode:
    """One user of Claude Code with one project: what it remembers of a conversation lies in `folder`."""

    def __init__(self, program: Path, folder: Path, router_url: str, model: str) -> None:
        self._program = program
        self._project = folder / "project"
        self._home = folder / "home"
        self._router_url, self._model = router_url, model
        self._project.mkdir()
        self._home.mkdir()

    def ask(self, prompt: str, *options: str) -> Said:
        """Run it once, to its end; `--continue` among the options goes on with the last conversation."""
        ended = subprocess.run(
            [self._program, "-p", prompt, "--output-format", "json", *options],
            env=self._environment(), cwd=self._project, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=RUN_S,
        )  # fmt: skip
        try:
            result = json.loads(ended.stdout)
        except ValueError:
            result = {}
        return Said(exit_status=ended.returncode, result=result, stderr=ended.stderr)

    def _environment(self) -> dict[str, str]:
        """All of it: nothing is inherited, so neither a login nor a proxy of the user's own."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "ANTHROPIC_BASE_URL": self._router_url,
            "ANTHROPIC_AUTH_TOKEN": "any",
            "ANTHROPIC_MODEL": self._model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",  # a failure is to be seen, not to be mended after minutes
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_TELEMETRY": "1",
        }


def claude_code_program() -> Path:
    """The program, installed on first use; the test is skipped, with the reason, where it cannot be had."""
    folder = _cache() / f"claude-code-{os.getuid()}"
    if not folder.exists():
        _install(folder)
    # npm leaves the native program in a package of its own for the machine that it runs on.
    programs = [path for path in folder.glob("node_modules/@anthropic-ai/claude-code-*/claude*") if path.is_file()]
    programs = [path for path in programs if os.access(path, os.X_OK)]
    if not programs:
        pytest.skip(f"{PACKAGE} has no program for this machine in {folder}")
    return programs[0]


def _install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"there is no npm on the PATH to install {PACKAGE} with")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        # The newest by name: left to itself, npm takes an older one that fits its own version of Node.
        options = ["--prefix", str(unfinished), "--ignore-scripts", "--no-audit", "--no-fund"]
        ended = subprocess.run(
            [npm, "install", f"{PACKAGE}@latest", *options],
            capture_output=True, text=True, check=False, timeout=INSTALL_S,
        )  # fmt: skip
        if ended.returncode != 0:
            pytest.skip(f"npm cannot get {PACKAGE}: {ended.stderr.strip()[-500:]}")
        with contextlib.suppress(OSError):  # another run of the tests was first
            unfinished.replace(folder)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not get {PACKAGE} within {INSTALL_S:g} s")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path(tempfile.gettempdir())) / "llama-router-tests"


# ------------------------------------------------------------------ a model that ends its turn
# Claude Code goes on asking until an answer ends by itself, which the tiny model's never do. SmolLM2 has room for
# its prompt only while its own template leaves the tools out, and reads that for a minute.


def polite_spec() -> LlamaSpec:
    """The tiny model's size and slots, but it says ANSWER and stops, under a template that prints tools."""
    return msgspec.structs.replace(tiny_spec(), model_path=polite_model_path(), alias="polite", chat_template=TEMPLATE)


def polite_model_path() -> str:
    """The path of the model, written on first use into the user's cache directory, atomically."""
    path = _cache() / f"polite-v{VERSION}-{os.getuid()}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        write_polite_model(unfinished, like=Path(tiny_model_path()))
        unfinished.replace(path)
    return str(path)


def write_polite_model(path: Path, *, like: Path) -> None:
    """Write a copy of the tiny model in which the last token alone decides the next one, by SAYS.

    Its blocks compute and cache as ever, but what they add to a token is multiplied by zero; an output matrix
    of its own, with a row for each token that it says, then finds the token before.
    """
    source = GGUFReader(like)
    writer = GGUFWriter(path, "llama")
    for name, field in source.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    for tensor in source.tensors:
        silent = tensor.name.endswith((".attn_output.weight", ".ffn_down.weight"))
        writer.add_tensor(tensor.name, numpy.zeros_like(tensor.data) if silent else tensor.data)
    embedding = next(tensor.data for tensor in source.tensors if tensor.name == "token_embd.weight")
    tokens = source.fields["tokenizer.ggml.tokens"].contents()
    writer.add_tensor("output.weight", _following(embedding, [tokens.index(token) for token in SAYS]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _following(embedding: Any, chain: list[int]) -> Any:
    """The output matrix that leads from each token of the chain to the next, by a margin that no sampler bridges."""
    output = numpy.zeros_like(embedding)
    for before, after in pairwise(chain):
        output[after] = 8 * embedding[before]
    return output
