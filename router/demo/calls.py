"""The calls that the demo makes to its own router, as any Messages API client would make them."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec

from router.demo.fleet import CLIENT_MODEL

TIMEOUT_S = 120.0


class _Delta(msgspec.Struct, frozen=True):
    text: str = ""


class _Fault(msgspec.Struct, frozen=True):
    message: str = ""


class _Event(msgspec.Struct, frozen=True):
    """What the demo reads of an event; the other kinds have neither."""

    delta: _Delta = _Delta()
    error: _Fault | None = None


def streamed(url: str, question: str, write: Callable[[str], None]) -> str:
    """Ask, hand each piece of the answer to `write` as it comes, and give the instance that answered.

    httpx.HTTPError when that fails, with the router's own message.
    """
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
        body = {**_body(question, 60), "stream": True}
        with client.stream("POST", f"{url}/v1/messages", json=body) as answer:
            if answer.is_error:
                answer.read()
            _raise_for_error(answer)
            for event in _events(answer):
                if event.error is not None:
                    raise httpx.RemoteProtocolError(event.error.message)
                write(event.delta.text)
            return _instance(answer)


def concurrently(url: str, count: int) -> list[str]:
    """Make this many plain calls at once; the instances that served them."""
    with (
        httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client,
        ThreadPoolExecutor(max_workers=count) as pool,
    ):

        def ask(number: int) -> str:
            answer = client.post(f"{url}/v1/messages", json=_body(f"Count to ten, {number} times.", 32))
            _raise_for_error(answer)
            return _instance(answer)

        return list(pool.map(ask, range(1, count + 1)))


def curl(url: str) -> str:
    """The same as a line for the shell."""
    body = json.dumps({**_body("What is a llama?", 60), "stream": True})
    return f"curl -N {url}/v1/messages -H 'content-type: application/json' -d '{body}'"


def _body(question: str, max_tokens: int) -> dict[str, object]:
    messages = [{"role": "user", "content": question}]
    return {"model": CLIENT_MODEL, "max_tokens": max_tokens, "messages": messages}


def _instance(answer: httpx.Response) -> str:
    return str(answer.headers.get("x-router-instance", "(not told)"))


def _raise_for_error(answer: httpx.Response) -> None:
    if answer.is_error:
        message = f"status {answer.status_code}: {answer.text.strip()}"
        raise httpx.HTTPStatusError(message, request=answer.request, response=answer)


def _events(answer: httpx.Response) -> Iterator[_Event]:
    for line in answer.iter_lines():
        if line.startswith("data:"):
            yield msgspec.json.decode(line.removeprefix("data:"), type=_Event)
