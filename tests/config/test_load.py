import contextlib
import pathlib
from collections.abc import Mapping

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config.load import parse
from router.config.problem import ConfigInvalid, ConfigProblem
from router.config.schema import Capabilities, InstanceEntry, RouterFile

EXAMPLE = pathlib.Path(__file__).parents[2] / "config" / "router.example.yaml"
SMALL = b'models: {qwen: {instances: [{url: "http://rig1:8080"}]}}\n'


def problems_of(text: str, env: Mapping[str, str] | None = None) -> tuple[ConfigProblem, ...]:
    with pytest.raises(ConfigInvalid) as caught:
        parse(text.encode(), env or {})
    return caught.value.problems


def registry(instances: str = '{url: "http://rig1:8080"}', *, model: str = "", top: str = "") -> str:
    """A good file but for what is put into it: instances on line 3, the model's keys on 4, others from 5 on."""
    return f"models:\n  qwen:\n    instances: [{instances}]\n{model}\n{top}"


BROKEN = [
    # what is there, line, column, path, phrase
    (registry('{ulr: "http://a:1"}'), 3, 18, "models.qwen.instances[0].ulr", 'did you mean "url"?'),
    (registry("{id: a}"), 3, 17, "models.qwen.instances[0].url", 'write an address such as "http://rig1:8080"'),
    (registry(""), 3, 16, "models.qwen.instances", "write at least one entry"),
    (registry('"http://a:1"'), 3, 17, "models.qwen.instances[0]", "write a mapping with the keys url"),
    (registry("{url: rig1:8080}"), 3, 23, "models.qwen.instances[0].url", "write http:// or https://"),
    (registry('{url: "http://a/v1"}'), 3, 23, "models.qwen.instances[0].url", "leave it out, the router adds it"),
    (registry('{url: "http://a:1", slots: 0}'), 3, 44, "models.qwen.instances[0].slots", "at least 1"),
    (registry('{url: "http://a:1", slots: 1e3}'), 3, 44, "models.qwen.instances[0].slots", "plain digits"),
    (registry('{url: "http://a:1", slots: yes}'), 3, 44, "models.qwen.instances[0].slots", "plain digits"),
    (registry('{url: "http://a:1", slots: "4"}'), 3, 44, "models.qwen.instances[0].slots", "without quotes"),
    (registry('{url: "http://a:1", gpus: 0}'), 3, 43, "models.qwen.instances[0].gpus", "write a list"),
    (registry('{url: "http://a:1", gpus: [-1]}'), 3, 44, "models.qwen.instances[0].gpus[0]", "at least 0"),
    (registry('{url: "http://a:1", id: on}'), 3, 41, "models.qwen.instances[0].id", 'put it in quotes: "on"'),
    (registry('{url: "http://a:1", id: 2024-01-01}'), 3, 41, "models.qwen.instances[0].id", "in quotes"),
    (registry('{url: "http://a:1", id: "a b"}'), 3, 41, "models.qwen.instances[0].id", "such as rig1-gpu0"),
    (registry('{url: "http://a:1", ca_file: a.pem}'), 3, 46, "models.qwen.instances[0].ca_file", "write https://"),
    (registry('{url: "http://a:1", api_key: "${K}"}'), 3, 46, "models.qwen.instances[0].api_key", "variable K,"),
    (
        registry('{url: "http://a:1", dialect: opneai}'),
        3,
        46,
        "models.qwen.instances[0].dialect",
        'did you mean "openai"',
    ),
    (registry('{url: "http://a:1", dialect: 1}'), 3, 46, "models.qwen.instances[0].dialect", "anthropic, auto, llama"),
    (
        registry('{url: "http://a:1", capabilities: {imges: true}}'),
        3,
        52,
        "models.qwen.instances[0].capabilities.imges",
        'did you mean "images"?',
    ),
    (
        registry('{url: "http://a:1", capabilities: {tools: 1}}'),
        3,
        59,
        "models.qwen.instances[0].capabilities.tools",
        "write true or false",
    ),
    (
        registry('{url: "http://a:1", capabilities: {tools: "true"}}'),
        3,
        59,
        "models.qwen.instances[0].capabilities.tools",
        "write true or false",
    ),
    (
        registry('{url: "http://a:1", capabilities: [tools]}'),
        3,
        51,
        "models.qwen.instances[0].capabilities",
        "write a mapping with the keys messages",
    ),
    (registry(model="    tools: none"), 4, 12, "models.qwen.tools", "write one of auto, pass"),
    (registry(model="    aliases: gpt"), 4, 14, "models.qwen.aliases", "write a list"),
    (registry(model="    aliases: [qwen]"), 4, 15, "models.qwen.aliases[0]", "own name"),
    (registry(model="    aliases: ['a b']"), 4, 15, "models.qwen.aliases[0]", "letters, digits, *"),
    (registry(model="    defaults: {max_tokens: 8k}"), 4, 28, "models.qwen.defaults.max_tokens", "plain digits"),
    (registry(model="    instances: []"), 4, 5, "models.qwen.instances", "there twice, first on line 3; keep one"),
    (registry(model="  7: {}"), 4, 3, "models.7", 'put it in quotes: "7"'),
    (
        registry(model="  'cl*': *x").replace("*x", "{instances: [{url: 'http://b:1'}]}"),
        4,
        3,
        'models["cl*"]',
        "aliases",
    ),
    (registry(top="listen: 8000"), 5, 9, "listen", "such as 127.0.0.1:8000"),
    (registry(top="listen: 127.0.0.1:80000"), 5, 9, "listen", "no port from 0 to 65535"),
    (registry(top="listen: ::1:8000"), 5, 9, "listen", "[::1]:8000"),
    (registry(top="listen: 0.0.0.0:8000"), 5, 9, "listen", 'add "keys_file: keys.yaml"'),
    (registry(top="listen: '[::]:8000'\nkeys_file: null"), 5, 9, "listen", 'add "keys_file: keys.yaml"'),
    (registry(top="queue: {deadline: 120}"), 5, 19, "queue.deadline", "such as 120s"),
    (registry(top="queue: {deadline: 0s}"), 5, 19, "queue.deadline", "is zero"),
    (registry(top="queue: {max_waiting: lots}"), 5, 22, "queue.max_waiting", "a whole number such as 4 or auto"),
    (registry(top="queue: {max_waiting: -1}"), 5, 22, "queue.max_waiting", "at least 0"),
    (registry(top="queue:"), 5, 7, "queue", "or leave the key out"),
    (registry(top="deadlines: {call: -1s}"), 5, 19, "deadlines.call", "is negative"),
    (registry(top="deadlines: {call: 1:30}"), 5, 19, "deadlines.call", "one number and one unit"),
    (registry(top="limits: {body: 32mib}"), 5, 16, "limits.body", "write MiB"),
    (registry(top="limits: {body: 10}"), 5, 16, "limits.body", "such as 10MiB"),
    (registry(top="limits: {connections: 1_000}"), 5, 23, "limits.connections", "plain digits"),
    (registry(top="log: {level: inf}"), 5, 14, "log.level", 'did you mean "info"?'),
    (registry(top="log: {level: off}"), 5, 14, "log.level", "write one of debug, error, info, warning"),
    (registry(top="cors: {origins: []}"), 5, 17, "cors.origins", "write at least one entry"),
    (registry(top="cors: {origins: [chat.example.org]}"), 5, 18, "cors.origins[0]", "http:// or https://"),
    (registry(top="theme: red"), 5, 1, "theme", "known keys: models, listen"),
    (registry(top="redis: localhost"), 5, 1, "redis", "this release does not have it"),
    (registry(top="<<: {a: b}"), 5, 1, '["<<"]', "write the keys out"),
    (registry(top="? [a]\n: b"), 5, 3, "", "write a plain name"),
    (registry(top="listen: !x a"), 5, 9, "listen", "write the plain value"),
    (registry(top='keys_file: "a\\nb"'), 5, 12, "keys_file", "write one plain line"),
    (registry(top='keys_file: ""'), 5, 12, "keys_file", "leave the key out"),
    ("listen: 127.0.0.1:1\n", 1, 1, "models", "is missing"),
    ("models: {}\n", 1, 9, "models", "write at least one name"),
    ("- models\n", 1, 1, "", "write a mapping with the keys models"),
    ("just text\n", 1, 1, "", "write a mapping with the keys models"),
]


@pytest.mark.parametrize(("text", "line", "column", "path", "phrase"), BROKEN)
def test_a_slip_is_reported_once_at_its_place_with_what_to_write(
    text: str, line: int, column: int, path: str, phrase: str
) -> None:
    (problem,) = problems_of(text)
    assert (line, column, path) == (problem.line, problem.column, problem.path), str(problem)
    assert phrase in str(problem)


def test_every_problem_of_a_file_is_reported_in_one_go() -> None:
    text = registry('{ulr: "http://a:1", host: rgi1, slots: 0}', top="hosts: {rig1: {}}\nlisten: 1\nlog: {levl: info}")
    assert [problem.path for problem in problems_of(text)] == [
        "models.qwen.instances[0].ulr",
        "models.qwen.instances[0].host",
        "models.qwen.instances[0].slots",
        "listen",
        "log.levl",
    ]


def test_a_problem_is_one_line_that_an_editor_can_jump_to() -> None:
    (problem,) = problems_of(registry('{ulr: "http://a:1"}'))
    assert str(problem) == 'router.yaml:3:18: models.qwen.instances[0].ulr: unknown key; did you mean "url"?'


def test_the_smallest_file_has_every_default() -> None:
    small = parse(SMALL, {})
    (instance,) = small.models["qwen"].instances
    assert instance == InstanceEntry(url="http://rig1:8080", id="rig1-8080")
    assert small == RouterFile(models=small.models)
    assert (small.listen, small.queue.max_waiting, small.queue.deadline_s) == ("127.0.0.1:8000", "auto", 120.0)
    assert (small.limits.body_bytes, small.deadlines.idle_s, small.cors) == (32 * 2**20, 75.0, None)


def test_the_shipped_example_loads_and_spells_out_the_defaults() -> None:
    example = parse(EXAMPLE.read_bytes(), {})
    assert list(example.models) == ["qwen3-coder", "gemma", "embed"]
    assert example == RouterFile(models=example.models, hosts=example.hosts)


BACKENDS = EXAMPLE.with_name("backends.example.yaml")


def test_the_example_of_other_servers_loads() -> None:
    example = parse(BACKENDS.read_bytes(), {"VLLM_KEY": "k", "HOSTED_KEY": "k"})
    pools = {name: [entry.dialect for entry in model.instances] for name, model in example.models.items()}
    assert pools == {"qwen3-coder": ["auto", "openai"], "big": ["anthropic"]}
    others = [entry for model in example.models.values() for entry in model.instances if entry.dialect != "auto"]
    assert all(entry.slots for entry in others)
    assert others[0].capabilities == Capabilities(images=False, thinking=True)


def test_an_instance_speaks_what_it_says_itself_and_can_what_it_says_itself_unless_told() -> None:
    (plain,) = parse(SMALL, {}).models["qwen"].instances
    assert (plain.dialect, plain.capabilities) == ("auto", Capabilities())
    assert parse(SMALL, {}).models["qwen"].tools == "auto"


def test_what_an_instance_can_is_true_false_or_left_out() -> None:
    text = registry('{url: "http://a:1", dialect: openai, capabilities: {images: no, tools: true, effort: On}}')
    (entry,) = parse(text.encode(), {}).models["qwen"].instances
    assert entry.capabilities == Capabilities(images=False, tools=True, effort=True)
    assert entry.dialect == "openai"


def test_the_operator_may_have_tools_passed() -> None:
    assert parse(registry(model="    tools: pass").encode(), {}).models["qwen"].tools == "pass"


def test_the_example_written_anew_by_a_yaml_library_means_the_same() -> None:
    rewritten = yaml.safe_dump(yaml.safe_load(EXAMPLE.read_text())).encode()
    assert parse(EXAMPLE.read_bytes(), {}) == parse(rewritten, {})


def test_keys_come_from_the_environment_and_from_the_host() -> None:
    text = registry(
        '{url: "http://a:1", host: rig1}, {url: "http://b:1", host: rig1, api_key: "${OWN}"}, '
        '{url: "http://c:1", api_key: "pre-${OWN}"}, {url: "http://d:1", api_key:}',
        top='hosts: {rig1: {api_key: "${RIG}"}}',
    )
    loaded = parse(text.encode(), {"RIG": "r", "OWN": "o"})
    assert [entry.api_key for entry in loaded.models["qwen"].instances] == ["r", "o", "pre-o", None]


@pytest.mark.parametrize(
    "text",
    [
        registry('{url: "http://a:1", api_key: sk hunter2}'),
        registry('{url: "http://a:1", api_key: "${hunter2"}'),
        registry('{url: "http://a:1", api_key: [hunter2]}'),
        registry('{url: "http://a:1", api_key: !hunter2 a}'),
        registry('{url: "http://a:1", api_key: "${K}"}'),
        registry('{url: "http://u:hunter2@a:1"}'),
        registry('{url: "http://a:1?key=hunter2"}'),
        registry('{url: "http://a:1", api_key: *hunter2}'),
        registry('{url: "http://a:1", api_key: a}, {url: "http://a:1", api_key: hunter2}'),
        registry('{url: "http://a:1", api_key: "hunter2'),
    ],
)
def test_no_secret_reaches_an_error(text: str) -> None:
    for problem in problems_of(text, {"K": "hunter2 "}):
        assert "hunter2" not in str(problem)
        assert "hunter2" not in repr(problem)


def test_anchors_repeat_a_whole_value() -> None:
    text = 'models:\n  a: &pool {instances: [{url: "http://rig1:1"}]}\n  b: *pool\n'
    loaded = parse(text.encode(), {})
    assert loaded.models["a"] == loaded.models["b"]


@given(st.binary())
def test_no_bytes_make_loading_fail_in_another_way(data: bytes) -> None:
    with contextlib.suppress(ConfigInvalid):
        parse(data, {})


KEYS = ["models", "qwen", "instances", "url", "listen", "queue", "deadline", "hosts", "aliases", "api_key", "cors"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text(max_size=8)
    | st.sampled_from(["http://a:1", "20s", "32MiB", "*", "${A}", "auto", "127.0.0.1:1"])
)


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | SCALARS, inner, max_size=5),
        max_leaves=30,
    )
)
def test_no_yaml_makes_loading_fail_in_another_way(tree: object) -> None:
    with contextlib.suppress(ConfigInvalid):
        parse(yaml.safe_dump(tree).encode(), {"A": "key"})


@given(st.integers(min_value=0, max_value=2500), st.binary(max_size=3), st.integers(min_value=0, max_value=40))
def test_no_damage_to_the_example_makes_loading_fail_in_another_way(place: int, put: bytes, cut: int) -> None:
    example = EXAMPLE.read_bytes()
    with contextlib.suppress(ConfigInvalid):
        parse(example[:place] + put + example[place + cut :], {})
