"""What the real openai SDK makes of bytes: the client that an answer has to please."""

from typing import Any

import httpx2
import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk


def _client(content: bytes, content_type: str, status: int = 200) -> openai.OpenAI:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": content_type}, content=content)

    transport = httpx2.MockTransport(answer)
    return openai.OpenAI(
        api_key="k", base_url="http://router", max_retries=0, http_client=httpx2.Client(transport=transport)
    )


def sdk_chunks(raw: bytes) -> list[ChatCompletionChunk]:
    """Read a stream; raises openai.APIError for one that ends with an error."""
    client: Any = _client(raw, "text/event-stream")
    return list(client.chat.completions.create(model="m", messages=[], stream=True))


def sdk_completion(body: bytes, status: int = 200) -> ChatCompletion:
    """Read a plain answer; raises what the SDK makes of an error status."""
    found: ChatCompletion = _client(body, "application/json", status).chat.completions.create(model="m", messages=[])
    return found


def sdk_said(chunks: list[ChatCompletionChunk]) -> tuple[str, list[tuple[str, str]], str | None]:
    """The text, the calls as name and arguments, and the finish reason, put together as an agent does."""
    text, calls, finish = "", list[list[str]](), None
    for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                assert call.function is not None
                if call.index == len(calls):
                    calls.append([call.function.name or "", ""])
                calls[call.index][1] += call.function.arguments or ""
            finish = choice.finish_reason or finish
    return text, [(name, arguments) for name, arguments in calls], finish
