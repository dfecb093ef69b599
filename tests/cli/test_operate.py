"""drain, resume and reload: what is ordered, what is said, and when the command is over."""

import io
from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from router.cli import operate
from router.edge.admin import FleetStatus, InstanceStatus, ReloadReport
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour
from tests.rig.fake_turn import Turn
from tests.rig.start import StartFake

Told = tuple[int, list[str], list[str]]
NO = b'{"type":"error","error":{"type":"not_found_error","message":"there is no instance \'x\'"},"request_id":"req_1"}'
UNKNOWN = behave.not_json(NO, status=404)


def fleet(**counts: tuple[int, int]) -> FleetStatus:
    """Instances by id, each with its busy and closing slots."""
    return FleetStatus(
        instances=tuple(
            InstanceStatus(
                id=id_,
                host="rig1",
                models=("m",),
                state="draining",
                busy=busy,
                closing=closing,
                slots=2,
                ctx_tokens=None,
            )
            for id_, (busy, closing) in counts.items()
        ),
        models=(),
    )


def page(value: object) -> Behaviour:
    return behave.not_json(msgspec.json.encode(value))


def one_after_another(*values: object) -> Behaviour:
    """The first at the first asking, and the last for ever."""
    left = list(values)

    async def behaviour(turn: Turn) -> None:
        await page(left.pop(0) if len(left) > 1 else left[0])(turn)

    return behaviour


def ran(fake: FakeInstance, command: Callable[..., int], *words: str, key: str | None = None) -> Told:
    """Status, and what went to stdout and stderr, in lines."""
    out, err = io.StringIO(), io.StringIO()
    status = command(*words, fake.url, key=key, out=out, err=err)
    return status, out.getvalue().splitlines(), err.getvalue().splitlines()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between two questions; none of them takes any time."""
    asked: list[float] = []
    monkeypatch.setattr("time.sleep", asked.append)
    return asked


# ---------------------------------------------------------------- drain


def test_a_drain_says_how_many_still_run_when_that_changes_and_ends_when_nothing_does(
    start_fake: StartFake, pauses: list[float]
) -> None:
    fake = start_fake()
    fake.on["/admin/drain"] = page(fleet(one=(2, 0)))
    fake.on["/admin/fleet"] = one_after_another(
        fleet(one=(2, 0), two=(2, 0)),
        fleet(one=(2, 0), two=(2, 0)),
        fleet(one=(1, 1), two=(2, 0)),
        fleet(one=(0, 1), two=(2, 0)),
        fleet(one=(0, 0), two=(2, 0)),
    )
    assert (
        0,
        [
            "draining one: 2 running",
            "draining one: 1 running",
            "one: empty; it takes no calls until: llama-router resume one",
        ],
        [],
    ) == ran(fake, operate.order, "drain", "one", key="sk-1")
    assert [operate.EVERY_S] * 4 == pauses
    assert {"Bearer sk-1"} == {seen.header("authorization") for seen in fake.requests}
    assert {"name": "one"} == fake.requests[0].json


def test_a_host_is_empty_when_all_its_instances_are(start_fake: StartFake, pauses: list[float]) -> None:
    fake = start_fake()
    fake.on["/admin/drain"] = page(fleet(one=(1, 0), two=(1, 0)))
    fake.on["/admin/fleet"] = one_after_another(
        fleet(one=(1, 0), two=(1, 0)), fleet(one=(0, 0), two=(1, 0)), fleet(one=(0, 0), two=(0, 0))
    )
    status, out, _ = ran(fake, operate.order, "drain", "rig1")
    assert (0, 3, 2) == (status, len(out), len(pauses))
    assert ["draining one, two: 2 running", "draining one, two: 1 running"] == out[:2]
    assert "one, two: empty; they take no calls until: llama-router resume rig1" == out[2]


def test_an_instance_that_a_reload_takes_away_meanwhile_is_waited_for_while_calls_run_there(
    start_fake: StartFake, pauses: list[float]
) -> None:
    fake = start_fake()
    left = fleet(one=(1, 0)).instances
    fake.on["/admin/drain"] = page(fleet(one=(1, 0)))
    fake.on["/admin/fleet"] = one_after_another(
        fleet(one=(1, 0)), replace(fleet(two=(1, 0)), removed=left), fleet(two=(1, 0))
    )
    assert (
        0,
        [
            "draining one: 1 running",
            "draining one (removed from the registry): 1 running",
            "one: removed from the registry, and no call runs there",
        ],
        [],
    ) == ran(fake, operate.order, "drain", "one")
    assert 2 == len(pauses)


def test_who_gets_the_id_of_one_that_is_drained_is_not_waited_for(start_fake: StartFake, pauses: list[float]) -> None:
    fake = start_fake()
    (newcomer,) = fleet(one=(2, 0)).instances
    fake.on["/admin/drain"] = page(fleet(one=(1, 0), two=(0, 0)))
    fake.on["/admin/fleet"] = page(
        replace(fleet(two=(0, 0)), instances=(replace(newcomer, state="serving"), *fleet(two=(0, 0)).instances))
    )
    status, out, _ = ran(fake, operate.order, "drain", "rig1")
    assert (0, []) == (status, pauses)
    assert [
        "two: empty; it takes no calls until: llama-router resume rig1",
        "one: not draining any more; somebody resumed it, or the registry changed",
    ] == out


def test_ctrl_c_ends_the_waiting_and_not_the_drain(start_fake: StartFake, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    fake = start_fake()
    fake.on["/admin/drain"] = fake.on["/admin/fleet"] = page(fleet(one=(1, 0)))
    assert (1, ["draining one: 1 running"], ["", "still draining; llama-router status shows how far it is"]) == ran(
        fake, operate.order, "drain", "one"
    )
    assert ["/admin/drain", "/admin/fleet"] == [seen.path for seen in fake.requests]


def test_a_router_that_goes_away_during_a_drain_is_told(start_fake: StartFake, pauses: list[float]) -> None:
    fake = start_fake()
    fake.on["/admin/drain"] = page(fleet(one=(1, 0)))
    fake.on["/admin/fleet"] = behave.reset_before_head()
    status, out, (told,) = ran(fake, operate.order, "drain", "one")
    assert (1, [], []) == (status, out, pauses)
    assert "no router answers at" in told


# ---------------------------------------------------------------- resume


def test_a_resume_names_what_it_resumed_and_waits_for_nothing(start_fake: StartFake, pauses: list[float]) -> None:
    fake = start_fake()
    fake.on["/admin/resume"] = page(fleet(one=(2, 0), two=(0, 0)))
    assert (0, ["resumed: one, two"], []) == ran(fake, operate.order, "resume", "rig1")
    assert (["/admin/resume"], []) == ([seen.path for seen in fake.requests], pauses)


@pytest.mark.parametrize("verb", ["drain", "resume"])
def test_an_order_that_is_refused_is_told_with_the_routers_words(start_fake: StartFake, verb: str) -> None:
    fake = start_fake()
    fake.on[f"/admin/{verb}"] = UNKNOWN
    assert (1, [], ["there is no instance 'x'"]) == ran(fake, operate.order, verb, "x")


# ---------------------------------------------------------------- reload


@pytest.mark.parametrize(
    ("report", "lines"),
    [
        (ReloadReport(added=(), removed=(), needs_restart=()), ["reloaded: added nothing, removed nothing"]),
        (
            ReloadReport(added=("three", "four"), removed=("one",), needs_restart=()),
            ["reloaded: added three, four, removed one"],
        ),
        (
            ReloadReport(added=(), removed=(), needs_restart=("listen", "cors")),
            [
                "reloaded: added nothing, removed nothing",
                "listen has changed too; that takes a restart",
                "cors has changed too; that takes a restart",
            ],
        ),
    ],
)
def test_a_reload_says_what_has_changed(start_fake: StartFake, report: ReloadReport, lines: list[str]) -> None:
    fake = start_fake()
    fake.on["/admin/reload"] = page(report)
    assert (0, lines, []) == ran(fake, operate.reload)
    assert "application/json" == fake.requests[0].header("content-type")


def test_a_broken_registry_is_told_with_all_its_lines(start_fake: StartFake) -> None:
    words = "router.yaml:3:1: models: is empty\nrouter.yaml:9:1: liste: did you mean listen?"
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": words}, "request_id": "req_1"}
    fake = start_fake()
    fake.on["/admin/reload"] = behave.not_json(msgspec.json.encode(body), status=400)
    assert (1, [], words.splitlines()) == ran(fake, operate.reload)
