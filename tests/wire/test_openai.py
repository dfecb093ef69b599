from pathlib import Path

import msgspec
import pytest

from router.wire.openai import (
    Chunk,
    ChunkChoice,
    Delta,
    FunctionPart,
    Verbose,
    arguments_text,
    chunk_decoder,
    completion_decoder,
    first_of,
    stop_word,
)

CAPTURES = Path(__file__).parent.parent / "captures" / "chat"


def chunks(name: str) -> list[Chunk]:
    lines = (CAPTURES / name).read_bytes().split(b"\n\n")
    return [chunk_decoder.decode(line[6:]) for line in lines if line.startswith(b"data: {")]


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.sse")), ids=lambda path: path.stem)
def test_every_chunk_of_a_real_server_is_read(path: Path) -> None:
    read = chunks(path.name)
    progress = [it.prompt_progress for it in read if it.prompt_progress]
    assert all(it.total > it.cache >= 0 for it in progress)
    assert progress
    if path.stem != "error":
        assert read[-1].usage
        assert read[-1].timings
        assert () == read[-1].choices
        assert read[-1].usage.prompt_tokens == progress[-1].total
    else:
        assert b'"code"' in bytes(read[-1].error)


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.json")), ids=lambda path: path.stem)
def test_every_completion_of_a_real_server_is_read(path: Path) -> None:
    completion = completion_decoder.decode(path.read_bytes())
    first = first_of(completion.choices)
    assert first
    assert first.finish_reason
    assert completion.usage


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{}", Chunk()),
        ('{"choices":null,"usage":null,"error":null,"new":[{}]}', Chunk()),
        ('{"choices":[]}', Chunk(choices=())),
        ('{"choices":[{"index":2,"delta":null,"logprobs":{}}]}', Chunk(choices=(ChunkChoice(2),))),
        (
            '{"choices":[{"delta":{"content":null,"tool_calls":null,"function_call":null,"reasoning":"r"}}]}',
            Chunk(choices=(ChunkChoice(delta=Delta(reasoning="r")),)),
        ),
        ('{"__verbose":{"stop_type":"word","stopping_word":"."}}', Chunk(verbose=Verbose("word", "."))),
    ],
)
def test_what_servers_leave_out_or_add_is_tolerated(body: str, expected: Chunk) -> None:
    assert expected == chunk_decoder.decode(body)


@pytest.mark.parametrize("body", ["[]", "7", '{"choices":{}}', '{"choices":[{"delta":{"content":["a"]}}]}'])
def test_other_shapes_are_refused(body: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        chunk_decoder.decode(body)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (b"null", ""),
        (b'""', ""),
        (rb'"{\"x\""', '{"x"'),
        (b'{"x": [1, 2.50]}', '{"x":[1, 2.50]}'),
        (b'{"x":"\xff"}', '{"x":"\ufffd"}'),
    ],
)
def test_arguments_are_json_text(given: bytes, text: str) -> None:
    assert text == arguments_text(msgspec.json.decode(b'{"arguments":%b}' % given, type=FunctionPart))


@pytest.mark.parametrize(
    ("choice", "verbose", "word"),
    [
        (ChunkChoice(), None, None),
        (ChunkChoice(stop_reason="END"), None, "END"),
        (ChunkChoice(matched_stop="END"), None, "END"),
        (ChunkChoice(stop_reason=151645, matched_stop=[1]), None, None),
        (ChunkChoice(), Verbose("word", "."), "."),
        (ChunkChoice(), Verbose("eos", ""), None),
    ],
)
def test_the_stop_word_is_read_wherever_a_server_puts_it(
    choice: ChunkChoice, verbose: Verbose | None, word: str | None
) -> None:
    assert word == stop_word(choice, verbose)


def test_without_choices_there_is_no_first() -> None:
    assert None is first_of(())
