import pytest

from router.balance import cost
from tests.fleet import sample


@pytest.mark.parametrize(("slots", "busy", "share"), [(4, 0, 0.0), (4, 1, 0.25), (4, 4, 1.0), (1, 2, 2.0), (0, 0, 1.0)])
def test_the_busy_share_is_leased_slots_over_slots(slots: int, busy: int, share: float) -> None:
    assert share == cost.busy_share(sample.row("a", slots=slots, busy=busy))


# Other processes, replicas and the next release must agree on these, or every conversation moves at once.
@pytest.mark.parametrize(
    ("affinity", "id_", "expected"),
    [
        (0, "rig1-gpu0", 214787050991132631),
        (0, "rig1-gpu1", 3232234989124146535),
        (0, "rig2", 10116815342496073142),
        (1, "rig1-gpu0", 4648423561432835778),
        (1, "rig2", 8351775765747229894),
        (2**64 - 1, "rig1-gpu0", 17514796298682581219),
        (2**64 - 1, "rig2", 11123743511950129942),
    ],
)
def test_the_rendezvous_number_is_the_same_everywhere_and_for_ever(affinity: int, id_: str, expected: int) -> None:
    assert expected == cost.rendezvous(affinity, id_)
