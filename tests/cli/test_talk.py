"""Asking a router: what goes out, what comes back, and one sentence for whatever is wrong."""

import msgspec
import pytest

from router.cli import talk as talk_module
from router.cli.talk import NoAnswer, Talk
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour
from tests.rig.start import StartFake

PATH = "/admin/fleet"


class Page(msgspec.Struct):
    number: int


def asked(fake: FakeInstance, behaviour: Behaviour, *, key: str | None = None) -> Page:
    fake.on[PATH] = behaviour
    return Talk(fake.url, key=key).get(PATH, Page)


def test_a_page_is_read_into_what_was_asked_for(start_fake: StartFake) -> None:
    assert Page(7) == asked(start_fake(), behave.not_json(b'{"number":7,"more":true}'))


@pytest.mark.parametrize(("key", "header"), [(None, None), ("", None), ("sk-1", "Bearer sk-1")])
def test_the_key_goes_along_where_there_is_one(start_fake: StartFake, key: str | None, header: str | None) -> None:
    fake = start_fake()
    asked(fake, behave.not_json(b'{"number":7}'), key=key)
    (seen,) = fake.requests
    assert ("GET", header, b"") == (seen.method, seen.header("authorization"), seen.body)


def test_an_order_is_posted_as_json(start_fake: StartFake) -> None:
    fake = start_fake()
    fake.on["/admin/drain"] = behave.not_json(b'{"number":7}')
    assert Page(7) == Talk(fake.url, key=None).post("/admin/drain", Page, {"name": "gpu1"})
    (seen,) = fake.requests
    assert ("POST", "application/json", {"name": "gpu1"}) == (seen.method, seen.header("content-type"), seen.json)


@pytest.mark.parametrize("form", ["http://{}", "http://{}/", "{}", "{}/"])
def test_the_address_may_be_written_in_any_usual_way(start_fake: StartFake, form: str) -> None:
    fake = start_fake()
    fake.on[PATH] = behave.not_json(b'{"number":7}')
    assert Page(7) == Talk(form.format(f"127.0.0.1:{fake.port}"), key=None).get(PATH, Page)


def test_a_proxy_of_the_environment_is_not_asked(start_fake: StartFake, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert Page(7) == asked(start_fake(), behave.not_json(b'{"number":7}'))


REFUSED = b'{"type":"error","error":{"type":"permission_error","message":"this key may not"},"request_id":"req_1"}'
NOT_OURS = "answers, but not as a router would"
NOBODY = "no router answers at"
WRONG: dict[str, tuple[Behaviour, str]] = {
    "refused": (behave.not_json(REFUSED, status=403), "this key may not"),
    "a web page": (behave.not_json(), NOT_OURS),
    "a web page that says no": (behave.not_json(status=404), NOT_OURS),
    "another shape": (behave.not_json(b'{"number":"seven"}'), NOT_OURS),
    "a llama-server's error": (behave.error(404, "File Not Found", "not_found_error"), NOT_OURS),
    "no UTF-8": (behave.not_json(b'{"type":"error","error":{"message":"\xff"}}', status=400), NOT_OURS),
    "nested deeply": (behave.not_json(b'{"x":%b}' % (b"[" * 100_000 + b"]" * 100_000)), NOT_OURS),
    "a redirect": (behave.not_json(b"", status=307), NOT_OURS),
    "a reset": (behave.reset_before_head(), NOBODY),
    "no HTTP": (behave.raw(b"SSH-2.0-server\r\n"), NOBODY),
}


@pytest.mark.parametrize("name", WRONG)
def test_whatever_is_wrong_is_told_in_one_sentence_without_a_traceback(start_fake: StartFake, name: str) -> None:
    behaviour, words = WRONG[name]
    with pytest.raises(NoAnswer) as error:
        asked(start_fake(), behaviour, key="sk-1")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert "sk-1" not in str(error.value)


@pytest.mark.parametrize("url", ["127.0.0.1:9", "http://", "ftp://127.0.0.1:9", "http://[::1", "http://127.0.0.1:none"])
def test_where_nobody_is_the_sentence_says_how_to_name_another(url: str) -> None:
    with pytest.raises(NoAnswer, match=r"no router answers at .*--router URL"):
        Talk(url, key=None).get(PATH, Page)


def test_a_router_that_is_silent_is_waited_for_no_longer_than_promised(
    start_fake: StartFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk_module, "DEADLINE_S", 0.1)
    with pytest.raises(NoAnswer, match=NOBODY):
        asked(start_fake(), behave.stall_before_head())
