import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid
from router.wire.passing import PassHead, decode_passing

steady = settings(derandomize=True, max_examples=300, deadline=None)


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b"{}", PassHead()),
        (b'{"input":["a",1],"model":"m"}', PassHead("m")),
        (b'{"model":null,"stream":null}', PassHead()),
        (b' {"stream":true,"prompt":"x"} ', PassHead(stream=True)),
    ],
)
def test_only_the_model_and_whether_it_streams_are_read(body: bytes, head: PassHead) -> None:
    assert head == decode_passing(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no body"),
        (b"{", "could not parse"),
        (b"\xff", "could not parse"),
        (b"[]", "must be a JSON object"),
        (b'"m"', "must be a JSON object"),
        (b'{"model":""}', "'model': empty string"),
        (b'{"model":5}', "'model'"),
        (b'{"stream":"yes"}', "'stream'"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_what_is_no_object_or_has_another_type_is_refused_in_openais_words(body: bytes, words: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        decode_passing(body)
    assert words in refused.value.message
    assert len(refused.value.message) < 500


@steady
@given(
    st.binary(max_size=80)
    | st.dictionaries(st.sampled_from(["model", "stream"]), st.text(max_size=4) | st.booleans() | st.none()).map(
        msgspec.json.encode
    )
)
def test_arbitrary_bytes_are_a_head_or_refused(body: bytes) -> None:
    try:
        head = decode_passing(body)
    except RequestInvalid:
        return
    assert head.model is None or head.model
    assert head.stream in (None, True, False)
