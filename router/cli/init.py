"""`init`: ask running llama-servers what they are, and write a first registry file."""

import asyncio
from collections.abc import Sequence
from typing import TextIO

import httpx
import msgspec

from router.config.address import derived_id, read_url
from router.config.starter import Server, Silent, read_server, registry_text

DEFAULT_URLS = tuple(f"http://127.0.0.1:{port}" for port in range(8080, 8091))
"""Where to look when no URL is given: llama-server's own port, and those that people count up to from it."""

_STEP_S = 2.0
_SERVER_S = 6.0


def run(
    urls: Sequence[str], *, out: TextIO, err: TextIO, api_key: str | None, api_key_env: str = "LLAMA_API_KEY"
) -> int:
    """Ask the servers at `urls`, all at once, and write a registry to `out`; 1 and no registry if none answered.

    `HOST:PORT` will do for a URL; without any, the ports 8080 to 8090 of this machine are tried. `err` gets
    one line for each. `api_key` is sent only to servers that refuse to answer without one, and never written:
    the file names the environment variable `api_key_env` (by default the one llama-server itself reads).
    """
    if api_key is not None and (not api_key or any(not "!" <= letter <= "~" for letter in api_key)):
        print(f"{api_key_env} is empty, or has a space or another character that no key has", file=err)
        return 1
    asked = _checked(urls, err) if urls else list(DEFAULT_URLS)
    if not urls:
        print("no URL given: trying 127.0.0.1, ports 8080 to 8090", file=err)
    answers = asyncio.run(_ask_all(asked, api_key, api_key_env))
    for answer in answers:
        print(f"{answer.url}: {_outcome(answer)}", file=err)
    if not any(isinstance(answer, Server) for answer in answers):
        print("no llama-server answered; start one, or give its URL: llama-router init HOST:PORT", file=err)
        return 1
    if not urls:
        answers = [answer for answer in answers if isinstance(answer, Server)]
    out.write(registry_text(answers))
    return 0


def _checked(urls: Sequence[str], err: TextIO) -> list[str]:
    """Make URLs of what was typed, each server once; what is none gets a line that does not repeat it."""
    by_id: dict[str, str] = {}
    for number, typed in enumerate(urls, start=1):
        try:
            url = read_url(typed if "://" in typed else f"http://{typed}")
        except ValueError as error:
            print(f"URL number {number} {error}", file=err)
            continue
        by_id.setdefault(derived_id(url), url)
    return list(by_id.values())


def _outcome(answer: Server | Silent) -> str:
    if isinstance(answer, Silent):
        return answer.reason
    names = ", ".join(model.name for model in answer.models)
    slots = f", {answer.slots} slots" if answer.slots is not None else ""
    return f"{names}{slots}" + (" (router mode)" if answer.router_mode else "")


async def _ask_all(urls: Sequence[str], api_key: str | None, variable: str) -> list[Server | Silent]:
    async with httpx.AsyncClient(timeout=_STEP_S, trust_env=False) as client:
        return list(await asyncio.gather(*(_ask(client, url, api_key, variable) for url in urls)))


async def _ask(client: httpx.AsyncClient, url: str, api_key: str | None, variable: str) -> Server | Silent:
    try:
        async with asyncio.timeout(_SERVER_S):
            return await _ask_server(client, url, api_key, variable)
    except (httpx.TimeoutException, TimeoutError):
        return Silent(url=url, reason="no answer in time")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Silent(url=url, reason=f"cannot be reached: {error or type(error).__name__}")


async def _ask_server(client: httpx.AsyncClient, url: str, api_key: str | None, variable: str) -> Server | Silent:
    headers: dict[str, str] = {}
    props = await client.get(f"{url}/props")
    if props.status_code in (401, 403):
        if api_key is None:
            return Silent(url=url, reason=f"needs a key; put it in {variable} and give --api-key-env {variable}")
        headers = {"authorization": f"Bearer {api_key}"}
        props = await client.get(f"{url}/props", headers=headers)
        if props.status_code in (401, 403):
            return Silent(url=url, reason=f"refuses the key in {variable}")
    if props.status_code == 503:
        return Silent(url=url, reason="is still loading its model; ask again when it is done")
    listing = await client.get(f"{url}/v1/models", headers=headers)
    if props.status_code != 200 and listing.status_code != 200:
        return Silent(url=url, reason=f"answers {props.status_code} on /props: not a llama-server")
    server = read_server(url, _decoded(props), _decoded(listing), key_variable=variable if headers else None)
    return server if server.models else Silent(url=url, reason="lists no model: not a llama-server?")


def _decoded(response: httpx.Response) -> object:
    """Return the body as plain values; None when it is no JSON or no success."""
    if response.status_code != 200:
        return None
    try:
        body: object = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return body
