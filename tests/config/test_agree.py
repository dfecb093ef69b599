import pytest

from router.config.agree import effective_key
from router.config.load import parse
from router.config.problem import ConfigInvalid
from router.config.schema import HostEntry, InstanceEntry


def told(text: str) -> list[str]:
    try:
        parse(text.encode(), {}, file="f")
    except ConfigInvalid as invalid:
        return [str(problem) for problem in invalid.problems]
    return []


def two_models(first: str, second: str) -> str:
    return f"models:\n  a: {{instances: [{first}]}}\n  b: {{instances: [{second}]}}\n"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{url: 'http://r:1'}", "{url: 'http://r:1', model: other}"),
        ("{url: 'http://r:1', id: r-1}", "{url: 'http://R:1/'}"),
        ("{url: 'http://r:1', slots: 2, gpus: [0]}", "{url: 'http://r:1', slots: 2, gpus: [0]}"),
    ],
)
def test_one_process_may_serve_two_models(first: str, second: str) -> None:
    assert told(two_models(first, second)) == []


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        ("id: x", "id: y", "id"),
        ("slots: 1", "slots: 2", "slots"),
        ("slots: 1", "model: m", "slots"),
        ("gpus: [0]", "gpus: [1]", "gpus"),
        ("host: p", "host: q", "host"),
        ("api_key: k1", "api_key: k2", "api_key"),
        ("dialect: openai", "dialect: llama", "dialect"),
        ("dialect: openai", "model: m", "dialect"),
        ("capabilities: {images: true}", "capabilities: {images: false}", "capabilities"),
        ("capabilities: {images: true}", "model: m", "capabilities"),
    ],
)
def test_one_process_has_one_set_of_settings(first: str, second: str, key: str) -> None:
    (line,) = told(two_models(f"{{url: 'http://r:1', {first}}}", f"{{url: 'http://r:1', {second}}}"))
    assert f"models.b.instances[0].{key}: differs from that of models.a.instances[0]" in line
    assert line.endswith(f"write the same {key} in both places")


def test_one_server_stands_once_in_a_pool() -> None:
    (line,) = told("models: {a: {instances: [{url: 'http://r:1'}, {url: 'http://r:1/'}]}}")
    assert line.startswith("f:1:53: models.a.instances[1].url: is the same server as models.a.instances[0]")


@pytest.mark.parametrize("second", ["{url: 'http://s:1', id: x}", "{url: 'http://x'}"])
def test_two_servers_have_two_ids(second: str) -> None:
    (line,) = told(two_models("{url: 'http://r:1', id: x-80}", second.replace("id: x", "id: x-80")))
    assert 'the id "x-80" is already that of models.a.instances[0]; give each server its own id' in line


def test_an_unknown_host_is_told_the_nearest_one() -> None:
    text = "hosts: {rig1: {}}\nmodels: {a: {instances: [{url: 'http://r:1', host: rgi1}]}}"
    assert told(text) == [
        'f:2:52: models.a.instances[0].host: the host "rgi1" is not under hosts; did you mean "rig1"?'
    ]


def test_a_host_is_a_mere_label_where_no_hosts_are_listed() -> None:
    assert told("models: {a: {instances: [{url: 'http://r:1', host: rig1}]}}") == []


def test_an_alias_leads_to_one_model() -> None:
    text = (
        "models:\n"
        "  a: {aliases: [x, 'c-*', b], instances: [{url: 'http://r:1'}]}\n"
        "  b: {aliases: [x, 'c-*'], instances: [{url: 'http://r:2'}]}\n"
    )
    assert told(text) == [
        'f:2:27: models.a.aliases[2]: "b" is the name of another model; leave it out, or write another name',
        'f:3:17: models.b.aliases[0]: "x" is already an alias of models.a; '
        "keep it in one place: an alias leads to one model",
        'f:3:20: models.b.aliases[1]: "c-*" is already an alias of models.a; '
        "keep it in one place: an alias leads to one model",
    ]


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "localhost:1", "'[::1]:1'"])
def test_a_loopback_address_needs_no_keys(listen: str) -> None:
    assert told(f"listen: {listen}\nmodels: {{a: {{instances: [{{url: 'http://r:1'}}]}}}}") == []


def test_another_address_needs_keys_and_a_misspelt_keys_file_is_told_only_once() -> None:
    rest = "models: {a: {instances: [{url: 'http://r:1'}]}}\nlisten: 0.0.0.0:1\n"
    assert told(rest + "keys_file: keys.yaml") == []
    assert told(rest + "keysfile: keys.yaml") == ['f:3:1: keysfile: unknown key; did you mean "keys_file"?']


def test_a_key_of_its_own_wins_over_that_of_the_host() -> None:
    host = HostEntry(api_key="h")
    assert effective_key(InstanceEntry(url="http://r:1", api_key="o"), host) == "o"
    assert effective_key(InstanceEntry(url="http://r:1"), host) == "h"
    assert effective_key(InstanceEntry(url="http://r:1"), None) is None
