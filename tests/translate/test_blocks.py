import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.translate.blocks import BlockWriter, BrokenAnswerError, ToolIds
from router.wire import signature
from tests.rig.legality import check
from tests.translate.native import STOP, start
from tests.translate.native import event as wire

steady = settings(derandomize=True, max_examples=200, deadline=None)
END = wire(
    "message_delta",
    delta={"stop_reason": "max_tokens", "stop_sequence": None},
    usage={"input_tokens": 1, "output_tokens": 1},
)


def test_what_is_written_is_read() -> None:
    writer = BlockWriter("msg_1")
    out = writer.open_thinking() + writer.write("hm") + writer.open_text() + writer.write('a "b"\n') + writer.write("ü")
    out += writer.open_tool("x", "Bash") + writer.write('{"a":') + writer.write("1}") + writer.close()
    said = check(start() + out + END + STOP)
    assert ("hm", 'a "b"\nü', [{"a": 1}]) == (said.thinking, said.text, [tool.input for tool in said.tools])
    assert (1, 2, "") == (writer.tools, writer.index, writer.kind)


def test_nothing_open_needs_no_closing() -> None:
    assert b"" == BlockWriter("msg_1").close()


def test_the_head_is_how_each_delta_begins() -> None:
    writer = BlockWriter("msg_1")
    assert b"" == writer.head
    writer.open_text()
    assert writer.write("x") == writer.head + b'"x"}}\n\n'
    writer.close()
    assert b"" == writer.head


def test_nothing_of_omitted_thinking_goes_out_but_its_seal() -> None:
    writer = BlockWriter("msg_1", omit_thinking=True)
    writer.open_thinking()
    assert (b"", b"", b"") == (writer.head, writer.write("h"), writer.write("m"))
    sealed = json.loads(writer.close().split(b"data: ")[1].partition(b"\n")[0])["delta"]["signature"]
    assert "hm" == signature.unseal(sealed)


def test_pieces_that_went_out_elsewhere_count_once_they_are_noted() -> None:
    writer = BlockWriter("msg_1")
    writer.open_tool("x", "Bash")
    writer.write("{")
    assert not writer.whole
    assert writer.pieces is not None
    writer.pieces.append("}")
    assert writer.whole


@pytest.mark.parametrize(
    "pieces", ["{", "[]", "null", "1", "{}}", " ", '{"a":\ud800}'.encode("utf-8", "replace").decode()]
)
def test_arguments_that_are_no_object_close_only_where_the_answer_was_cut(pieces: str) -> None:
    writer = BlockWriter("msg_1")
    writer.open_tool("x", "Bash")
    writer.write(pieces)
    with pytest.raises(BrokenAnswerError):
        writer.close()
    with pytest.raises(BrokenAnswerError):
        writer.open_text()
    assert writer.close(cut=True)


def test_another_kind_of_block_passes_as_it_is() -> None:
    writer = BlockWriter("msg_1")
    assert b'"content_block":{"type": "new"}}' in writer.open_other("new", msgspec.Raw(b'{"type": "new"}'))
    assert b"" == writer.head


def test_no_two_calls_have_the_same_id() -> None:
    ids = ToolIds("msg_7")
    assert ["toolu_a", "toolu_7_1", "toolu_7_2", "toolu_b", "toolu_7_4"] == [
        ids.take(one) for one in ("a", "a", None, "b", "")
    ]


def test_arguments_may_hold_numbers_that_no_float_can() -> None:
    writer = BlockWriter("msg_1")
    writer.open_tool("x", "Bash")
    writer.write('{"a":1e999}')
    assert writer.close()


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.text(st.characters(exclude_categories=["Cs"]), min_size=1)),
        st.tuples(st.just("thinking"), st.text(st.characters(exclude_categories=["Cs"]), min_size=1)),
        st.tuples(st.just("tool"), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2).map(json.dumps)),
    ),
    max_size=8,
)


@steady
@given(steps=_steps, omit=st.booleans(), ids=st.lists(st.text(max_size=4), min_size=8, max_size=8))
def test_whatever_is_written_is_legal(steps: list[tuple[str, str]], ids: list[str], *, omit: bool) -> None:
    writer = BlockWriter("msg_1", omit_thinking=omit)
    out = b""
    for (kind, piece), id_ in zip(steps, ids, strict=False):
        match kind:
            case "text":
                out += writer.open_text() + writer.write(piece)
            case "thinking":
                out += writer.open_thinking() + writer.write(piece)
            case _:
                out += writer.open_tool(id_, "Bash") + writer.write(piece[:2]) + writer.write(piece[2:])
    said = check(start() + out + writer.close() + END + STOP)
    assert said.text == "".join(piece for kind, piece in steps if kind == "text")
    assert [tool.input for tool in said.tools] == [json.loads(piece) for kind, piece in steps if kind == "tool"]
    assert len({tool.id for tool in said.tools}) == len(said.tools)
