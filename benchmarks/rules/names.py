"""The rules by name."""

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.rules.aibrix import Aibrix
from benchmarks.rules.dynamo import Dynamo
from benchmarks.rules.gie import Gie
from benchmarks.rules.preble import Preble
from benchmarks.rules.rule import Rule
from benchmarks.rules.sglang import SGLang
from benchmarks.rules.simple import LeastInFlight, PowerOfTwo, RoundRobin, SessionHash
from router.sim.dice import Dice

RULES: Mapping[str, Callable[[Dice], Rule]] = {
    "rr": RoundRobin,
    "leastconn": LeastInFlight,
    "p2c": PowerOfTwo,
    "session-hash": SessionHash,
    "sglang": SGLang,
    "gie": Gie,
    "gie-nocap": partial(Gie, capped=False),
    "aibrix": Aibrix,
    "dynamo": Dynamo,
    "dynamo-exact": partial(Dynamo, exact=True),
    "preble": Preble,
}
