"""What the mock instance says of itself, to us and to the peers, each of which asks other pages."""

from collections.abc import Callable

import msgspec

from benchmarks import answers

SLOTS = 512  # capacity is never what limits a row
CONTEXT_TOKENS = 262144


def _props() -> bytes:
    return msgspec.json.encode(
        {
            "default_generation_settings": {"params": {"n_predict": -1}, "n_ctx": CONTEXT_TOKENS},
            "total_slots": SLOTS,
            "model_alias": answers.MODEL,
            "model_path": f"{answers.MODEL}.gguf",
            "modalities": {"vision": False, "video": False, "audio": False},
            "endpoint_slots": True,
            "endpoint_props": False,
            "endpoint_metrics": True,
            "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "build_info": "b9000-0000000",
            "is_sleeping": False,
        }
    )


def _models() -> bytes:
    meta = {"n_ctx_train": CONTEXT_TOKENS, "n_params": 1, "size": 1}
    card = {
        "id": answers.MODEL,
        "object": "model",
        "created": 1764000000,
        "owned_by": "llamacpp",
        "meta": meta,
    }
    return msgspec.json.encode({"object": "list", "data": [card], "models": []})


def _slots() -> bytes:
    return msgspec.json.encode(
        [{"id": n, "n_ctx": CONTEXT_TOKENS, "speculative": False, "is_processing": False} for n in range(SLOTS)]
    )


def _metrics() -> bytes:
    names = ("prompt_tokens_total", "tokens_predicted_total", "requests_processing", "requests_deferred")
    return "".join(f"# TYPE llamacpp:{name} gauge\nllamacpp:{name} 0\n" for name in names).encode()


def _about() -> bytes:
    """What the peers ask an engine of theirs when they start."""
    return msgspec.json.encode(
        {
            "model_path": answers.MODEL,
            "served_model_name": answers.MODEL,
            "model_type": "llama",
            "is_generation": True,
            "version": "0.0.0",
            "dp_size": 1,
            "tp_size": 1,
            "max_total_num_tokens": CONTEXT_TOKENS,
        }
    )


PAGES: dict[str, Callable[[], bytes]] = {
    "/health": lambda: b'{"status":"ok"}',
    "/v1/health": lambda: b'{"status":"ok"}',
    "/health_generate": lambda: b'{"status":"ok"}',
    "/props": _props,
    "/slots": _slots,
    "/metrics": _metrics,
    "/models": _models,
    "/v1/models": _models,
    "/get_model_info": _about,
    "/model_info": _about,
    "/get_server_info": _about,
    "/server_info": _about,
    "/version": _about,
    "/v1/messages/count_tokens": lambda: b'{"input_tokens":100}',
    "/tokenize": lambda: b'{"tokens":[1,2,3]}',
}

NOT_FOUND = b'{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}'
# vllm-router asks this before every chat call, to route by token ids where the engine can render them. An
# engine without it keeps the connection, while llama-server closes it: be kind to the peer.
QUIETLY_MISSING = frozenset({"/v1/chat/completions/render"})
