"""What it costs to place a call on an instance, one function a term.

For now one term without a unit, the share of busy slots; seconds to the first token will replace it and nothing else.
"""

import xxhash

from router.fleet.instance import InstanceId
from router.fleet.view import Row


def busy_share(row: Row) -> float:
    """Leased slots over slots: 0 idle, 1 full."""
    return row.busy_share


def rendezvous(affinity: int, instance_id: InstanceId) -> int:
    """A number that falls the same way for one conversation on one instance, in every process and after a restart.

    The highest wins a tie (rendezvous hashing, Thaler and Ravishankar 1998), so that a conversation keeps its
    instance, and with it the warm KV cache, while nothing speaks against it; when an instance leaves, only its own
    conversations move.
    """
    return xxhash.xxh3_64_intdigest(instance_id.encode(), affinity)
