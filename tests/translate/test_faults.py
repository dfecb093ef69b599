import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import PromptTooLong, RequestInvalid, RouterError, UpstreamAnswered, UpstreamLoading
from router.translate.faults import MAX_MESSAGE_CHARS, Fault, read_fault, scrub, to_error

steady = settings(derandomize=True, max_examples=300, deadline=None)

TOO_LONG_TEXT = "request (9001 tokens) exceeds the available context size (4096 tokens), try increasing it"
TOO_LONG = Fault(
    message=TOO_LONG_TEXT,
    type="exceed_context_size_error",
    code=400,
    n_prompt_tokens=9001,
    n_ctx=4096,
)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"error":{"code":500,"message":"no","type":"server_error"}}', Fault("no", "server_error", 500)),
        (b'{"code":500,"message":"no","type":"server_error"}', Fault("no", "server_error", 500)),
        (b'{"type":"error","error":{"type":"api_error","message":"no"},"request_id":"r"}', Fault("no", "api_error")),
        (b'{"error":"proxy error: read"}', Fault("proxy error: read")),
        (b'{"error":{"message":"no","type":"server_error","param":null,"new":{}}}', Fault("no", "server_error")),
        (b'{"error":{"message":"no"}}', Fault("no")),
        (b'{"error":{"code":503}}', Fault(code=503)),
        # OpenAI's, and those that imitate it: nulls, and words for a code.
        (
            b'{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}',
            Fault("no", "invalid_request_error", None),
        ),
        (
            b'{"error":{"message":"no","type":null,"code":"insufficient_quota"}}',
            Fault("no", None, "insufficient_quota"),
        ),
        (
            b'{"object":"error","message":"no","type":"BadRequestError","param":null,"code":400}',
            Fault("no", "BadRequestError", 400),
        ),
        (b'{"error":null}', Fault()),
        (b"{}", Fault()),
        (b"[]", Fault()),
        (b"", Fault()),
        (b"proxy error: Connection handling canceled", Fault()),
        (b"<html>502 Bad Gateway</html>", Fault()),
        (b'{"error":{"message":"\xff"}}', Fault()),
        (
            b'{"error":{"code":400,"message":"%b","type":"exceed_context_size_error","n_prompt_tokens":9001,"n_ctx":4096}}'
            % TOO_LONG_TEXT.encode(),
            TOO_LONG,
        ),
    ],
)
def test_an_error_is_read_wrapped_or_flat(body: bytes, fault: Fault) -> None:
    assert fault == read_fault(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "type", "n_ctx", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@steady
@given(body=st.binary(max_size=200) | _json.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes_are_some_fault(body: bytes) -> None:
    assert isinstance(read_fault(body), Fault)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"error":{"x":%b}}' % (b"[" * 100_000 + b"]" * 100_000)])
def test_an_error_nested_without_measure_is_an_empty_fault(body: bytes) -> None:
    assert Fault() == read_fault(body)


NO = Fault("no")


@pytest.mark.parametrize(
    ("status", "fault", "kind", "retryable", "message"),
    [
        # What the client can put right.
        (400, TOO_LONG, PromptTooLong, False, "prompt is too long: 9001 tokens > 4096 maximum"),
        (500, TOO_LONG, PromptTooLong, False, "prompt is too long: 9001 tokens > 4096 maximum"),
        (200, TOO_LONG, PromptTooLong, False, "prompt is too long: 9001 tokens > 4096 maximum"),
        (400, Fault("too long", "exceed_context_size_error"), RequestInvalid, False, "too long"),
        (400, Fault("bad role", "invalid_request_error"), RequestInvalid, False, "bad role"),
        (200, Fault("bad role", "invalid_request_error"), RequestInvalid, False, "bad role"),
        (500, Fault("bad role", "invalid_request_error"), RequestInvalid, False, "bad role"),
        (400, NO, RequestInvalid, False, "no"),
        (413, NO, RequestInvalid, False, "no"),
        (422, NO, RequestInvalid, False, "no"),
        (400, Fault(), RequestInvalid, False, "instance i refused the request with status 400"),
        (
            500,
            Fault("image input is not supported - hint", "server_error"),
            RequestInvalid,
            False,
            "image input is not",
        ),
        (500, Fault("Failed to decode image", "server_error"), RequestInvalid, False, "Failed to decode image"),
        # A prompt that is too long, as OpenAI's server and its likes say it.
        (
            400,
            Fault(
                "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
                "invalid_request_error",
                "context_length_exceeded",
            ),
            PromptTooLong,
            False,
            "prompt is too long: 9000 tokens > 8192 maximum",
        ),
        (
            400,
            Fault(
                "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens.",
                "BadRequestError",
                400,
            ),
            PromptTooLong,
            False,
            "prompt is too long: 5000 tokens > 4096 maximum",
        ),
        (
            200,
            Fault("Too much.", None, "context_length_exceeded"),
            PromptTooLong,
            False,
            "prompt is too long: Too much.",
        ),
        (
            400,
            Fault(
                "max_tokens is too large: 9000. This model's maximum context length is 4096 tokens and your request "
                "has 11 input tokens (9000 > 4096 - 11).",
                "BadRequestError",
                400,
            ),
            RequestInvalid,
            False,
            "max_tokens is too large: 9000. This model's",
        ),
        (200, Fault("bad", "BadRequestError", 400), RequestInvalid, False, "bad"),
        (500, Fault(None, None, None), UpstreamAnswered, False, "instance i answered with status 500"),
        # What this instance cannot do, and another may.
        (503, Fault("Loading model", "unavailable_error"), UpstreamLoading, True, "instance i is loading its model"),
        (503, Fault("Loading model"), UpstreamLoading, True, "instance i is loading its model"),
        (401, Fault("Invalid API Key", "authentication_error"), UpstreamAnswered, True, "set its api_key"),
        (403, Fault("Invalid API Key", "permission_error"), UpstreamAnswered, True, "set its api_key"),
        (404, Fault("File Not Found", "not_found_error"), UpstreamAnswered, True, "status 404: File Not Found"),
        (429, NO, UpstreamAnswered, True, "instance i answered with status 429: no"),
        (501, Fault("off", "not_supported_error"), UpstreamAnswered, True, "instance i answered with status 501: off"),
        (502, Fault(), UpstreamAnswered, True, "instance i answered with status 502"),
        (503, Fault(), UpstreamAnswered, True, "instance i answered with status 503"),
        (504, Fault(), UpstreamAnswered, True, "instance i answered with status 504"),
        # What its twin would say too.
        (500, Fault("Compute error.", "server_error"), UpstreamAnswered, False, "status 500: Compute error."),
        (418, Fault(), UpstreamAnswered, False, "instance i answered with status 418"),
        (200, Fault("Compute error.", "server_error"), UpstreamAnswered, False, "broke the answer off: Compute error."),
        (200, Fault(), UpstreamAnswered, False, "instance i broke the answer off"),
        (200, Fault("Compute error.", "server_error", 500), UpstreamAnswered, False, "broke the answer off: Compute"),
        # In a stream the status of an error stands inside it.
        (
            200,
            Fault("Loading model", "unavailable_error", 503),
            UpstreamLoading,
            True,
            "instance i is loading its model",
        ),
        (200, Fault("off", "", 503), UpstreamAnswered, True, "broke the answer off: off"),
        (200, Fault("busy", "", 429), UpstreamAnswered, True, "broke the answer off: busy"),
        (500, Fault("Loading model", "unavailable_error", 503), UpstreamAnswered, False, "status 500: Loading model"),
    ],
)
def test_an_instances_error_becomes_ours(
    status: int, fault: Fault, kind: type[RouterError], retryable: bool, message: str
) -> None:
    error = to_error(status, fault, instance_id="i")
    assert (kind, retryable) == (type(error), error.retryable)
    assert message in error.message
    if isinstance(error, UpstreamAnswered):
        meant = fault.code if status == 200 and isinstance(fault.code, int) and fault.code else status
        assert ("i", meant) == (error.instance_id, error.status)


@pytest.mark.parametrize(
    "private",
    [
        "http://10.0.0.7:8081/v1/messages",
        "https://user:pw@rig1.example.org/x?key=1#f",
        "HTTP://RIG1",
        "file:///srv/models/qwen.gguf",
        "ws://[::1]:8080",
        "/srv/models/qwen.gguf",
        "/home/anna/.cache/llama.cpp/qwen-Q4_K_M.gguf",
        "/srv/größe/qwen.gguf",
        "/srv/models/",
        "//server/share/qwen.gguf",
        "/srv/a=b/qwen.gguf",
        "~/models/qwen.gguf",
        "./models/qwen.gguf",
        "../models/qwen.gguf",
        "/qwen.gguf",
        r"C:\models\qwen.gguf",
        # What begins as a pointer into a schema, and is none.
        "#/srv/models/qwen.gguf",
        "#/types/srv/qwen.gguf",
        "#/properties//srv/models/qwen.gguf",
        "#/properties/x/../../srv/models/qwen.gguf",
        "#/properties/x:/srv/models/qwen.gguf",
        r"#/properties/x\srv\models\qwen.gguf",
        "#/properties=/srv/models/qwen.gguf",
        "x#/items/srv/models/qwen.gguf",
    ],
)
def test_no_path_and_no_url_survives(private: str) -> None:
    for around in ("{}", "cannot open '{}'", "file={}, why: none", "({})", "at {}: no such file", "<{}>"):
        told = scrub(around.format(private))
        assert told.startswith(around.partition("{}")[0])
        for part in ("10.0.0.7", "rig1", "RIG1", "pw", "::1", "qwen", "models", "srv", "anna", "server", "share"):
            assert part not in told, told


_names = st.text("abcxyzäß019_-.@+", min_size=1, max_size=8).filter(lambda name: set(name) != {"."})
_paths = st.lists(_names, min_size=2, max_size=5).map(lambda names: "/" + "/".join(names))
_urls = st.builds(
    "{}://{}{}".format, st.sampled_from(["http", "https", "ws", "grpc+tls"]), _names, st.just("") | _paths
)


@steady
@given(
    private=_paths | _urls,
    before=st.sampled_from(["", "x ", "'", '"', "(", "=", ": "]),
    after=st.sampled_from(["", " x", "'", '"', "\n"]),
)
def test_a_path_or_url_of_any_shape_is_taken_out_whole(private: str, before: str, after: str) -> None:
    assert f"{before}[...]{after}" == scrub(f"{before}{private}{after}")


@pytest.mark.parametrize(
    "harmless",
    [
        "",
        "request (9001 tokens) exceeds the available context size (4096 tokens)",
        "either/or",
        "text/event-stream",
        "1/2 of 3/4",
        "a / b",
        "role must be one of system/user/assistant/tool",
        "n_ctx: 4096",
        "say 'hi'",
        # llama-server on a schema that it cannot follow.
        "JSON schema error at #/properties/x/type/0: unrecognized type strin",
        "JSON schema error at #/properties/x: cannot resolve $ref #/$defs/a~1b.c, $defs not found",
        "JSON schema error at #/items: schema must be an object",
        "(#/anyOf/0) '#/definitions/city'",
    ],
)
def test_plain_words_stay(harmless: str) -> None:
    assert harmless == scrub(harmless)


@steady
@given(text=st.text(max_size=100))
def test_scrubbing_twice_is_scrubbing_once(text: str) -> None:
    assert scrub(text) == scrub(scrub(text))


def test_a_long_text_is_cut() -> None:
    assert "x " * (MAX_MESSAGE_CHARS // 2) == scrub("x " * MAX_MESSAGE_CHARS)


@pytest.mark.parametrize("word", ["a", "aA9+/", "/a", "a/", "a.", "#/items", "#/items/a.", "#/items//"])
def test_a_text_without_measure_is_read_at_once(word: str) -> None:
    """An instance may put what it was sent into its error: a prompt, or a picture in base64."""
    text = word * (100_000 // len(word))
    begun_s = time.process_time()
    scrub(text)
    assert time.process_time() - begun_s < 0.2


@steady
@given(
    status=st.sampled_from([200, 400, 401, 404, 500, 503]),
    fault=st.builds(Fault, _paths | _urls, st.sampled_from(["", "server_error", "invalid_request_error"])),
)
def test_no_error_of_ours_repeats_a_path_or_url(status: int, fault: Fault) -> None:
    assert str(fault.message) not in to_error(status, fault, instance_id="i").message


@steady
@given(status=st.integers(100, 599), value=_json)
def test_any_error_of_an_instance_is_one_of_ours_with_a_message(status: int, value: Any) -> None:
    error = to_error(status, read_fault(json.dumps({"error": value}).encode()), instance_id="i")
    assert isinstance(error, RequestInvalid | UpstreamAnswered | UpstreamLoading)
    assert error.message
