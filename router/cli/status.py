"""`llama-router status`: the fleet of a running router as two tables."""

from collections.abc import Sequence
from typing import TextIO

from router.cli.talk import NoAnswer, Talk
from router.edge.admin import FleetStatus, InstanceStatus


def run(router_url: str, *, key: str | None, out: TextIO, err: TextIO) -> int:
    """Ask and print. 1: nobody answers there, or not as a router would."""
    try:
        fleet = Talk(router_url, key=key).get("/admin/fleet", FleetStatus)
    except NoAnswer as error:
        print(error, file=err)
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
            _busy(instance),
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


def _busy(instance: InstanceStatus) -> str:
    closing = f" +{instance.closing} closing" if instance.closing else ""
    return f"{instance.busy}/{instance.slots or '?'}{closing}"
