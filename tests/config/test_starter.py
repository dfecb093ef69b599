import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config.load import parse
from router.config.starter import Served, Server, Silent, read_server, registry_text

PROPS = {
    "model_alias": "qwen3-coder",
    "model_path": "/models/Qwen3-Coder-Q4_K_M.gguf",
    "total_slots": 4,
    "default_generation_settings": {"n_ctx": 32768},
    "build_info": "b7000-abc",
    "modalities": {"vision": True, "audio": False},
    "chat_template_caps": {"supports_tools": True, "supports_system_role": True, "supports_tool_calls": False},
    "endpoint_metrics": True,
    "endpoint_slots": False,
}


def name_of(props: object, listing: object = None) -> str:
    (model,) = read_server("http://a:1", props, listing).models
    return model.name


@pytest.mark.parametrize(
    ("props", "listing", "name"),
    [
        (PROPS, None, "qwen3-coder"),
        (PROPS | {"model_alias": "/models/Qwen3 Coder-Q4_K_M.gguf"}, None, "qwen3-coder-q4_k_m"),
        (PROPS | {"model_alias": "Qwen3-Coder-Q4_K_M.gguf"}, None, "qwen3-coder-q4_k_m"),
        (PROPS | {"model_alias": "", "model_path": "C:\\m\\Big-00001-of-00003.gguf"}, None, "big"),
        ({"total_slots": 1}, {"data": [{"id": "ggml-org/gemma:Q4_K_M"}]}, "ggml-org/gemma:Q4_K_M"),
        (None, {"data": [{"id": "/models/ä.gguf"}]}, "model"),
        ({"total_slots": 1}, None, "model"),
        ({"model_alias": "has space and *"}, None, "has-space-and"),
    ],
)
def test_a_model_is_named_by_alias_by_listing_or_by_its_file(props: object, listing: object, name: str) -> None:
    assert name == name_of(props, listing)


def test_what_a_server_says_becomes_a_comment_and_an_entry() -> None:
    text = registry_text([read_server("http://rig1:8080", PROPS, None)])
    assert (
        "# 4 slots of 32768 tokens each, build b7000-abc, takes text and vision, "
        "template has system_role tools, /metrics on, /slots off\n"
        '      - {id: llama-1, url: "http://rig1:8080"}\n'
    ) in text
    assert parse(text.encode(), {}).models["qwen3-coder"].instances[0].url == "http://rig1:8080"


def test_servers_of_one_model_become_one_pool() -> None:
    text = registry_text([read_server(f"http://rig{number}:8080", PROPS, None) for number in (1, 2)])
    (pool,) = parse(text.encode(), {}).models.values()
    assert [entry.id for entry in pool.instances] == ["llama-1", "llama-2"]


def test_other_aliases_are_kept_where_they_lead_to_one_model() -> None:
    listing = {"data": [{"id": "qwen3-coder", "aliases": ["qwen3-coder", "coder", "b"]}]}
    servers = [
        read_server("http://rig1:8080", PROPS, listing),
        read_server("http://rig2:8080", {"model_alias": "b"}, {"data": [{"id": "b", "aliases": ["coder"]}]}),
    ]
    models = parse(registry_text(servers).encode(), {}).models
    assert {name: model.aliases for name, model in models.items()} == {"b": ("coder",), "qwen3-coder": ()}


def test_a_router_mode_server_stands_under_each_of_its_models() -> None:
    data = [{"id": "org/a:Q4", "status": {"value": "loaded"}}, {"id": "Odd Name"}, {"id": 7}, "x"]
    server = read_server("http://rig1:8080", {"role": "router", "build_info": "b1"}, {"data": data})
    assert [model.asked for model in server.models] == ["org/a:Q4", "Odd Name"]
    text = registry_text([server])
    assert "router mode (now loaded), slots not known" in text
    models = parse(text.encode(), {}).models
    assert {name: model.instances[0].model for name, model in models.items()} == {
        "org/a:Q4": "org/a:Q4",
        "odd-name": "Odd Name",
    }


def test_a_silent_server_stays_as_a_comment_with_its_reason() -> None:
    silent = Silent(url="http://rig2:8080", reason="needs a key\nmodels: {}")
    text = registry_text([read_server("http://rig1:8080", PROPS, None), silent])
    assert '  #     - {url: "http://rig2:8080"}   # needs a key models: {}\n' in text
    assert len(parse(text.encode(), {}).models) == 1


def test_a_key_is_written_as_the_name_of_its_variable() -> None:
    text = registry_text([read_server("http://rig1:8080", PROPS, None, key_variable="RIG_KEY")])
    assert "# Needs the environment variable RIG_KEY.\n" in text
    assert parse(text.encode(), {"RIG_KEY": "k"}).models["qwen3-coder"].instances[0].api_key == "k"


def test_a_server_without_props_gets_a_guess_that_says_so() -> None:
    text = registry_text([read_server("http://gw:1", None, {"data": [{"id": "m"}]})])
    assert "no /props, so slots is a guess" in text
    assert parse(text.encode(), {}).models["m"].instances[0].slots == 1


@pytest.mark.parametrize("body", [None, [], "hello", {"ok": True}, {"data": "x"}])
def test_what_does_not_look_like_llama_server_has_no_models(body: object) -> None:
    assert read_server("http://a:1", body, body).models == ()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(sorted([*PROPS, "role"])), ANYTHING | st.just("router")),
    st.lists(st.dictionaries(st.sampled_from(["id", "aliases", "status"]), ANYTHING | st.lists(st.text()))),
)
def test_whatever_servers_say_the_file_can_be_loaded(
    props: dict[str, object], entries: list[dict[str, object]]
) -> None:
    servers = [read_server(f"http://rig{number}:80", props, {"data": entries}) for number in (1, 2)]
    if servers[0].models:
        text = registry_text(servers)
        assert yaml.safe_load(text)
        names = {model.name for server in servers for model in server.models}
        assert names == set(parse(text.encode(), {}).models)


def test_a_model_is_listed_once_for_a_server() -> None:
    served = (Served(name="m", asked="m"),)
    assert registry_text([Server(url="http://a:1", models=served)]).count("http://a:1") == 1
