"""A client with whatever anthropic SDK is on the path: does the jobs on its stdin, prints what the SDK said of each.

Run as a program of its own, since only one SDK can be imported in a process. `sdk_client.cjs` is the same for Node.
"""

import json
import sys
from collections import Counter
from typing import Any

import anthropic

# So that the model says the same each time; the newest SDK has no argument for it.
SURE: dict[str, Any] = {"extra_body": {"temperature": 0}}


def main() -> None:
    told = json.load(sys.stdin)
    said: dict[str, Any] = {"version": anthropic.__version__}
    with anthropic.Anthropic(base_url=told["url"], api_key="any", max_retries=0, timeout=60) as client:
        for name, (how, ask) in told["jobs"].items():
            try:
                said[name] = JOBS[how](client, ask)
            except anthropic.APIStatusError as error:
                said[name] = refused(error)
    json.dump(said, sys.stdout)


def plain(client: Any, ask: dict[str, Any]) -> dict[str, Any]:
    return of_message(client.messages.create(**ask, **SURE))


def streamed(client: Any, ask: dict[str, Any]) -> dict[str, Any]:
    deltas = Counter[str]()
    with client.messages.stream(**ask, **SURE) as stream:
        for event in stream:
            if event.type == "content_block_delta":
                deltas[event.delta.type] += 1
        return {**of_message(stream.get_final_message()), "deltas": deltas}


def counted(client: Any, ask: dict[str, Any]) -> dict[str, Any]:
    return {"prompt_tokens": client.messages.count_tokens(**ask).input_tokens}


def listed(client: Any, ask: dict[str, Any]) -> dict[str, Any]:
    return {"ids": [model.id for model in client.models.list(**ask)]}


JOBS = {"plain": plain, "streamed": streamed, "counted": counted, "listed": listed}


def of_message(message: Any) -> dict[str, Any]:
    usage = message.usage
    return {
        "model": message.model,
        "stop": [message.stop_reason, message.stop_sequence],
        "kinds": [it.type for it in message.content],
        "text": "".join(it.text for it in message.content if it.type == "text"),
        "thinking": "".join(it.thinking for it in message.content if it.type == "thinking"),
        "calls": [[it.name, it.input] for it in message.content if it.type == "tool_use"],
        "prompt_tokens": usage.input_tokens + (usage.cache_read_input_tokens or 0),
        "output_tokens": usage.output_tokens,
    }


def refused(error: Any) -> dict[str, Any]:
    return {
        "class": type(error).__name__,
        "status": error.status_code,
        "type": error.body["error"]["type"],
        "message": error.body["error"]["message"],
        "has_request_id": str(error.request_id or "").startswith("req_"),
    }


if __name__ == "__main__":
    main()
