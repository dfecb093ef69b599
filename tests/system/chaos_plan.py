"""The plan of a chaos run: which troubles come, when, and to whom; from the seed alone."""

import math
import random
from collections.abc import Sequence

import msgspec

from tests.system.chaos_fleet import Subject

IN_TROUBLE = 2  # of the pool at a time, so that there is always somebody to go to
BLACKOUT_FROM_S = 45.0  # a shorter run has none: it would be mostly that
LONGEST_S = 10.0  # from the beginning of a trouble to its end
OPERATOR = ("drain", "rename", "remove", "move")
"""Troubles that the operator makes; they may cost nothing."""


class Act(msgspec.Struct, frozen=True):
    """One entry of the plan: at this second of the run, this trouble for this long."""

    at_s: float
    subject: str
    trouble: str
    for_s: float


def plan(pool: Sequence[Subject], seconds: float, dice: random.Random) -> list[Act]:
    """The troubles of the whole run, from the seed alone."""
    until: dict[str, float] = {}
    at_s = 1.0
    bags: dict[str, list[str]] = {}
    blackout_s = seconds * 0.6 if seconds >= BLACKOUT_FROM_S else math.inf
    acts = [] if blackout_s == math.inf else [Act(blackout_s, "everybody", "blackout", 1.5)]
    while True:
        at_s += dice.uniform(0.2, 1.0)
        if blackout_s - LONGEST_S < at_s < blackout_s + 5.0:
            continue
        well = [it for it in pool if until.get(it.name, 0.0) < at_s]
        if len(pool) - len(well) >= IN_TROUBLE:
            continue
        subject = dice.choice(well)
        # From a bag, so that each trouble comes before any comes again.
        if not (bag := bags.get(subject.name, [])):
            bag = [*OPERATOR, *subject.troubles, *subject.often]
            dice.shuffle(bag)
            if subject.name not in bags:
                bag.sort(key=lambda it: it in subject.first)  # it is taken from the end
            bags[subject.name] = bag
        act = Act(at_s, subject.name, bag.pop(), dice.uniform(0.4, 3.0))
        over_s = at_s + act.for_s * 1.5 + subject.extra_s.get(act.trouble, 0.0) + 1.0
        if at_s > seconds:
            return sorted(acts, key=lambda it: it.at_s)
        if over_s > seconds:
            bag.insert(0, act.trouble)  # there may be time for a shorter one
            continue
        until[subject.name] = over_s
        acts.append(act)
