"""`llama-router serve`: read the registry, open the port, run, and end well."""

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TextIO

import uvicorn

from router.app import Router, build
from router.cli.files import load, loader
from router.config.address import split_listen
from router.config.problem import ConfigInvalid
from router.edge.protocol import RouterProtocol
from router.observe.log import set_up_logging
from router.probe.reload import stamp

KEEP_ALIVE_S = 75
BACKLOG = 2048


def run(config: Path, *, listen: str | None, err: TextIO, env: Mapping[str, str]) -> int:
    """Serve until told to stop. 0: stopped as told; 1: could not start, and `err` says why."""
    again = loader(config, listen=listen, env=env)
    before = stamp(config)
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
    stamps = {config: before}
    if file.keys_file is not None:
        keys_path = config.parent / file.keys_file
        stamps[keys_path] = stamp(keys_path)
    router = build(file, keys, load=again, files=[config], stamps=stamps)
    server = _Server(_uvicorn_config(router), router)
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
    """uvicorn's server, which goes on answering while running calls finish, and ends well when it is told to end."""

    def __init__(self, config: uvicorn.Config, router: Router) -> None:
        super().__init__(config)
        self._router = router

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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new calls with 503, wait for the running ones, tell the rest that it is over; then let uvicorn close.

        The port stays open meanwhile: a load balancer reads /readyz there, and a client gets an answer, not a reset.
        """
        loop = asyncio.get_running_loop()
        self._router.stop_taking_calls()
        until_s = loop.time() + self._router.shutdown_grace_s
        # A flag that a signal handler sets and two conditions besides: an Event would need a waker for each.
        while self._router.calls_under_way and loop.time() < until_s and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        self._router.end_calls()
        self.config.timeout_graceful_shutdown = 1
        self.force_exit = False  # it has done its work; to uvicorn it would mean to leave the lifespan open
        await super().shutdown(sockets)


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


def _uvicorn_config(router: Router) -> uvicorn.Config:
    return uvicorn.Config(
        router.app,
        http=RouterProtocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
