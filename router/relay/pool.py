"""Connections to one instance that wait for their next call, by llama-server's habits.

It closes a connection after 5 s of idleness and after 100 requests (cpp-httplib 0.53), without a word; so ours rest
for 4 s and carry 99. The freshest goes out first, and the old ones go away by themselves.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable

from router.clock import monotonic_s
from router.errors import UpstreamBroke, UpstreamUnreachable
from router.fleet.instance import Instance, InstanceId
from router.relay.upstream import UpstreamConnection

MAX_IDLE_S = 4.0
MAX_USES = 99


class ConnectionPool:
    """Idle connections of one instance, and how to make a new one."""

    def __init__(self, instance: Instance, *, connect_s: float) -> None:
        self.instance = instance
        self._connect_s = connect_s
        self._idle: deque[UpstreamConnection] = deque()
        self._tls = _tls_context(instance)
        self._closed = False

    def __repr__(self) -> str:
        return f"ConnectionPool({self.instance.id}, {len(self._idle)} idle)"

    def take(self) -> UpstreamConnection | None:
        """Return the freshest idle connection; None when there is none that can be trusted."""
        oldest_s = monotonic_s() - MAX_IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.closed:
                continue
            if connection.idle_since_s > oldest_s:
                return connection
            connection.close()
        return None

    async def connect(self) -> UpstreamConnection:
        """Open a connection.

        Raises:
            UpstreamUnreachable: refused, or not made in time.
            UpstreamBroke: TLS failed.

        """
        loop = asyncio.get_running_loop()
        instance = self.instance
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(instance, self._put),
                    instance.address,
                    instance.port,
                    ssl=self._tls,
                )
        except ssl.SSLError as error:
            why = error.reason or "handshake"
            raise UpstreamBroke(
                f"instance {instance.id}: TLS failed ({why}); see its certificate and ca_file", instance_id=instance.id
            ) from None
        except TimeoutError:
            raise UpstreamUnreachable(
                f"instance {instance.id} took longer than {self._connect_s:g} s to accept a connection",
                instance_id=instance.id,
            ) from None
        except OSError:
            raise UpstreamUnreachable(
                f"instance {instance.id} refused the connection", instance_id=instance.id
            ) from None
        return connection

    def close_idle(self, older_than_s: float = 0.0) -> None:
        """Close what has rested for longer than `older_than_s`."""
        limit_s = monotonic_s() - older_than_s
        while self._idle and self._idle[0].idle_since_s <= limit_s:
            self._idle.popleft().close()

    def close(self) -> None:
        """Keep no connection any more; calls that still run on one finish, and then it is closed."""
        self._closed = True
        self.close_idle()

    def _put(self, connection: UpstreamConnection) -> None:
        if self._closed or connection.uses >= MAX_USES:
            connection.close()
            return
        connection.idle_since_s = monotonic_s()
        self._idle.append(connection)


class Pools:
    """A connection pool for each instance. `connect_s` may be set; it holds for connections to come."""

    def __init__(self, *, connect_s: float) -> None:
        self.connect_s = connect_s
        self._pools: dict[InstanceId, ConnectionPool] = {}

    def __repr__(self) -> str:
        return f"Pools[{', '.join(self._pools)}]"

    def __getitem__(self, instance: Instance) -> ConnectionPool:
        """The pool of an instance, made on first use."""
        pool = self._pools.get(instance.id)
        if pool is None or pool.instance is not instance:
            # A reload makes new Instance values, and the key or the certificate may have changed with them.
            if pool is not None:
                pool.close()
            pool = self._pools[instance.id] = ConnectionPool(instance, connect_s=self.connect_s)
        return pool

    def forget(self, gone: Iterable[InstanceId]) -> None:
        """Close what waits at instances that are not ours any more; calls that run there keep their connections."""
        for id_ in gone:
            pool = self._pools.pop(id_, None)
            if pool is not None:
                pool.close()

    def close_idle(self, older_than_s: float = 0.0) -> None:
        """Close idle connections everywhere."""
        for pool in self._pools.values():
            pool.close_idle(older_than_s)


def _tls_context(instance: Instance) -> ssl.SSLContext | None:
    if not instance.tls:
        return None
    return ssl.create_default_context(cafile=instance.ca_file)
