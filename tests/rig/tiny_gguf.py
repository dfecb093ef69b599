"""A tiny model with a long context, written by us: real llama-server work at a thousandth of the cost.

Two blocks of width 64 with seeded random weights under SmolLM2's tokenizer and chat template; about 8 MB.
What it says means nothing (newlines, mostly), but prompts are tokenised, computed and cached as ever.
"""

import os
import tempfile
from pathlib import Path

import gguf
import numpy
from gguf import GGUFReader, GGUFWriter

from router.demo.llama import smollm2_path

# Part of the cached file's name: count it up when anything below changes.
VERSION = 1
BLOCKS, WIDTH, HEADS, KV_HEADS, FEED_FORWARD = 2, 64, 4, 2, 128
CONTEXT = 131_072
SEED = 20_260_801


def tiny_model_path() -> str:
    """The path of the model, written on first use into the user's cache directory, atomically."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path(tempfile.gettempdir())) / "llama-router-tests"
    path = folder / f"tiny-v{VERSION}-{os.getuid()}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        write_tiny_model(unfinished, tokenizer_from=Path(smollm2_path()))
        unfinished.replace(path)
    return str(path)


def write_tiny_model(path: Path, *, tokenizer_from: Path) -> None:
    source = GGUFReader(tokenizer_from)
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(BLOCKS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    vocabulary = _copy_tokenizer(source, writer)
    _add_weights(writer, vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copy_tokenizer(source: GGUFReader, writer: GGUFWriter) -> int:
    """Copy every tokenizer.* field, the chat template among them; the number of tokens."""
    for name, field in source.fields.items():
        if name.startswith("tokenizer."):
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    tokens = source.fields["tokenizer.ggml.tokens"].contents()
    return len(tokens)


def _add_weights(writer: GGUFWriter, vocabulary: int) -> None:
    dice = numpy.random.default_rng(SEED)
    kv_width = WIDTH // HEADS * KV_HEADS

    def add(name: str, *shape: int) -> None:
        spread = 1.0 / numpy.sqrt(shape[-1])
        writer.add_tensor(f"{name}.weight", (dice.standard_normal(shape) * spread).astype(numpy.float16))

    def add_norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", numpy.ones(WIDTH, dtype=numpy.float32))

    add("token_embd", vocabulary, WIDTH)  # also the output matrix
    add_norm("output_norm")
    for block in range(BLOCKS):
        add_norm(f"blk.{block}.attn_norm")
        add(f"blk.{block}.attn_q", WIDTH, WIDTH)
        add(f"blk.{block}.attn_k", kv_width, WIDTH)
        add(f"blk.{block}.attn_v", kv_width, WIDTH)
        add(f"blk.{block}.attn_output", WIDTH, WIDTH)
        add_norm(f"blk.{block}.ffn_norm")
        add(f"blk.{block}.ffn_gate", FEED_FORWARD, WIDTH)
        add(f"blk.{block}.ffn_up", FEED_FORWARD, WIDTH)
        add(f"blk.{block}.ffn_down", WIDTH, FEED_FORWARD)
