from router.sim.shape import Shape
from router.sim.speed import Speed


def test_every_server_is_alike_unless_it_is_said() -> None:
    servers = Shape(instances=3, slots=2, unified=True).servers()
    assert [2, 2, 2] == [server.slots for server in servers]
    assert [Speed()] * 3 == [server.speed for server in servers]
    assert 3 == len({id(server.kv) for server in servers})


def test_speeds_are_given_in_turn() -> None:
    servers = Shape(instances=5, factors=(1.0, 0.5), speed=Speed(factor=0.5)).servers()
    assert [0.5, 0.25, 0.5, 0.25, 0.5] == [server.speed.factor for server in servers]


def test_the_router_is_told_all_but_the_speed() -> None:
    shape = Shape(instances=2, slots=3, ram_tokens=1000, unified=True, factors=(1.0, 0.5))
    one, other = shape.setups()
    assert one == other
    assert (3, 1000, True) == (one.slots, one.ram_tokens, one.unified)


def test_eight_gibibyte_are_87_thousand_tokens() -> None:
    assert 87_381 == Shape(instances=1).ram_tokens
