"""What a scripted instance says about itself: /health, /props, /slots, /metrics, /v1/models, count_tokens."""

from typing import TYPE_CHECKING

from tests.rig.fake_seen import MESSAGES, Seen
from tests.rig.fake_slots import prompt_words

if TYPE_CHECKING:
    from tests.rig.fake import FakeInstance
    from tests.rig.fake_turn import Turn

PUBLIC = {"/health", "/v1/health", "/"}
CHATML = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}"


def may_enter(fake: "FakeInstance", seen: Seen) -> bool:
    """llama-server's key check: Authorization wins, X-Api-Key only counts without it."""
    if fake.api_key is None or seen.path in PUBLIC:
        return True
    offered = seen.header("authorization") or seen.header("x-api-key") or ""
    return offered.removeprefix("Bearer ") == fake.api_key


async def serve(turn: "Turn") -> None:
    fake = turn.fake
    match turn.seen.method, turn.seen.path:
        case "GET", "/health" | "/v1/health":
            await turn.json(200, {"status": "ok"})
        case "GET", "/props":
            await turn.json(200, props(fake))
        case "GET", "/slots":
            await turn.json(200, slots(fake))
        case "GET", "/v1/models" | "/models":
            await turn.json(200, models(fake))
        case "GET", "/metrics":
            started = (f"Process-Start-Time-Unix: {490941209 + fake.starts}",)
            await turn.send(200, "text/plain; version=0.0.4", metrics(fake), extra=started)
        case "POST", path if path == f"{MESSAGES}/count_tokens":
            await turn.json(200, {"input_tokens": len(prompt_words(turn.seen.json))})
        case _:
            await turn.error(404, "File Not Found", "not_found_error")


def props(fake: "FakeInstance") -> dict[str, object]:
    return {
        "default_generation_settings": {"params": {"temperature": 0.8}, "n_ctx": fake.n_ctx},
        "total_slots": fake.slots,
        "model_alias": fake.model,
        "model_ftype": "F16",
        "model_path": f"/models/{fake.model}.gguf",
        "modalities": {"vision": False, "video": False, "audio": False},
        "endpoint_slots": True,
        "endpoint_props": False,
        "endpoint_metrics": True,
        "chat_template": CHATML,
        "chat_template_caps": {"supports_tools": True, "supports_system_role": True},
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "build_info": "b0-unknown",
        "is_sleeping": False,
        **fake.props,
    }


def slots(fake: "FakeInstance") -> list[dict[str, object]]:
    return [
        {
            "id": slot,
            "n_ctx": fake.n_ctx,
            "speculative": False,
            "is_processing": slot in fake.house.busy,
            "n_prompt_tokens": len(words),
        }
        for slot, words in enumerate(fake.house.prompts)
    ]


def models(fake: "FakeInstance") -> dict[str, object]:
    meta = {"n_vocab": 49152, "n_ctx": fake.n_ctx, "n_ctx_train": fake.n_ctx, "n_params": 1}
    model = {"id": fake.model, "aliases": [fake.model], "tags": [], "object": "model", "owned_by": "llamacpp"}
    listed = {"name": fake.model, "model": fake.model, "capabilities": ["completion"]}
    return {"models": [listed], "object": "list", "data": [{**model, "created": 1795363657, "meta": meta}]}


def metrics(fake: "FakeInstance") -> bytes:
    values = {
        ("prompt_tokens_total", "counter"): fake.prompt_tokens,
        ("prompt_tokens_cached_total", "counter"): fake.cached_tokens,
        ("tokens_predicted_total", "counter"): fake.tokens_predicted,
        ("n_decode_total", "counter"): fake.tokens_predicted,
        ("requests_processing", "gauge"): len(fake.house.busy),
        ("requests_deferred", "gauge"): fake.house.deferred,
    }
    lines = [
        f"# HELP llamacpp:{name} Scripted.\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n"
        for (name, kind), value in values.items()
    ]
    return "".join(lines).encode()
