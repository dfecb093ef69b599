"""One visit: fresh llama-servers, so that every cache is cold, one router before them, and the users."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import uvloop

from benchmarks import measure, stand
from benchmarks.answers import MODEL
from benchmarks.contenders import Contender
from benchmarks.replay.deal import Part
from benchmarks.replay.filler import Filler
from benchmarks.replay.fronts import SLOTS
from benchmarks.replay.rows import Row, Visit
from benchmarks.replay.strand import Size
from benchmarks.replay.users import Play, Target
from router.demo.llama import LlamaProcess
from tests.rig.llama import tiny_spec

SERVERS = 4
READY_S = 120.0
# Of our router's record of a call.
KEPT = ("instance_id", "decision", "queue_s", "way")
FORESEEN = "foreseen_"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a contender is put under."""

    users: int
    cache_ram_mib: int
    round: int
    warm_s: float
    window_s: float
    size: Size = Size()


@contextmanager
def servers(cache_ram_mib: int, count: int = SERVERS) -> Iterator[list[LlamaProcess]]:
    """Fresh llama-servers of the tiny model: two slots each by an explicit --parallel, so with split KV; one thread."""
    spec = msgspec.structs.replace(tiny_spec(slots=SLOTS, cache_ram_mib=cache_ram_mib), alias=MODEL)
    with ExitStack() as stack:
        started = [stack.enter_context(LlamaProcess(spec)) for _ in range(count)]
        for server in started:
            server.wait_ready(READY_S)
        yield started


def visit(name: str, contender: Contender, load: Load, hands: Sequence[Sequence[Part]], filler: Filler) -> Visit:
    """Take one contender through the warm-up and the window.

    Raises:
        stand.StartFailed: it did not come up.

    """
    with servers(load.cache_ram_mib) as fleet:
        ports = [server.spec.port for server in fleet]
        with stand.standing(contender, ports, None) as (place, pid):
            target = Target(port=place.port, protocol=contender.protocol, headers=contender.headers)
            play = Play(target, filler, load.size)
            pids = [pid, *[server.pid for server in fleet]]
            before = _cpu_s(pids)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                rows = runner.run(play.run(hands, load.warm_s, load.window_s))
            ours_s, busy_s = (after - then for after, then in zip(_cpu_s(pids), before, strict=True))
            rows = with_log(rows, place.log)
    room_s = (load.warm_s + load.window_s) * len(measure.cores())
    return Visit(
        name=name,
        round=load.round,
        users=load.users,
        cache_ram_mib=load.cache_ram_mib,
        window_s=load.window_s,
        rows=rows,
        others=max(0.0, busy_s - ours_s) / room_s,
    )


def _cpu_s(pids: Sequence[int]) -> tuple[float, float]:
    """Seconds that this process and those have used, and that the cores were busy with anything."""
    ours_s = time.process_time() + sum(measure.cpu_s(pid) for pid in pids)
    return ours_s, sum(measure.core_busy_s(core) for core in measure.cores())


def with_log(rows: list[Row], log: Path) -> list[Row]:
    """Add what our router wrote down of each call; other routers' logs have nothing of the kind."""
    decoder = msgspec.json.Decoder(dict[str, object])
    written: dict[object, dict[str, str | float]] = {}
    for text in log.read_bytes().splitlines():
        try:
            line = decoder.decode(text)
        except msgspec.DecodeError:
            continue
        foreseen = line.get("foreseen")
        told = {FORESEEN + name: value for name, value in foreseen.items()} if isinstance(foreseen, dict) else {}
        kept = {name: value for name, value in line.items() if name in KEPT} | told
        written[line.get("request_id")] = {
            name: value for name, value in kept.items() if isinstance(value, str | float | int)
        }
    return [msgspec.structs.replace(row, log=written.get(row.request_id, {})) for row in rows]
