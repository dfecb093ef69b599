"""Every field of LlamaSpec reaches llama-server."""

import httpx

from tests.rig.start import StartLlama

ASK = {"max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}


def test_slots_context_alias_and_template_are_as_told(start_llama: StartLlama) -> None:
    server = start_llama(alias="a-name", slots=3, n_ctx=3 * 1024, chat_template="{{ messages[0].content }}")
    props = httpx.get(f"{server.url}/props").json()
    assert (props["total_slots"], props["default_generation_settings"]["n_ctx"]) == (3, 1024)
    assert (props["model_alias"], props["chat_template"]) == ("a-name", "{{ messages[0].content }}")


def test_a_unified_cache_gives_every_slot_all_of_it(start_llama: StartLlama) -> None:
    server = start_llama(slots=2, n_ctx=4096, kv_unified=True)
    assert httpx.get(f"{server.url}/props").json()["default_generation_settings"]["n_ctx"] == 4096


def test_endpoints_can_be_left_out(start_llama: StartLlama) -> None:
    server = start_llama(slots=1, n_ctx=1024, metrics=False, slots_endpoint=False)
    assert httpx.get(f"{server.url}/metrics").status_code == 501
    assert httpx.get(f"{server.url}/slots").status_code == 501


def test_a_key_is_asked_for_when_one_is_set(start_llama: StartLlama) -> None:
    server = start_llama(slots=1, n_ctx=1024, api_key="k1")
    assert httpx.post(f"{server.url}/v1/messages", json=ASK).status_code == 401
    right = {"Authorization": "Bearer k1"}
    assert httpx.post(f"{server.url}/v1/messages", json=ASK, headers=right).status_code == 200
