"""`llama-router status`: the fleet of a running router as two tables."""

from collections.abc import Sequence
from typing import TextIO

import httpx
import msgspec

from router.edge.admin import FleetStatus

DEADLINE_S = 5.0


def run(router_url: str, *, out: TextIO, err: TextIO) -> int:
    """Ask and print. 1: nobody answers there, or not as a router would."""
    url = router_url if "://" in router_url else f"http://{router_url}"
    try:
        response = httpx.get(f"{url.rstrip('/')}/admin/fleet", timeout=DEADLINE_S, trust_env=False)
        fleet = msgspec.json.decode(response.content, type=FleetStatus)
    except (httpx.HTTPError, httpx.InvalidURL):
        print(f"no router answers at {url}; is it running there? --router URL names another", file=err)
        return 1
    except msgspec.DecodeError:
        print(f"{url} answers, but not as a router on this machine would; --router URL names another", file=err)
        return 1
    print(render(fleet), file=out)
    return 0


def render(fleet: FleetStatus) -> str:
    """Two tables: instances, and models with who waits for them."""
    instances = [
        (
            instance.id,
            instance.host or "-",
            instance.state,
            f"{instance.busy}/{instance.slots or '?'}",
            f"{instance.ctx_tokens:,}" if instance.ctx_tokens else "?",
            ", ".join(instance.models),
        )
        for instance in fleet.instances
    ]
    models = [(pool.model, str(pool.waiting), ", ".join(pool.aliases) or "-") for pool in fleet.models]
    return "\n".join(
        [
            *_table(("INSTANCE", "HOST", "STATE", "BUSY", "CONTEXT", "MODELS"), instances),
            "",
            *_table(("MODEL", "QUEUE", "ALIASES"), models),
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
