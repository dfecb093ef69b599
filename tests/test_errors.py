import importlib
import pkgutil
import re
from collections.abc import Iterator

import msgspec
import pytest

import router
from router import errors
from router.edge.rescue import tell
from router.errors import NoInstance, Overloaded, RouterError, UpstreamAnswered, UpstreamFailed, UpstreamLoading

_LINE = re.compile(r"(?P<stem>[ │]*[├└]── )?(?P<name>\w+)(?: +\S.*?  +(?P<side>\w+) +(?P<told>\d{3}|exit 1|never))?")


class Drawn(msgspec.Struct, frozen=True):
    """A line of the tree in the docstring."""

    name: str
    parent: str | None
    side: str | None
    told: str | None


def drawn() -> Iterator[Drawn]:
    lines = [line[4:] for line in (errors.__doc__ or "").splitlines() if line.startswith("    ")]
    above: list[str] = []
    for line in lines:
        match = _LINE.fullmatch(line)
        assert match, line
        depth = len(match["stem"] or "") // 4
        del above[depth:]
        yield Drawn(match["name"], above[-1] if above else None, match["side"], match["told"])
        above.append(match["name"])


TREE = list(drawn())


def known() -> dict[str, type[RouterError]]:
    """Every error class of the router, wherever it is defined."""
    for module in pkgutil.walk_packages(router.__path__, "router."):
        if module.name != "router.__main__":
            importlib.import_module(module.name)
    found = {RouterError}
    grown = True
    while grown:
        more = {
            child for parent in found for child in parent.__subclasses__() if child.__module__.startswith("router.")
        }
        grown = not more <= found
        found |= more
    return {it.__name__: it for it in found}


KNOWN = known()


def made(kind: type[RouterError]) -> RouterError:
    if issubclass(kind, UpstreamAnswered):
        return kind("no", instance_id="i", status=500, retryable=False)
    if issubclass(kind, UpstreamFailed):
        return kind("no", instance_id="i")
    return kind("no", retry_after_s=5) if issubclass(kind, Overloaded) else kind("no")


def test_the_tree_that_is_drawn_is_the_tree() -> None:
    assert {name: kind.__bases__[0].__name__ for name, kind in KNOWN.items() if kind is not RouterError} == {
        line.name: line.parent for line in TREE if line.parent
    }


@pytest.mark.parametrize("line", [line for line in TREE if line.side], ids=lambda line: line.name)
def test_an_error_is_told_as_it_is_drawn(line: Drawn) -> None:
    kind = KNOWN[line.name]
    assert line.side == kind.side
    if line.told not in {"exit 1", "never"}:  # before there is anybody to tell; turned into another on its way
        assert line.told == str(tell(made(kind)).status)


def test_every_error_is_drawn_with_its_side_and_status_but_the_root() -> None:
    assert ["RouterError"] == [line.name for line in TREE if not (line.side and line.told)]


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("RouterError", "router_error"),
        ("NoInstance", "no_instance"),
        ("ModelNotFound", "model_not_found"),
        ("UpstreamTimedOut", "upstream_timed_out"),
    ],
)
def test_the_cause_is_the_name_in_snake_case(name: str, cause: str) -> None:
    assert cause == made(KNOWN[name]).cause


def test_every_cause_is_told_from_the_others() -> None:
    plain = [kind for kind in KNOWN.values() if kind.__name__ != "ConfigInvalid"]
    assert len(plain) == len({made(kind).cause for kind in plain})


@pytest.mark.parametrize(("asked_s", "told_s"), [(-1, 1), (0, 1), (1, 1), (5, 5), (30, 30), (31, 30), (4_000_000, 30)])
def test_nobody_is_sent_away_for_longer_than_half_a_minute(asked_s: int, told_s: int) -> None:
    assert told_s == Overloaded("no", retry_after_s=asked_s).retry_after_s
    assert told_s == NoInstance("no", retry_after_s=asked_s).retry_after_s


@pytest.mark.parametrize("retryable", [True, False])
def test_who_reads_an_instances_answer_says_whether_another_may_do_better(retryable: bool) -> None:
    error = UpstreamAnswered("no", instance_id="i", status=500, retryable=retryable)
    assert (retryable, "i", 500, "no") == (error.retryable, error.instance_id, error.status, str(error))
    assert (True, "instance") == (UpstreamLoading("no", instance_id="i").retryable, UpstreamLoading.side)


def test_what_the_client_has_to_mend_is_not_tried_again() -> None:
    # A key that has too much under way has nothing to mend: it has to wait.
    assert ["RateLimited"] == [kind.__name__ for kind in KNOWN.values() if kind.side == "client" and kind.retryable]
