"""An instance's error, turned into ours.

llama-server's own error body is flat or wrapped in "error", has its own type names, and uses 500 for some things that
are the client's doing (shared shapes: llama.cpp tools/server/server-common.cpp, format_error_response). OpenAI's has
words for a code, and nulls; a prompt that is too long is told by its text alone on most servers.
"""

import re

import msgspec

from router.errors import PromptTooLong, RequestInvalid, RouterError, UpstreamAnswered, UpstreamLoading
from router.wire.reading import read


class Fault(msgspec.Struct, frozen=True):
    """The fields of llama-server's error object; the last two only with `exceed_context_size_error`.

    `code`: the status that it would have had, in a stream there is no other; or OpenAI's word for the error.
    """

    message: str | None = ""
    type: str | None = ""
    code: int | str | None = 0
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class _Envelope(msgspec.Struct, frozen=True):
    error: Fault | str | None = None


_envelope_decoder = msgspec.json.Decoder(_Envelope, strict=False)
_flat_decoder = msgspec.json.Decoder(Fault, strict=False)

# Where in a schema something is wrong is what its author has to know, and it looks like a path: "JSON schema error at
# #/properties/x: unrecognized type". llama-server points from the root, so that a keyword is the first step.
_KEYWORDS = "|".join(
    [
        r"\$defs", "additionalProperties", "allOf", "anyOf", "components", "const", "definitions", "enum", "items",
        "maxItems", "maxLength", "minItems", "minLength", "not", "oneOf", "pattern", "patternProperties",
        "prefixItems", "properties", "required", "type",
    ]
)  # fmt: skip
# A path of the host, or a URL: both name things behind the router that are nobody's business in front of it. A path
# begins where a word does, so that "and/or" and "text/event-stream" stay. No part can match in two ways: long texts
# take no time.
_PRIVATE = re.compile(
    rf"""(?<![\w.+-])(?:
        (?P<pointer>\#/(?:{_KEYWORDS})(?![\w$~%@.+-])(?:/[\w$~%@][\w$~%@.+-]*)*)
        (?P<more>[/\\][^\s"'<>]*)?                      # what is no pointer any more
      | [a-zA-Z][a-zA-Z0-9+.-]{{0,20}}://[^\s"'<>]+      # a URL
      | (?:[a-zA-Z]:|~|\.{{1,2}})?[/\\][^\s"'<>]+        # an absolute path, or one from here, home or a drive
      | [\w.-]{{1,200}}\.gguf                            # a model file
    )""",
    re.VERBOSE,
)
_CLIENTS_DOING = re.compile(r"image input is not supported|audio input is not supported|failed to decode image", re.I)
# vLLM's and OpenAI's words. What follows may blame the prompt or max_tokens: the numbers tell.
_CONTEXT = re.compile(r"maximum context length is (\d{1,12}) tokens\D{1,200}(\d{1,12})(?: input)? tokens")
MAX_MESSAGE_CHARS = 2000


def read_fault(body: bytes) -> Fault:
    """Read an error body, wrapped or flat. What is not JSON becomes an empty fault, never an exception."""
    try:
        error = read(_envelope_decoder, body).error
        if isinstance(error, Fault):
            return error
        if isinstance(error, str):
            return Fault(message=error)
        return read(_flat_decoder, body)
    except msgspec.DecodeError:
        return Fault()


def scrub(text: str) -> str:
    """Take paths and URLs out of a text that an instance wrote, and bound its length. Pointers into a schema stay."""
    return _PRIVATE.sub(_kept, text[: 2 * MAX_MESSAGE_CHARS])[:MAX_MESSAGE_CHARS]


def _kept(found: re.Match[str]) -> str:
    pointer = found["pointer"]
    return "[...]" if pointer is None else f"{pointer}[...]" if found["more"] else pointer


# The hosted API's words for a state that passes, where an event in a stream names no status.
_CODES = {"overloaded_error": 529, "rate_limit_error": 429, "timeout_error": 504, "api_error": 500}


def to_error(status: int, fault: Fault, *, instance_id: str, retry_after_s: int | None = None) -> RouterError:
    """Turn an instance's error into ours.

    `status` 200: it came as an event inside a stream. `retry_after_s`: what its header says.
    """
    text = scrub(fault.message or "")
    if fault.type == "exceed_context_size_error" and fault.n_prompt_tokens and fault.n_ctx:
        # The words that Claude Code looks for before it compacts a conversation.
        return PromptTooLong(f"{fault.n_prompt_tokens} tokens > {fault.n_ctx} maximum")
    if told := _too_long(fault, text):
        return PromptTooLong(told)
    if (status == 503 or (status == 200 and fault.code == 503)) and (
        fault.type == "unavailable_error" or "loading" in text.lower()
    ):
        return UpstreamLoading(f"instance {instance_id} is loading its model", instance_id=instance_id)
    if status in {401, 403}:
        return UpstreamAnswered(
            f"instance {instance_id} refused the router's key; set its api_key in the registry",
            instance_id=instance_id, status=status, retryable=True,
        )  # fmt: skip
    meant = status if status != 200 else fault.code if isinstance(fault.code, int) else None
    meant = meant or _CODES.get(fault.type or "", 0)
    if fault.type == "invalid_request_error" or meant in {400, 413, 422} or _CLIENTS_DOING.search(text):
        return RequestInvalid(text or f"instance {instance_id} refused the request with status {status}")
    said = f": {text}" if text else ""
    return UpstreamAnswered(
        f"instance {instance_id} answered with status {status}{said}"
        if status != 200
        else f"instance {instance_id} broke the answer off{said}",
        instance_id=instance_id,
        status=meant or status,
        retry_after_s=retry_after_s,
        # 500 is llama-server's word for a request that it could not handle, and its twin would say the same.
        retryable=meant in {404, 429, 501, 502, 503, 504, 529},
    )


def _too_long(fault: Fault, text: str) -> str | None:
    """What to say of a prompt that an OpenAI-like server finds too long; None where it says something else."""
    if (told := _CONTEXT.search(text)) and int(told[2]) > int(told[1]):
        return f"{told[2]} tokens > {told[1]} maximum"
    if "context_length_exceeded" in {fault.code, fault.type}:
        return text
    return None
