import pytest

from router.config.address import (
    derived_id,
    is_loopback,
    read_listen,
    read_metrics_url,
    read_origin,
    read_url,
    split_listen,
)


@pytest.mark.parametrize(
    ("listen", "parts"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("[::1]:8000", ("::1", 8000)),
        ("localhost:0", ("localhost", 0)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_a_listen_address_is_taken_apart(listen: str, parts: tuple[str, int]) -> None:
    assert parts == split_listen(read_listen(listen))


@pytest.mark.parametrize(
    ("listen", "phrase"),
    [
        ("8000", "HOST:PORT"),
        (":8000", "HOST:PORT"),
        ("127.0.0.1:", "no port"),
        ("127.0.0.1:65536", "no port"),
        ("127.0.0.1:http", "no port"),
        ("::1:8000", "more than one colon.*in brackets"),
        (":1:1:", "more than one colon; write HOST:PORT"),
        ("1:2:3", "more than one colon"),
        ("[::1]", "not HOST:PORT.*8000"),
        ("[::1]:", "no port"),
        ("[::1]:80:90", "no IPv6 address in its brackets"),
        ("[::1:8000", "no IPv6 address in its brackets"),
        ("[]:80", "no IPv6 address in its brackets"),
        ("http://127.0.0.1:8000", "is a URL; write only an address and a port"),
        ("*:8000", "0\\.0\\.0\\.0 for every"),
        ("[1.2.3.4]:8000", "no IPv6 address"),
        ("1.2.3:8000", "no valid address"),
        ("a b:8000", "no valid address"),
    ],
)
def test_what_cannot_be_listened_on_is_told_what_to_write(listen: str, phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase):
        read_listen(listen)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("rig1", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host: str, *, loopback: bool) -> None:
    assert loopback == is_loopback(host)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("http://rig1:8080", "http://rig1:8080"),
        ("HTTP://Rig1:8080/", "http://rig1:8080"),
        ("https://gw.example.org/Llama/1/", "https://gw.example.org/Llama/1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_url_is_read_in_one_spelling(url: str, read: str) -> None:
    assert read == read_url(url)


@pytest.mark.parametrize(
    ("url", "phrase"),
    [
        ("rig1:8080", "http:// or https://"),
        ("ftp://rig1", "http:// or https://"),
        ("http:rig1", "http:// or https://"),
        ("http://", "no valid host"),
        ("http://rig 1", "space"),
        ("http://rig1\n:80", "space"),
        ("http://rïg1", "ASCII"),
        ("http://rig1:0", "no port"),
        ("http://rig1:", "no port"),
        ("http://rig1:99999", "address or port"),
        ("http://rig1:x", "address or port"),
        ("http://[::1", "address or port"),
        ("http://1.2.3", "no valid host"),
        ("http://user:hunter2@rig1", "api_key"),
        ("http://rig1/?key=hunter2", "query"),
        ("http://rig1/#top", "query or a fragment"),
        ("http://rig1:8080/v1", "leave it out"),
        ("http://rig1:8080/v1/messages", "leave it out"),
        ("http://rig1:8080/props", "leave it out"),
        ("http://rig1//a", "odd path"),
    ],
)
def test_a_bad_url_is_told_what_to_write_and_is_not_repeated(url: str, phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase) as caught:
        read_url(url)
    assert "hunter2" not in str(caught.value)


def test_the_url_of_an_exporter_may_end_in_any_path() -> None:
    assert read_metrics_url("http://rig1:9400/metrics") == "http://rig1:9400/metrics"


@pytest.mark.parametrize("origin", ["*", "https://chat.example.org", "http://localhost:3000"])
def test_an_origin_is_a_scheme_a_host_and_a_port(origin: str) -> None:
    assert origin == read_origin(origin)


def test_an_origin_with_a_path_is_told_what_to_write() -> None:
    with pytest.raises(ValueError, match="only scheme, host and port"):
        read_origin("https://chat.example.org/app")


@pytest.mark.parametrize(
    ("url", "instance_id"),
    [
        ("http://rig1:8081", "rig1-8081"),
        ("http://rig1", "rig1-80"),
        ("https://Gw_1.example.org/llama/1", "gw-1.example.org-443-llama-1"),
        ("http://[::1]:8080", "1-8080"),
    ],
)
def test_an_id_is_made_from_host_port_and_prefix(url: str, instance_id: str) -> None:
    assert instance_id == derived_id(url)
