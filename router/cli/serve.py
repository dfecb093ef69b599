"""`llama-router serve`: read the registry, open the port, run."""

import contextlib
import gc
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TextIO

import msgspec
import uvicorn

from router.app import build
from router.config.address import is_loopback, read_listen, split_listen
from router.config.keys import KeyEntry, parse_keys
from router.config.load import parse
from router.config.problem import ConfigInvalid, ConfigProblem
from router.config.schema import RouterFile
from router.edge.protocol import RouterProtocol
from router.observe.log import set_up_logging

KEEP_ALIVE_S = 75
BACKLOG = 2048


def run(config: Path, *, listen: str | None, err: TextIO, env: Mapping[str, str]) -> int:
    """Serve until told to stop. 0: stopped as told; 1: could not start, and `err` says why."""
    try:
        file, keys = load(config, listen=listen, env=env)
    except ConfigInvalid as error:
        print(error.message, file=err)
        return 1
    except OSError as error:
        print(_cannot_read(error, config), file=err)
        return 1
    try:
        listener = open_port(file.listen)
    except OSError as error:
        print(f"cannot listen on {file.listen}: {error.strerror}", file=err)
        return 1
    set_up_logging(file.log.level)
    server = _Server(_uvicorn_config(file, keys))
    host, port = listener.getsockname()[:2]
    print(f"llama-router answers on http://{f'[{host}]' if ':' in host else host}:{port}", file=err, flush=True)
    if keys is None:
        print("no keys_file: nobody is asked for a key, so only this machine can connect", file=err, flush=True)
    # What exists now lives as long as the process; the collector need not look at it again.
    gc.collect()
    gc.freeze()
    server.run(sockets=[listener])
    return 0


def _cannot_read(error: OSError, config: Path) -> str:
    if isinstance(error, FileNotFoundError) and Path(str(error.filename)) == config:
        return f"there is no file {config}; write one with: llama-router init URL > {config}"
    return f"cannot read {error.filename}: {error.strerror}"


class _Server(uvicorn.Server):
    """uvicorn's server, which ends well when it is told to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Mind SIGINT and SIGTERM while serving; the process then exits with 0.

        uvicorn would raise the signal again at the end, and a service manager would read that as a crash.
        """
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets running calls finish, the second ends them."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def load(config: Path, *, listen: str | None, env: Mapping[str, str]) -> tuple[RouterFile, tuple[KeyEntry, ...] | None]:
    """Read the registry and its keys file, which stands relative to it.

    Raises:
        ConfigInvalid: with every problem of the registry, or the first of the keys file.
        OSError: a file cannot be read.

    """
    data = config.read_bytes()
    file = parse(data, env, file=str(config))
    if listen is not None:
        file = msgspec.structs.replace(file, listen=_checked(listen, has_keys=file.keys_file is not None))
    if file.keys_file is None:
        return file, None
    keys_path = config.parent / file.keys_file
    return file, parse_keys(keys_path.read_bytes(), file=str(keys_path))


def _checked(listen: str, *, has_keys: bool) -> str:
    """The same rules for --listen as for the file's own address."""
    try:
        read_listen(listen)
    except ValueError as error:
        raise ConfigInvalid([_problem(str(error))]) from None
    if not has_keys and not is_loopback(split_listen(listen)[0]):
        raise ConfigInvalid(
            [_problem("other machines could connect, and without a keys_file nobody would be asked for a key; add one")]
        )
    return listen


def _problem(reason: str) -> ConfigProblem:
    return ConfigProblem(file="--listen", line=1, column=1, path="", reason=reason)


def open_port(listen: str) -> socket.socket:
    """Bind and listen, so that a busy port is known before anything else starts.

    Raises:
        OSError: the address is in use, not ours, or the name cannot be resolved.

    """
    host, port = split_listen(listen)
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _uvicorn_config(file: RouterFile, keys: tuple[KeyEntry, ...] | None) -> uvicorn.Config:
    return uvicorn.Config(
        build(file, keys),
        http=RouterProtocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(file.deadlines.shutdown_grace_s),
    )
