import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.relay.headers import DROPPED_FROM_REQUEST, DROPPED_FROM_RESPONSE, Header, for_client, for_instance

steady = settings(derandomize=True, max_examples=300, deadline=None)

TYPE: Header = (b"content-type", b"application/json")

# Written down a second time on purpose: a name that is taken off a table is meant to be missed here.
HOP_BY_HOP = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
    "proxy-authenticate",
    "proxy-authorization",
]
CREDENTIALS = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "x-auth-token",
    "proxy-authorization",
]
NOT_FOR_INSTANCES = [
    "host",
    "accept-encoding",
    "origin",
    "referer",
    "x-conversation-id",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-router-instance",
    "x-router-anything",
]
NOT_FOR_CLIENTS = [
    "server",
    "date",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "set-cookie",
    "location",
    "request-id",
    "process-start-time-unix",
    "www-authenticate",
    "x-router-instance",
    "x-router-anything",
]


@pytest.mark.parametrize("name", [*HOP_BY_HOP, *CREDENTIALS, *NOT_FOR_INSTANCES])
def test_an_instance_never_sees(name: str) -> None:
    assert [TYPE] == for_instance([(name.encode(), b"x"), TYPE, (name.encode(), b"y")])


@pytest.mark.parametrize("name", [*HOP_BY_HOP, *CREDENTIALS, *NOT_FOR_CLIENTS])
def test_a_client_never_sees(name: str) -> None:
    assert [TYPE] == for_client([(name.encode(), b"x"), TYPE, (name.encode(), b"y")])


@pytest.mark.parametrize(
    "header",
    [
        TYPE,
        (b"accept", b"text/event-stream"),
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"a,b"),
        (b"user-agent", b"claude-cli/2"),
        (b"x-stainless-retry-count", b"1"),
        (b"x-claude-code-session-id", b"s"),
        (b"traceparent", b"00-1-2-01"),
        (b"x-new", b""),
    ],
)
def test_an_instance_sees_whatever_has_no_reason_to_be_dropped(header: Header) -> None:
    assert [header] == for_instance([header])


@pytest.mark.parametrize(
    "header",
    [TYPE, (b"x-accel-buffering", b"no"), (b"retry-after", b"1"), (b"cache-control", b"no-cache"), (b"x-new", b"1")],
)
def test_a_client_sees_whatever_has_no_reason_to_be_dropped(header: Header) -> None:
    assert [header] == for_client([header])


FOO, BAR = (b"x-foo", b"1"), (b"x-bar", b"2")


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        ([], [FOO, BAR]),
        ([b"x-foo"], [BAR]),
        ([b"X-Foo"], [BAR]),
        ([b"close, x-foo"], [BAR]),
        ([b"x-foo ,\tkeep-alive,x-bar"], []),
        ([b"x-foo", b"x-bar"], []),
        ([b"x-foo", b"close"], [BAR]),
        ([b"close", b"x-foo"], [BAR]),
        ([b"close"], [FOO, BAR]),
        ([b"keep-alive"], [FOO, BAR]),
        ([b""], [FOO, BAR]),
        ([b", ,"], [FOO, BAR]),
        ([b"x-fo"], [FOO, BAR]),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_what_connection_names_is_dropped_too(connection: list[bytes], kept: list[Header], before: bool) -> None:
    named = [(b"connection", value) for value in connection]
    headers = [*named, FOO, BAR] if before else [FOO, BAR, *named]
    assert (kept, kept) == (for_instance(headers), for_client(headers))


_names = st.sampled_from(
    [
        *(name for name in sorted(DROPPED_FROM_REQUEST | DROPPED_FROM_RESPONSE)),
        b"x-router-x",
        b"x-foo",
        b"accept",
        b"x-bar",
    ]
)
_headers = st.lists(
    st.tuples(_names, st.binary(max_size=8)) | st.just((b"connection", b"x-foo")) | st.just((b"connection", b"close")),
    max_size=8,
)


@steady
@given(headers=_headers)
def test_nothing_that_is_listed_ever_passes(headers: list[Header]) -> None:
    assert not {name for name, _ in for_instance(headers)} & DROPPED_FROM_REQUEST
    assert not {name for name, _ in for_client(headers)} & DROPPED_FROM_RESPONSE
    for kept in (for_instance(headers), for_client(headers)):
        assert not [name for name, _ in kept if name.startswith(b"x-router-")]
        if (b"connection", b"x-foo") in headers:
            assert b"x-foo" not in {name for name, _ in kept}


@steady
@given(headers=_headers)
def test_what_passes_passes_as_it_was_and_in_its_order(headers: list[Header]) -> None:
    for kept in (for_instance(headers), for_client(headers)):
        rest = iter(headers)
        assert all(header in rest for header in kept)


@steady
@given(headers=_headers)
def test_what_has_passed_once_passes_again(headers: list[Header]) -> None:
    once = for_instance(headers)
    assert once == for_instance(once)
