"""Fleet: the only mutable holder of what the instances are doing. Synchronous; each method takes the time it needs."""

import msgspec

from router.errors import NotFound
from router.fleet.closing import Arrival, Closing, in_time, not_freed
from router.fleet.health import SOFT, Event, Health, State, step
from router.fleet.instance import Facts, Instance, InstanceId, Process
from router.fleet.registry import Registry
from router.fleet.seat import Seat
from router.fleet.view import FleetView, Row


class Lease:
    """Our claim on one slot of one instance. Whoever holds it ends it once, on every path."""

    __slots__ = ("_fleet", "_seat", "_trials", "arrival", "instance", "unread")

    def __init__(self, fleet: "Fleet", seat: Seat) -> None:
        self._fleet = fleet
        self._seat: Seat | None = seat
        self._trials = seat.trials
        self.arrival = Arrival()
        self.unread = False
        self.instance = seat.row.instance

    def __repr__(self) -> str:
        return f"Lease({self.instance.id}, {'held' if self._seat else 'given back'})"

    @property
    def held(self) -> bool:
        """It has not ended yet."""
        return self._seat is not None

    def sent(self, now_s: float) -> None:
        """The request is on its way."""
        self.arrival.sent(now_s)

    def begin(self) -> None:
        """The head of the answer has come: the slot shows as processing. It may have done so for long.

        llama-server sends the head with the slot's first batch, and batches are filled slot by slot: behind other long
        prompts it was seen to take half a minute.
        """
        self.arrival.counted = True

    def reading(self, reads: bool) -> None:
        """Say whether the answer is being read; one that is not may be over at the instance without our seeing it.

        Once unread, doubtful until its end: what was not read then lies in buffers for long after.
        """
        self.unread = self.unread or not reads

    def is_at(self, seat: Seat) -> bool:
        """It is held there."""
        return self._seat is seat

    def give_back(self) -> None:
        """The call is over at the instance too. Doing it twice is harmless: the second time does nothing."""
        self._end(None)

    def close(self, now_s: float) -> None:
        """The call is over for us, and the instance may still be busy with it: the slot is not free yet."""
        self.arrival.sent(now_s, again=False)
        self._end(now_s)

    def _end(self, closed_s: float | None) -> None:
        seat, self._seat = self._seat, None
        if seat is None:
            return
        carried = self._trials != seat.trials
        seat.carried -= carried
        if closed_s is not None:
            seat.closing.append(Closing(closed_s, self.arrival, carried))
        seat.row = _with_counts(seat, seat.row.busy - 1)
        self._fleet.ended(self, seat)


class Asked(msgspec.Struct, frozen=True):
    """What we knew when an instance was asked how much it processes; its answer is weighed against that.

    `counted`: our calls that it surely counted then; `unsure`: those of which its answer may say so.
    """

    at_s: float
    counted: tuple[Lease, ...] = ()
    unsure: tuple[Lease, ...] = ()


class Fleet:
    """Health, facts and leases of every instance.

    A lease is granted here and nowhere else, so that no instance ever has more calls than slots.
    """

    def __init__(self, registry: Registry) -> None:
        self._seats: dict[InstanceId, Seat] = {}
        self._ids: dict[Process, InstanceId] = {}
        self._rows: dict[InstanceId, Row] = {}
        self._moved: dict[InstanceId, str] = {}
        self._departed: list[Seat] = []
        self._leases: set[Lease] = set()
        self._adopt(registry)

    def __repr__(self) -> str:
        rows = ", ".join(f"{id_} {row.health.state.value} {row.busy}/{row.slots}" for id_, row in self._rows.items())
        return f"Fleet[{rows}]"

    # ------------------------------------------------------------ leases

    def lease(self, instance_id: InstanceId) -> Lease | None:
        """Claim a slot; None when the instance has none free, does not serve, or is not ours (any more)."""
        seat = self._seats.get(instance_id)
        if seat is None or seat.row.free <= 0:
            return None
        seat.row = _with_counts(seat, seat.row.busy + 1)
        self._rows[instance_id] = seat.row
        lease = Lease(self, seat)
        self._leases.add(lease)
        return lease

    def ended(self, lease: Lease, seat: Seat) -> None:
        """Only for `Lease`."""
        self._leases.discard(lease)
        self._publish(seat)

    def _publish(self, seat: Seat) -> None:
        """Show a seat's row, unless a reload has put another instance in its place."""
        id_ = seat.row.instance.id
        if self._seats.get(id_) is seat:
            self._rows[id_] = seat.row
        elif not seat.in_use and seat in self._departed:
            self._departed.remove(seat)

    def closing(self) -> list[InstanceId]:
        """The instances that have slots which are closing."""
        return [id_ for id_, row in self._rows.items() if row.closing]

    def asking(self, instance_id: InstanceId, now_s: float) -> Asked:
        """Note what is known just before an instance is asked how much it processes; for `settle_closing`."""
        seat = self._seats.get(instance_id)
        ours = [lease for lease in self._leases if seat is not None and lease.is_at(seat)]
        return Asked(
            at_s=now_s,
            counted=tuple(lease for lease in ours if lease.arrival.counted),
            unsure=tuple(lease for lease in ours if not lease.arrival.counted),
        )

    def settle_closing(
        self,
        instance_id: InstanceId,
        now_s: float,
        *,
        asked: Asked | None = None,
        processing: int | None = None,
        decodes: int | None = None,
        mute: bool = False,
    ) -> bool:
        """Free closing slots; True when any became free.

        Those whose time is up; and, when the instance has said how many calls it has (processing and deferred), those
        that cannot be in that number: calls of ours that it surely counted when it was asked, are not over now and
        have always been read were in it. Every doubt errs towards waiting: weigh an answer some moments after it came,
        since the end of a call that was over by then may still have been on its way to us. `decodes`: how often it
        has decoded; None: it does not tell. While it is out nobody's time is up: a suspended process keeps what it
        had. `mute`: it answers and cannot say.
        """
        seat = self._seats.get(instance_id)
        if seat is None or not seat.closing:
            return False
        left = seat.closing
        if seat.row.health.state is not State.EJECTED:
            left = in_time(left, now_s, mute=mute)
        if asked is not None and processing is not None:
            at_s = asked.at_s
            ours = [*asked.counted, *(lease for lease in asked.unsure if lease.arrival.look(at_s, decodes))]
            for one in left:
                one.arrival.look(at_s, decodes)
            surely_ours = sum(lease.held and not lease.unread for lease in ours)
            left = not_freed(left, at_s, processing=processing, surely_ours=surely_ours)
        if len(left) == len(seat.closing):
            return False
        self._set_closing(seat, left)
        return True

    def _set_closing(self, seat: Seat, closing: list[Closing]) -> None:
        seat.closing = closing
        seat.row = _with_counts(seat, seat.row.busy)
        self._publish(seat)

    def departed(self) -> list[Row]:
        """The instances that a reload took away while calls of ours run there."""
        return [seat.row for seat in self._departed if seat.row.busy]

    def forget_departed(self, now_s: float) -> None:
        """Free the closing slots of those whose time is up; one where nothing of ours is left is not kept."""
        for seat in list(self._departed):
            self._set_closing(seat, in_time(seat.closing, now_s, mute=False))

    # ------------------------------------------------------------ health and facts

    def id_of(self, instance: Instance) -> InstanceId | None:
        """What the process that is reached there is called now; None when it is not ours any more."""
        return self._ids.get(instance.process)

    def observe(self, instance_id: InstanceId, event: Event, now_s: float) -> tuple[State, State]:
        """Apply what was seen of an instance; returns its state before and after. One that is gone stays UNKNOWN."""
        seat = self._seats.get(instance_id)
        if seat is None:
            return State.UNKNOWN, State.UNKNOWN
        before = seat.row.health
        health = step(before, event, now_s, last=event in SOFT and self._is_last(seat.row))
        if health is not before:
            seat.row = msgspec.structs.replace(seat.row, health=health)
            self._rows[instance_id] = seat.row
            self._follow(seat, event, before.state, now_s)
        return before.state, health.state

    def _follow(self, seat: Seat, event: Event, before: State, now_s: float) -> None:
        """What a change of health means for the rest of what is known."""
        if event is Event.RESUME:
            # Drained, changed and resumed: whatever model answers now is the one that it is meant to serve.
            seat.model = None
            if self._moved.pop(seat.row.instance.id, None) is not None:
                self._set_members()
        if event is Event.REFUSED:
            self._set_closing(seat, [])  # the process is gone, and what it was busy with too
        elif seat.row.health.state is before:
            return
        elif seat.row.health.state is State.PROBATION:
            # It was suspended or hung and has what it had: the time for it to notice begins now.
            seat.trials += 1
            seat.carried = seat.row.busy
            self._set_closing(seat, [Closing(now_s, one.arrival, carried=True) for one in seat.closing])
        elif before is State.PROBATION:
            self._set_closing(seat, seat.closing)

    def learn(self, instance_id: InstanceId, facts: Facts) -> Event:
        """Take what /props says; returns ANSWERED, SLEEPS, or SWAPPED when another model answers than before.

        The registry's `slots` wins over the instance's own count. A swapped instance moves to the pool whose instances
        serve that model, or whose name it has; where there is none it is out of place.
        """
        seat = self._seats.get(instance_id)
        if seat is None:
            return Event.ANSWERED
        row = seat.row
        slots = row.instance.slots or facts.slots
        if row.facts != facts or row.slots != slots:
            seat.row = msgspec.structs.replace(row, facts=facts, slots=slots)
            self._rows[instance_id] = seat.row
        if seat.model is None:
            seat.model = facts.model
        return self._place(seat, facts)

    def _place(self, seat: Seat, facts: Facts) -> Event:
        id_ = seat.row.instance.id
        well = Event.SLEEPS if facts.sleeping else Event.ANSWERED
        if facts.model is None or facts.model == seat.model:
            if self._moved.pop(id_, None) is not None:
                self._set_members()
            return well
        pool = self._pool_of(facts.model, besides=id_)
        if pool is None:
            return Event.SWAPPED
        if self._moved.get(id_) != pool:
            self._moved[id_] = pool
            self._set_members()
        return well

    def _pool_of(self, model: str, besides: InstanceId) -> str | None:
        for name, pool in self.view.registry.pools.items():
            if model == name or model in pool.aliases:
                return name
            for id_ in pool.instance_ids:
                if id_ != besides and self._seats[id_].model == model:
                    return name
        return None

    def _is_last(self, row: Row) -> bool:
        """It takes calls, and in one of its pools nobody else does."""
        return row.serving and any(
            all(other.instance.id == row.instance.id or not other.serving for other in self.view.pool_rows(pool))
            for pool, ids in self.view.members.items()
            if row.instance.id in ids
        )

    # ------------------------------------------------------------ the operator's verbs

    def named(self, name: str) -> list[InstanceId]:
        """The instances that an operator means by an instance id or a host.

        Raises:
            NotFound: there is neither.

        """
        if name in self._rows:
            return [name]
        ids = [id_ for id_, row in self._rows.items() if row.instance.host == name]
        if not ids:
            raise NotFound(f"there is no instance and no host {name!r}; llama-router status lists them")
        return ids

    def adopt(self, registry: Registry) -> tuple[list[Instance], list[InstanceId]]:
        """Take a new registry; returns the instances that are new and the ids that are gone.

        A process that stayed keeps health, facts and leases, whatever it is called now. One with another address is a
        new one; what still runs at the old one is finished there.
        """
        before = {id_: seat.row.instance for id_, seat in self._seats.items()}
        self._adopt(registry)
        after = {id_: seat.row.instance for id_, seat in self._seats.items()}
        new = [one for id_, one in after.items() if id_ not in before or not one.same_process(before[id_])]
        gone = [id_ for id_, one in before.items() if id_ not in after or not after[id_].same_process(one)]
        return new, gone

    def _adopt(self, registry: Registry) -> None:
        known = [*self._seats.values(), *self._departed]
        seats: dict[InstanceId, Seat] = {}
        for id_, instance in registry.instances.items():
            seat = next((one for one in known if one.row.instance.same_process(instance)), None)
            if seat is not None:
                slots = instance.slots or (seat.row.facts.slots if seat.row.facts else 0)
                health = seat.row.health
                if instance.pools != seat.row.instance.pools:
                    # It is listed under other models now: what it serves is what it is meant to serve.
                    seat.model = None
                    health = Health() if health.state is State.MISPLACED else health
                seat.row = msgspec.structs.replace(seat.row, instance=instance, slots=slots, health=health)
            else:
                seat = Seat(instance)
            seats[id_] = seat
        stay = set(map(id, seats.values()))
        # One that left while calls run there may come back before they are over; its slots are not free then.
        self._departed = [seat for seat in known if id(seat) not in stay and seat.in_use]
        self._follow_moved(seats, registry)
        self._seats = seats
        self._ids = {seat.row.instance.process: id_ for id_, seat in seats.items()}
        self._rows = {id_: seat.row for id_, seat in seats.items()}
        self.view = FleetView(registry=registry, rows=self._rows, members={})
        self._set_members()

    def _follow_moved(self, seats: dict[InstanceId, Seat], registry: Registry) -> None:
        """One that serves another model than it is listed under goes on doing so, whatever it is called now.

        When the pool of that model is gone nobody knows where it belongs: it takes no calls until it has been asked.
        """
        pools = {id(self._seats[id_]): pool for id_, pool in self._moved.items()}
        self._moved = {}
        for id_, seat in seats.items():
            pool = pools.get(id(seat))
            if pool is None:
                continue
            if pool in registry.pools:
                self._moved[id_] = pool
            elif seat.row.health.takes_calls:
                health = msgspec.structs.replace(seat.row.health, state=State.UNKNOWN)
                seat.row = msgspec.structs.replace(seat.row, health=health, carried=0)

    def _set_members(self) -> None:
        registry = self.view.registry
        members: dict[str, tuple[InstanceId, ...]] = {
            name: tuple(id_ for id_ in pool.instance_ids if self._moved.get(id_, name) == name)
            for name, pool in registry.pools.items()
        }
        for id_, name in self._moved.items():
            if id_ not in registry.pools[name].instance_ids:
                members[name] = (*members[name], id_)
        self.view = FleetView(registry=registry, rows=self._rows, members=members)


def _with_counts(seat: Seat, busy: int) -> Row:
    # Built by hand: structs.replace costs four times as much, and this runs twice a call.
    row, closing, carried = seat.row, seat.closing, 0
    if row.health.state is State.PROBATION:
        carried = seat.carried + sum(one.carried for one in closing)
    return Row(
        instance=row.instance,
        health=row.health,
        facts=row.facts,
        slots=row.slots,
        busy=busy,
        closing=len(closing),
        carried=carried,
    )
