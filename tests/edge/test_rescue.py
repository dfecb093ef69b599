"""The table from errors to statuses: whole, as documented, and kept on every way out."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import router.errors
from router.edge.rescue import headers_of, tell
from router.errors import (
    MethodNotAllowed,
    NoInstance,
    Overloaded,
    PromptTooLong,
    RouterError,
    UpstreamAnswered,
    UpstreamFailed,
)
from tests.rig import behave
from tests.test_app import Stage, answered, ask, eventually, refused

# Which type goes with which status in the Messages API.
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    431: "invalid_request_error",
    499: "api_error",
    500: "api_error",
    501: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def family(root: type[RouterError]) -> Iterator[type[RouterError]]:
    yield root
    for child in root.__subclasses__():
        yield from family(child)


def made(kind: type[RouterError]) -> RouterError:
    if issubclass(kind, UpstreamAnswered):
        return kind("words", instance_id="one", status=500, retryable=False)
    if issubclass(kind, UpstreamFailed):
        return kind("words", instance_id="one")
    if issubclass(kind, MethodNotAllowed):
        return kind("words", allow="POST")
    if issubclass(kind, Overloaded):
        return kind("words", retry_after_s=5)
    return kind("words")


def documented() -> dict[str, tuple[str, int | None]]:
    """Class -> (side, status), as drawn in the docstring of router.errors; None for one that is never told."""
    row = re.compile(r"[├└]── (\w+) .*? (client|router|instance) +(\d{3}|never)$", re.MULTILINE)
    rows = row.findall(router.errors.__doc__ or "")
    return {name: (side, None if status == "never" else int(status)) for name, side, status in rows}


@pytest.mark.parametrize("name", [name for name, (_, status) in documented().items() if status is not None])
def test_an_error_is_told_as_its_drawing_says(name: str) -> None:
    kind = getattr(router.errors, name)
    side, status = documented()[name]
    told = tell(made(kind))
    words = "prompt is too long: words" if kind is PromptTooLong else "words"
    assert (kind.side, told.status, told.type, told.message) == (side, status, TYPES[told.status], words)


@pytest.mark.parametrize(
    ("status", "told", "type_"),
    [
        (429, 429, "rate_limit_error"), (503, 503, "api_error"), (504, 504, "timeout_error"),
        (529, 529, "overloaded_error"), (500, 502, "api_error"), (401, 502, "api_error"), (200, 502, "api_error"),
    ],
)  # fmt: skip
def test_an_instance_that_says_wait_is_told_with_its_own_status(status: int, told: int, type_: str) -> None:
    error = UpstreamAnswered("words", instance_id="one", status=status, retryable=False, retry_after_s=7)
    assert (tell(error).status, tell(error).type) == (told, type_)
    assert headers_of(error) == {"retry-after": "7"}
    silent = UpstreamAnswered("words", instance_id="one", status=status, retryable=False)
    assert headers_of(silent) == {}


def test_every_error_of_the_tree_is_drawn() -> None:
    of_the_tree = {kind.__name__ for kind in family(RouterError) if kind.__module__ == "router.errors"}
    assert of_the_tree - {"RouterError"} == set(documented())


def test_every_error_that_the_program_may_raise_has_a_status_whose_type_clients_know() -> None:
    for kind in family(RouterError):
        if kind.__module__.startswith("router."):
            told = tell(made(kind)) if kind.__module__ == "router.errors" else tell(RouterError("words"))
            assert told.type == TYPES[told.status]


@pytest.mark.parametrize(("asked_s", "told"), [(-5, "1"), (0, "1"), (7, "7"), (3600, "30")])
def test_who_may_try_again_is_told_when_within_half_a_minute(asked_s: int, told: str) -> None:
    for kind in (Overloaded, NoInstance):
        assert headers_of(kind("words", retry_after_s=asked_s)) == {"retry-after": told}


# ---------------------------------------------------------------- from outside


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    queue = {"max_waiting": 1, "deadline": "400ms"}
    with Stage(instances=1, glass=True, fake={"slots": 1}, queue=queue) as stage:
        yield stage


def test_a_bug_of_ours_is_a_500_with_an_id_that_the_log_knows(stage: Stage) -> None:
    response = stage.http.get("/bug")
    message = refused(response, 500, "api_error")
    assert "secret" not in message
    stage.router.wait_logged("a fault of the router")
    assert response.headers["request-id"] in stage.router.log
    assert "Traceback" in stage.router.log
    answered(stage.post(ask("nonce:still")), "nonce:still")


def test_a_call_that_finds_no_room_is_told_so_and_when_to_come_back(stage: Stage) -> None:
    holding, waiting, refused_one = (stage.planned(behave.stall_before_head()) for _ in range(3))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(stage.post, ask(holding))
        _until(stage, busy=1)
        second = pool.submit(stage.post, ask(waiting))
        _until(stage, busy=1, waiting=1)
        response = stage.post(ask(refused_one))
        message = refused(response, 529, "overloaded_error")
        assert message == "every slot of test-model is taken and 1 calls wait already; try again later"
        assert response.headers["retry-after"] == "1"  # the call before this one was over at once
        response = second.result()
        assert "no slot of test-model came free within 0.4 s" in refused(response, 529, "overloaded_error")
        assert response.headers["retry-after"] == "1"
        stage.fakes[0].release()
        answered(first.result(), holding)
    assert stage.seen(waiting) == stage.seen(refused_one) == []


def _until(stage: Stage, *, busy: int, waiting: int = 0) -> None:
    def reached() -> bool:
        fleet = stage.fleet()
        return bool(fleet["instances"][0]["busy"] == busy and fleet["models"][0]["waiting"] == waiting)

    eventually(reached)
