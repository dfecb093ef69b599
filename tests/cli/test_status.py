"""`status`: two tables for people, or one sentence."""

import io
import re
from collections.abc import Iterator

import pytest

from router.cli.status import render, run
from router.edge.admin import FleetStatus, InstanceStatus, PoolStatus
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.test_app import Stage, Wire, as_bytes, ask, eventually


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    models = {"gone-model": {"instances": [{"url": "http://127.0.0.1:9", "id": "gone"}]}}
    with Stage(fake={"slots": 1, "n_ctx": 131072}, entry={"host": "rig1"}, models=models) as stage:
        yield stage


def asked(url: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return run(url, key=None, out=out, err=err), out.getvalue(), err.getvalue()


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line)


def test_the_fleet_is_shown_as_two_tables(stage: Stage) -> None:
    status, out, err = asked(stage.router.url)
    assert (status, err) == (0, "")
    assert [cells(line) for line in out.splitlines()] == [
        ["INSTANCE", "HOST", "STATE", "BUSY", "CONTEXT", "MODELS"],
        ["one", "rig1", "serving", "0/1", "131,072", "test-model"],
        ["two", "rig1", "serving", "0/1", "131,072", "test-model"],
        ["gone", "-", "ejected", "0/?", "?", "gone-model"],
        [""],
        ["MODEL", "QUEUE", "ALIASES"],
        ["test-model", "0", "claude-*"],
        ["gone-model", "0", "-"],
    ]


def test_busy_slots_and_the_queue_are_shown_as_they_are(stage: Stage) -> None:
    wires = [Wire(stage.router.port) for _ in range(3)]
    for wire in wires:
        wire.send(as_bytes(ask(stage.planned(behave.stall_before_head()))))
    eventually(lambda: stage.fleet()["models"][0]["waiting"] == 1)
    _, out, _ = asked(stage.router.url)
    for wire in wires:
        wire.__exit__()
    rows = [cells(line) for line in out.splitlines()]
    assert [row[3] for row in rows[1:3]] == ["1/1", "1/1"]
    assert rows[6] == ["test-model", "1", "claude-*"]


@pytest.mark.parametrize("form", ["{}", "{}/", "127.0.0.1:{port}"])
def test_the_router_may_be_named_in_any_usual_way(stage: Stage, form: str) -> None:
    assert asked(form.format(stage.router.url, port=stage.router.port))[0] == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "127.0.0.1:9", "http://", "nonsense:/x", "ftp://127.0.0.1:9"])
def test_where_nobody_answers_that_is_told_in_one_line(url: str) -> None:
    status, out, err = asked(url)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "no router answers at" in err
    assert "--router URL" in err


def test_where_something_else_answers_that_is_told(stage: Stage) -> None:
    status, out, err = asked(stage.fakes[0].url)
    assert (status, out) == (1, "")
    assert "not as a router" in err


def test_a_router_that_does_not_answer_is_waited_for_no_longer_than_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("router.cli.talk.DEADLINE_S", 0.2)
    with FakeInstance() as fake:
        fake.freeze()
        assert asked(fake.url)[0] == 1
        fake.thaw()


def test_columns_are_as_wide_as_what_stands_in_them() -> None:
    one = InstanceStatus(
        id="a-rather-long-name", host=None, models=("m", "n"), state="serving", busy=1, closing=0, slots=2,
        ctx_tokens=None,
    )  # fmt: skip
    text = render(FleetStatus(instances=(one,), models=(PoolStatus(model="m", aliases=(), waiting=12),)))
    head, row, _, _, model = text.splitlines()
    assert head.index("HOST") == row.index("-", row.index(" "))
    assert row.endswith("m, n")
    assert cells(model) == ["m", "12", "-"]
