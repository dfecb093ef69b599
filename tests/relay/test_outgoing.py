import pytest

from router.fleet.instance import Instance
from router.relay.outgoing import Outgoing

HEADERS = [
    (b"host", b"router:8000"),
    (b"content-type", b"application/json"),
    (b"x-api-key", b"sk-client"),
    (b"authorization", b"Bearer sk-client"),
    (b"content-length", b"99"),
    (b"anthropic-version", b"2023-06-01"),
    (b"accept-encoding", b"gzip"),
]


def to(*, api_key: str | None = None, prefix: str = "", authority: str = "rig1:8080") -> Instance:
    return Instance(id="i", address="rig1", port=8080, authority=authority, prefix=prefix, api_key=api_key)


@pytest.mark.parametrize(
    ("instance", "first_lines"),
    [
        (to(), b"POST /v1/messages HTTP/1.1\r\nhost: rig1:8080\r\n"),
        (to(prefix="/llm"), b"POST /llm/v1/messages HTTP/1.1\r\nhost: rig1:8080\r\n"),
        (to(authority="[::1]:8080"), b"POST /v1/messages HTTP/1.1\r\nhost: [::1]:8080\r\n"),
        (to(api_key="k1"), b"POST /v1/messages HTTP/1.1\r\nhost: rig1:8080\r\nauthorization: Bearer k1\r\n"),
    ],
)
def test_the_head_is_written_for_the_instance_that_it_goes_to(instance: Instance, first_lines: bytes) -> None:
    outgoing = Outgoing(path=b"/v1/messages", headers=HEADERS, body=b"{}")
    rest = b"content-type: application/json\r\nanthropic-version: 2023-06-01\r\ncontent-length: 2\r\n\r\n"
    assert first_lines + rest == outgoing.head(instance, 2)


def test_a_request_without_headers_still_has_a_whole_head() -> None:
    head = Outgoing(path=b"/v1/messages", headers=(), body=b"").head(to(), 0)
    assert b"POST /v1/messages HTTP/1.1\r\nhost: rig1:8080\r\ncontent-length: 0\r\n\r\n" == head


def test_each_instance_gets_its_own_key_and_never_the_clients() -> None:
    outgoing = Outgoing(path=b"/v1/messages", headers=HEADERS, body=b"{}")
    heads = [outgoing.head(to(api_key=key), 2) for key in ("k1", None, "k2")]
    assert [[b"authorization: Bearer k1"], [], [b"authorization: Bearer k2"]] == [
        [line for line in head.split(b"\r\n") if line.startswith(b"authorization")] for head in heads
    ]
    assert not [head for head in heads if b"sk-client" in head]


def test_the_length_is_of_what_is_sent_and_not_of_what_came() -> None:
    outgoing = Outgoing(path=b"/v1/messages", headers=HEADERS, body=b"{}")
    assert [b"content-length: 17"] == [
        line for line in outgoing.head(to(), 17).split(b"\r\n") if line.startswith(b"content-length")
    ]


def test_the_body_is_the_clients_object_and_no_copy() -> None:
    body = b'{"model":"m"}'
    assert Outgoing(path=b"/", headers=(), body=body).body is body
