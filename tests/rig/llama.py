"""Real llama-servers for tests: which ones, and what happens where they cannot run."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from router.demo.llama import LlamaProcess, LlamaSpec, smollm2_path
from tests.rig.tiny_gguf import tiny_model_path

Pair = tuple[LlamaProcess, LlamaProcess]
READY_S = 60.0


def smollm2_spec(*, slots: int = 2, cache_ram_mib: int = 0) -> LlamaSpec:
    """SmolLM2-135M: says something sensible, 8,192 tokens of context a slot, 350 MB, ready in a second."""
    return LlamaSpec(
        model_path=smollm2_path(),
        alias="smollm2",
        slots=slots,
        n_ctx=8192 * slots,
        cache_ram_mib=cache_ram_mib,
    )


def tiny_spec(*, slots: int = 4, n_ctx_slot: int = 32_768, cache_ram_mib: int = 0) -> LlamaSpec:
    """The tiny model: says nonsense, 32k tokens a slot, split KV; reads 15,000 tokens in 2 to 5 seconds."""
    return LlamaSpec(
        model_path=tiny_model_path(),
        alias="tiny",
        slots=slots,
        n_ctx=n_ctx_slot * slots,
        cache_ram_mib=cache_ram_mib,
    )


def need_llama() -> None:
    """Skip at home, fail in CI, where llama.cpp's server is not installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("llama.cpp's server is missing: pip install -e '.[demo]' (make test does it)")


def running_pair(spec: LlamaSpec) -> Iterator[Pair]:
    """Two servers of this kind, both ready; stopped afterwards."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(LlamaProcess(spec)) for _ in range(2))
        first.wait_ready(READY_S)
        second.wait_ready(READY_S)
        yield first, second
