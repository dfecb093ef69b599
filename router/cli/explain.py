"""`llama-router explain`: what a running router would do with a request, as a table, and nothing sent."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from router.cli.explained import render
from router.cli.talk import NoAnswer, Talk
from router.relay.explain import Explanation
from router.relay.headers import for_instance
from router.wire.reading import read


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says. `file` "-": standard input. `line`: of a capture, from 1; None: it has but one.

    `session`, `model`: instead of what the request says; None: as it is.
    """

    file: str
    line: int | None = None
    chat: bool = False
    session: str | None = None
    model: str | None = None
    router: str = "http://127.0.0.1:8000"
    as_json: bool = False


class Unreadable(Exception):
    """A file that holds no request; a sentence for the person at the terminal."""


class _Wrapped(msgspec.Struct):
    """A request with its path and headers, as a line of a capture has it."""

    body: dict[str, Any] | None
    path: str | None = None
    headers: list[tuple[str, str]] | dict[str, str] = []


_any, _wrapped = msgspec.json.Decoder(dict[str, Any]), msgspec.json.Decoder(_Wrapped)


def options(arguments: Namespace) -> Options:
    """Take them from the parsed command line."""
    return Options(
        file=arguments.file,
        line=arguments.line,
        chat=arguments.chat,
        session=arguments.session,
        model=arguments.model,
        router=arguments.router,
        as_json=arguments.json,
    )


def run(options: Options, *, key: str | None, out: TextIO, err: TextIO) -> int:
    """Ask and print. 1: the file holds no request, nobody answers, or the call itself would be refused as it is."""
    try:
        asking = question(options)
        told = Talk(options.router, key=key).post("/admin/explain", Explanation, asking)
    except (Unreadable, NoAnswer) as error:
        print(error, file=err)
        return 1
    if options.as_json:
        print(msgspec.json.format(msgspec.json.encode(told)).decode(), file=out)
    else:
        print(render(told), file=out)
    return 0


def question(options: Options) -> dict[str, Any]:
    """Make the body of /admin/explain.

    Raises:
        Unreadable: with the file, the reason and what to do.

    """
    name = "standard input" if options.file == "-" else options.file
    try:
        data = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise Unreadable(f"{name}: {reason}; name a file with a request in JSON, or - for standard input") from None
    found, name = _request(data, options.line, name)
    path = found.path or ("/v1/chat/completions" if options.chat else "/v1/messages")
    headers = _passing(found.headers)
    if options.session is not None:
        headers["x-claude-code-session-id"] = options.session  # of all that name a session the one that counts most
    body = found.body or {}
    if options.model is not None:
        body = {**body, "model": options.model}
    return {"path": path, "headers": headers, "body": body}


def _request(data: bytes, line: int | None, name: str) -> tuple[_Wrapped, str]:
    """The request, whether it is all of the file or one line of it; and what to call it."""
    if line is None:
        try:
            return _unwrapped(data, name), name
        except Unreadable:
            lines = [number for number, text in enumerate(data.splitlines(), 1) if _holds(text)]
            if not lines or len(data.splitlines()) == 1:
                raise
            if len(lines) > 1:
                these = ", ".join(map(str, lines[:12])) + (", ..." if len(lines) > 12 else "")
                raise Unreadable(f"{name}: it holds several requests; choose one with --line: {these}") from None
            line = lines[0]
    texts = data.splitlines()
    if not 1 <= line <= len(texts):
        raise Unreadable(f"{name}: it has {len(texts)} lines, and no line {line}; choose another with --line")
    name = f"{name}, line {line}"
    return _unwrapped(texts[line - 1], name), name


def _unwrapped(data: bytes, name: str) -> _Wrapped:
    try:
        fields = read(_any, data)
        if "body" not in fields:
            return _Wrapped(body=fields)
        found = read(_wrapped, data)
    except msgspec.ValidationError as error:
        raise Unreadable(f"{name}: it holds no request: {error}; it must be one JSON object") from None
    except msgspec.DecodeError as error:
        raise Unreadable(
            f"{name}: it is not JSON: {error}; give one request, or a capture with one on each line"
        ) from None
    if not found.body:
        raise Unreadable(f"{name}: that request has no body; choose one that has, with --line")
    return found


def _holds(text: bytes) -> bool:
    try:
        _unwrapped(text, "")
    except Unreadable:
        return False
    return True


def _passing(headers: Sequence[tuple[str, str]] | dict[str, str]) -> dict[str, str]:
    """Without what is a secret of the client's: a capture may hold its key."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    kept = for_instance([(name.lower().encode(), value.encode()) for name, value in pairs])
    return {name.decode(): value.decode() for name, value in kept}
