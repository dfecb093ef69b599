"""The model's own vocabulary, from which the filler takes its words."""

from gguf import GGUFReader

from benchmarks.replay.filler import vocabulary
from tests.rig.tiny_gguf import tiny_model_path


def words() -> list[str]:
    """Return words that are one token each for the tiny model. Takes seconds: the file tells of 49,000 tokens."""
    reader = GGUFReader(tiny_model_path())
    return vocabulary(str(token) for token in reader.fields["tokenizer.ggml.tokens"].contents())
