"""Asking a running router: one place for its address, the key and what can go wrong."""

from typing import Any, Literal, TypeVar

import httpx
import msgspec

from router.wire.reading import read

DEADLINE_S = 10.0

T = TypeVar("T")


class NoAnswer(Exception):
    """A sentence for the person at the terminal."""


class Talk:
    """A router at an address. `key`: an admin key, needed from another machine only."""

    def __init__(self, url: str, *, key: str | None) -> None:
        self._url = (url if "://" in url else f"http://{url}").rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str, kind: type[T]) -> T:
        """Ask for a page.

        Raises:
            NoAnswer: nobody, or somebody else, is there, or the router refused.

        """
        return self._ask("GET", path, kind, None)

    def post(self, path: str, kind: type[T], body: dict[str, Any]) -> T:
        """Give an order; raises as `get` does."""
        return self._ask("POST", path, kind, body)

    def _ask(self, method: str, path: str, kind: type[T], body: dict[str, Any] | None) -> T:
        try:
            response = httpx.request(
                method, self._url + path, json=body, headers=self._headers, timeout=DEADLINE_S, trust_env=False,
                verify=self._url.startswith("https"),  # else it reads all certificates of the system for nothing
            )  # fmt: skip
        except (httpx.HTTPError, httpx.InvalidURL):
            raise NoAnswer(
                f"no router answers at {self._url}; is it running there? --router URL names another"
            ) from None
        try:
            if response.status_code == 200:
                return read(msgspec.json.Decoder(kind), response.content)
            said = read(msgspec.json.Decoder(_Envelope), response.content).error.message
        except msgspec.DecodeError:
            raise NoAnswer(f"{self._url} answers, but not as a router would; --router URL names another") from None
        raise NoAnswer(said)


class _Error(msgspec.Struct):
    message: str = ""


class _Envelope(msgspec.Struct):
    """Ours has a type; llama-server's, on the same paths, has none."""

    type: Literal["error"]
    error: _Error
