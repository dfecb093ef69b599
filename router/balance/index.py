"""Index: which instances may hold how much of a prompt, found without looking at each of them.

Every chain that is held anywhere is noted at every STRIDE-th of its units. Since an id stands for all that comes before
it, one look at the ids of a prompt, deepest first, tells how far each instance can go along with it.
"""

from collections.abc import Iterable

from router.balance.chain import Chain
from router.fleet.instance import InstanceId

STRIDE = 8


class Index:
    """Chains by instance. The same chain may be held several times; it is noted once."""

    def __init__(self) -> None:
        self._holders: dict[int, dict[InstanceId, int]] = {}
        self._held: dict[InstanceId, dict[int, Chain]] = {}

    def __repr__(self) -> str:
        return f"Index[{sum(map(len, self._held.values()))} chains of {len(self._held)} instances]"

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, instance_id: InstanceId, chains: Iterable[Chain]) -> None:
        """Say what an instance holds now. O(units / STRIDE) for each chain that came or went."""
        now = {id(chain): chain for chain in chains}
        before = self._held.get(instance_id, {})
        for key, chain in now.items():
            if key not in before:
                self._note(instance_id, chain, 1)
        for key, chain in before.items():
            if key not in now:
                self._note(instance_id, chain, -1)
        if now:
            self._held[instance_id] = now
        else:
            self._held.pop(instance_id, None)

    def at_most(self, chain: Chain) -> dict[InstanceId, int]:
        """Return how many units of a prompt each instance can have, less than STRIDE too many; those left out: so few.

        O(log units) and what is found.
        """
        ids, holders = chain.ids, self._holders
        low, high = 0, len(ids) // STRIDE
        while low < high:
            middle = (low + high + 1) // 2
            if ids[STRIDE * middle - 1] in holders:
                low = middle
            else:
                high = middle - 1
        found: dict[InstanceId, int] = {}
        for steps in range(low, 0, -1):
            units = min(len(ids), STRIDE * (steps + 1) - 1)
            for instance_id in holders[ids[STRIDE * steps - 1]]:
                found.setdefault(instance_id, units)
            if len(found) == len(self._held):
                break
        return found

    def _note(self, instance_id: InstanceId, chain: Chain, change: int) -> None:
        holders = self._holders
        for id_ in chain.ids[STRIDE - 1 :: STRIDE]:
            at = holders.setdefault(id_, {})
            count = at.get(instance_id, 0) + change
            if count:
                at[instance_id] = count
            else:
                del at[instance_id]
                if not at:
                    del holders[id_]
