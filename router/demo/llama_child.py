"""The process of one real llama-server; `llama` starts it, with a LlamaSpec as JSON in its first argument."""

import sys
import threading

import msgspec
import xllamacpp

from router.demo.llama import LlamaSpec


def serve(spec: LlamaSpec) -> None:
    """Load the model, then answer until killed: SIGTERM ends it at once, as it does llama-server."""
    params = xllamacpp.CommonParams()
    params.model.path = spec.model_path
    params.model_alias = {spec.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = spec.port
    params.n_parallel = spec.slots
    params.kv_unified = spec.kv_unified
    params.n_ctx = spec.n_ctx
    params.cpuparams.n_threads = spec.threads
    params.cpuparams_batch.n_threads = spec.threads
    params.endpoint_metrics = spec.metrics
    params.endpoint_slots = spec.slots_endpoint
    params.cache_ram_mib = spec.cache_ram_mib
    params.sse_ping_interval = spec.sse_ping_s
    params.api_keys = [spec.api_key] if spec.api_key else []
    if spec.chat_template is not None:
        params.chat_template = spec.chat_template
    _server = xllamacpp.Server(params)  # returns once it answers; lives as long as the name
    threading.Event().wait()


if __name__ == "__main__":
    serve(msgspec.json.decode(sys.argv[1], type=LlamaSpec))
