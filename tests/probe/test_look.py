"""A look: what the answers of /health, /props, /metrics and /slots say, and which of them are asked at all."""

from pathlib import Path

import pytest

from router.config.schema import PollRules
from router.fleet.health import Event
from router.fleet.instance import Instance
from router.probe.look import Felt, Looker
from router.probe.pulse import Pulse
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour
from tests.rig.start import StartFake

pytestmark = pytest.mark.anyio
DEADLINE_S = 0.3
MUTE, SILENT = Felt(mute=True), Felt()


def looker(fake: FakeInstance, **options: str) -> Looker:
    instance = Instance(
        id="one",
        address="127.0.0.1",
        port=fake.port,
        authority=f"127.0.0.1:{fake.port}",
        **options,  # type: ignore[arg-type]
    )
    return Looker(instance, PollRules(every_s=2.0, deadline_s=DEADLINE_S))


def paths(fake: FakeInstance) -> list[str]:
    return [seen.path for seen in fake.requests]


@pytest.mark.parametrize(
    ("behaviour", "event"),
    [
        (behave.not_json(b'{"status":"ok"}'), Event.ANSWERED),
        (behave.not_json(), Event.ANSWERED),
        (behave.loading(), Event.LOADING),
        (behave.error(500, "no", "server_error"), Event.BROKE),
        (behave.error(401, "no", "authentication_error"), Event.BROKE),
        (behave.not_json(status=404), Event.BROKE),
        (behave.reset_before_head(), Event.BROKE),
        (behave.broken_head(), Event.BROKE),
        (behave.stall_before_head(), Event.TIMED_OUT),
    ],
    ids=["well", "any page", "loading", "500", "401", "404", "reset", "no HTTP", "silent"],
)
async def test_health_is_told_by_the_status(start_fake: StartFake, behaviour: Behaviour, event: Event) -> None:
    fake = start_fake()
    fake.on["/health"] = behaviour
    assert (event, ["/health"]) == (await looker(fake).health(), paths(fake))


async def test_an_instance_that_is_not_there_refuses_every_question(start_fake: StartFake) -> None:
    fake = start_fake()
    fake.stop()
    look = looker(fake)
    page, facts = await look.props()
    assert (Event.REFUSED, 0, Event.REFUSED, None, SILENT) == (
        await look.health(),
        page.status,
        page.event,
        facts,
        await look.pulse(),
    )


async def test_props_are_facts_only_with_status_200(start_fake: StartFake) -> None:
    fake = start_fake(slots=3, api_key="k1")
    page, facts = await looker(fake, api_key="k1").props()
    assert facts is not None
    assert (200, 3, "fake-model") == (page.status, facts.slots, facts.model)
    page, facts = await looker(fake, api_key="other").props()
    assert (401, None) == (page.status, facts)
    fake.on["/props"] = behave.not_json(b'{"total_slots":3}', status=500)
    assert (await looker(fake, api_key="k1").props())[1] is None


METRICS = b"llamacpp:requests_processing 2\nllamacpp:n_decode_total 31\n"
NO = behave.error(501, "not supported", "not_supported_error")


@pytest.mark.parametrize(
    ("metrics", "slots", "felt", "asked"),
    [
        (behave.not_json(METRICS), None, Felt(Pulse(2, 31)), ["/metrics"]),
        (behave.not_json(b"\xff\n" + METRICS), None, Felt(Pulse(2, 31)), ["/metrics"]),
        (behave.not_json(), None, MUTE, ["/metrics"]),
        (behave.reset_before_head(), None, SILENT, ["/metrics"]),
        (behave.stall_before_head(), None, SILENT, ["/metrics"]),
        (NO, behave.not_json(b'[{"is_processing":true},{}]'), Felt(Pulse(1)), ["/metrics", "/slots"]),
        (NO, behave.not_json(), MUTE, ["/metrics", "/slots"]),
        (NO, NO, MUTE, ["/metrics", "/slots"]),
        (NO, behave.close_before_head(), SILENT, ["/metrics", "/slots"]),
    ],
    ids=[
        "metrics",
        "bad UTF-8",
        "a page",
        "metrics reset",
        "metrics silent",
        "slots",
        "slots a page",
        "neither",
        "slots closed",
    ],
)
async def test_a_pulse_is_felt_where_it_can_be_and_only_who_answers_without_one_is_mute(
    start_fake: StartFake, metrics: Behaviour, slots: Behaviour | None, felt: Felt, asked: list[str]
) -> None:
    fake = start_fake()
    fake.on["/metrics"] = metrics
    if slots is not None:
        fake.on["/slots"] = slots
    assert (felt, asked) == (await looker(fake).pulse(), paths(fake))


async def test_the_pulse_of_another_start_has_another_mark(start_fake: StartFake) -> None:
    fake = start_fake()
    marks = []
    for _ in range(2):
        felt = await looker(fake).pulse()
        assert felt.pulse is not None
        marks.append(felt.pulse.restart_mark)
        fake.stop()
        fake.start()
    assert marks[0] != marks[1]


def test_a_certificate_authority_that_is_not_there_is_told_when_the_looker_is_made(tmp_path: Path) -> None:
    instance = Instance(
        id="one", address="rig1", port=443, authority="rig1", tls=True, ca_file=str(tmp_path / "missing.pem")
    )
    with pytest.raises(FileNotFoundError):
        Looker(instance, PollRules(every_s=2.0, deadline_s=1.0))


def test_its_repr_names_the_instance_and_no_key() -> None:
    instance = Instance(id="one", address="rig1", port=80, authority="rig1", api_key="s3cret")
    assert "Looker(one)" == repr(Looker(instance, PollRules(every_s=2.0, deadline_s=1.0)))
