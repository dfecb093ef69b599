"""`simulate`: a trace of calls through the real desk and placement, onto modelled servers, in virtual time."""

import gzip
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO

import msgspec

from router.balance.policy import Policy
from router.sim import claude_code, mooncake, records
from router.sim.dice import Dice
from router.sim.front import DeskFront
from router.sim.report import Report, report, table
from router.sim.run import Run
from router.sim.shape import Shape
from router.sim.talk import Talks

Format = Literal["claude-code", "mooncake", "records"]
# Of a closed loop, which has no end of its own; the first part fills caches.
CLOSED_LOOP_S, WARM_UP_S = 4800.0, 600.0
USERS = 32


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says. `seconds` None: as long as is usual.

    `part` (k, n): only every n-th session, from the k-th on; (1, 1) is all. `pool` "": the only one of the log.
    """

    trace: Path
    format: Format
    shape: Shape
    policy: Policy = "ptx"
    users: int = USERS
    load: float = 1.0
    seed: int = 1
    seconds: float | None = None
    part: tuple[int, int] = (1, 1)
    pool: str = ""
    as_json: bool = False


def options(arguments: Namespace) -> Options:
    """Take them from the parsed command line."""
    shape = Shape(
        instances=arguments.instances,
        slots=arguments.slots,
        ram_tokens=int(arguments.cache_ram * 1024 / arguments.kv_kib),
        unified=arguments.unified,
        factors=arguments.speeds,
    )
    return Options(
        trace=arguments.trace,
        format=arguments.format,
        shape=shape,
        policy=arguments.policy,
        users=arguments.users,
        load=arguments.load,
        seed=arguments.seed,
        seconds=arguments.seconds,
        part=arguments.part,
        pool=arguments.pool,
        as_json=arguments.json,
    )


class Told(Report, frozen=True, kw_only=True):
    """The report as JSON, with what it is of."""

    format: str
    policy: str
    instances: int
    seed: int


def run(options: Options, *, out: TextIO, err: TextIO) -> int:
    """Play the trace and print what came of it; 1 when the trace cannot be read or holds nothing to play."""
    try:
        shape, load = _read(options)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        print(f"{options.trace}: {reason}", file=err)
        return 1
    except (ValueError, EOFError) as error:
        print(f"{options.trace}: {error}", file=err)
        return 1
    told = play(options, shape, load)
    if options.as_json:
        print(msgspec.json.format(msgspec.json.encode(told)).decode(), file=out)
    else:
        print("\n".join(table([(f"{options.policy}, {shape.instances} instances", told)])), file=out)
    return 0


def play(options: Options, shape: Shape, load: Talks) -> Told:
    """One run, summed up."""
    closed = options.format == "claude-code"
    until_s = (options.seconds or CLOSED_LOOP_S) if closed else None
    going = Run(load, DeskFront(options.policy, shape.setups()), shape.servers(), until_s=until_s)
    outcomes = going.play()
    from_s = min(WARM_UP_S, until_s / 2) if until_s is not None else 0.0
    summed = report(outcomes, servers=shape.instances, from_s=from_s, still_open=going.open)
    return Told(
        format=options.format,
        policy=options.policy,
        instances=shape.instances,
        seed=options.seed,
        **msgspec.structs.asdict(summed),
    )


def _read(options: Options) -> tuple[Shape, Talks]:
    """The fleet, and what comes.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not hold what it should, or nothing at all.

    """
    dice = Dice(options.seed)
    match options.format:
        case "claude-code":
            sessions = claude_code.read(read_lines(options.trace))[options.part[0] - 1 :: options.part[1]]
            if not sessions:
                raise ValueError("no session is left to play")
            return options.shape, claude_code.users(sessions, options.users, dice)
        case "mooncake":
            requests = mooncake.read(read_lines(options.trace))
            if not requests:
                raise ValueError("there is no request in it")
            return options.shape, mooncake.arrivals(requests, options.load, options.seconds, dice)
        case "records":
            lines = _of_pool(records.read(read_lines(options.trace)), options.pool)
            shape = msgspec.structs.replace(options.shape, speed=records.speed(lines))
            return shape, records.arrivals(lines, options.load, options.seconds)


def _of_pool(lines: list[records.Line], pool: str) -> list[records.Line]:
    pools = sorted({line.pool for line in lines})
    if not pool and len(pools) > 1:
        raise ValueError(f"it holds calls of several models, choose one with --pool: {', '.join(pools)}")
    kept = [line for line in lines if not pool or line.pool == pool]
    if not kept:
        raise ValueError(f"no answered call of {pool} is in it" if pool else "no answered call is in it")
    return kept


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that may be compressed, empty ones left out."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            if line.strip():
                yield line
