"""The demo's own calls read streams, tell who answered, and raise what went wrong."""

import httpx
import pytest

from router.demo import calls
from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour


def test_a_streamed_answer_comes_piece_by_piece() -> None:
    pieces: list[str] = []
    with FakeInstance() as fake:
        assert calls.streamed(fake.url, "echo nonce:q", pieces.append) == "(not told)"
        assert fake.calls[0].json["model"] == "claude-local-smollm2"
    assert "".join(pieces) == "nonce:q w1 w2"


FAILED = b"""HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r
event: error
data: {"type":"error","error":{"type":"api_error","message":"It broke."}}

"""


@pytest.mark.parametrize(
    ("told", "message"),
    [(behave.too_long(), "status 400: .*exceeds"), (behave.raw(FAILED), "It broke"), (behave.die_mid_chunk(), ".")],
)
def test_a_failure_is_one_kind_of_error_with_the_servers_message(told: Behaviour, message: str) -> None:
    with FakeInstance([told]) as fake, pytest.raises(httpx.HTTPError, match=message):
        calls.streamed(fake.url, "hi", lambda _: None)


def test_calls_at_once_are_really_at_once() -> None:
    with FakeInstance(prefill_s=0.2) as fake:
        assert len(calls.concurrently(fake.url, 2)) == 2
        assert fake.peak_in_flight == 2


def test_the_curl_line_carries_a_whole_request() -> None:
    assert calls.curl("http://127.0.0.1:1").startswith("curl -N http://127.0.0.1:1/v1/messages -H ")
