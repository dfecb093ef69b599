"""Small fleets for the tests of every room that looks at one."""

from collections.abc import Iterable, Mapping

import msgspec

from router.fleet.fleet import Fleet
from router.fleet.health import Event, Health, State
from router.fleet.instance import Facts, Instance
from router.fleet.registry import Pool, Registry
from router.fleet.view import FleetView, Row


def instance(id_: str, slots: int | None = None, *, at: str | None = None) -> Instance:
    """An instance at an address of its own; `at` another instance's id: the same process under another name."""
    address = f"{at or id_}.example"
    return Instance(id=id_, address=address, port=8080, authority=f"{address}:8080", slots=slots)


def registry(pools: Mapping[str, Iterable[str]], slots: int | None = None) -> Registry:
    """Pools by name, each with the ids of its instances; every instance has `slots`."""
    ids = {id_: None for members in pools.values() for id_ in members}
    return Registry(
        instances={id_: msgspec.structs.replace(instance(id_, slots), pools=_listing(pools, id_)) for id_ in ids},
        pools={
            name: Pool(name=name, aliases=(), display_name=name, instance_ids=tuple(members))
            for name, members in pools.items()
        },
    )


def _listing(pools: Mapping[str, Iterable[str]], id_: str) -> tuple[str, ...]:
    return tuple(name for name, members in pools.items() if id_ in members)


def fleet(pools: Mapping[str, Iterable[str]], slots: int | None = 1) -> Fleet:
    """A fleet in which every instance serves; with `slots` None, as many as /props would say: none yet."""
    made = Fleet(registry(pools, slots))
    for id_ in made.view.rows:
        made.observe(id_, Event.ANSWERED, 0.0)
    return made


def row(
    id_: str,
    *,
    slots: int = 2,
    busy: int = 0,
    closing: int = 0,
    carried: int = 0,
    state: State = State.SERVING,
    absences: int = 0,
    facts: Facts | None = None,
) -> Row:
    health = Health(state=state, absences=absences)
    return Row(
        instance=instance(id_), health=health, facts=facts, slots=slots, busy=busy, closing=closing, carried=carried
    )


def view(*rows: Row, pool: str = "m") -> FleetView:
    """One pool of these rows, in this order."""
    ids = [it.instance.id for it in rows]
    known = registry({pool: ids})
    return FleetView(registry=known, rows={it.instance.id: it for it in rows}, members={pool: tuple(ids)})
