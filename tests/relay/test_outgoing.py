import pytest

from router.fleet.instance import Instance
from router.relay.outgoing import Outgoing
from router.translate.plan import CHAT_PATH, MESSAGES_PATH

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
    outgoing = Outgoing(HEADERS)
    rest = b"content-type: application/json\r\nanthropic-version: 2023-06-01\r\ncontent-length: 2\r\n\r\n"
    assert first_lines + rest == outgoing.head(instance, MESSAGES_PATH, 2)


def test_a_request_without_headers_still_has_a_whole_head() -> None:
    head = Outgoing(()).head(to(), MESSAGES_PATH, 0)
    assert b"POST /v1/messages HTTP/1.1\r\nhost: rig1:8080\r\ncontent-length: 0\r\n\r\n" == head


def test_each_instance_gets_its_own_key_and_never_the_clients() -> None:
    outgoing = Outgoing(HEADERS)
    heads = [outgoing.head(to(api_key=key), MESSAGES_PATH, 2) for key in ("k1", None, "k2")]
    assert [[b"authorization: Bearer k1"], [], [b"authorization: Bearer k2"]] == [
        [line for line in head.split(b"\r\n") if line.startswith(b"authorization")] for head in heads
    ]
    assert not [head for head in heads if b"sk-client" in head]


def test_the_length_is_of_what_is_sent_and_not_of_what_came() -> None:
    outgoing = Outgoing(HEADERS)
    assert [b"content-length: 17"] == [
        line for line in outgoing.head(to(), MESSAGES_PATH, 17).split(b"\r\n") if line.startswith(b"content-length")
    ]


def lines(head: bytes, name: bytes) -> list[bytes]:
    return [line for line in head.split(b"\r\n") if line.startswith(name)]


def test_one_call_may_go_to_one_path_here_and_to_another_there() -> None:
    outgoing = Outgoing(HEADERS)
    heads = [outgoing.head(to(prefix="/llm"), path, 2) for path in (MESSAGES_PATH, CHAT_PATH)]
    assert [b"POST /llm/v1/messages HTTP/1.1", b"POST /llm/v1/chat/completions HTTP/1.1"] == [
        head.partition(b"\r\n")[0] for head in heads
    ]
    assert heads[0].partition(b"\r\n")[2] == heads[1].partition(b"\r\n")[2]


@pytest.mark.parametrize(
    ("headers", "version", "sent"),
    [
        ((), b"", []),
        ((), b"2023-06-01", [b"anthropic-version: 2023-06-01"]),
        (HEADERS, b"", [b"anthropic-version: 2023-06-01"]),
        ([(b"anthropic-version", b"2024-01-01")], b"2023-06-01", [b"anthropic-version: 2024-01-01"]),
    ],
)
def test_the_version_is_the_clients_or_else_the_one_that_the_dialect_asks_for(
    headers: list[tuple[bytes, bytes]], version: bytes, sent: list[bytes]
) -> None:
    assert sent == lines(Outgoing(headers).head(to(), MESSAGES_PATH, 2, version=version), b"anthropic-version")
