"""What each instance can do: asked once a kind, and anew when what is known of it changes."""

import msgspec

from router.config.schema import Capabilities
from router.fleet.instance import Facts, Instance
from router.fleet.view import Row
from router.relay.skills import Skills
from router.translate.fidelity import abilities
from tests.fleet import sample

FACTS = Facts(slots=2, tools=True)


def rows() -> dict[str, Row]:
    return {name: sample.row(name, facts=FACTS) for name in ("rig1", "rig2")}


def test_abilities_are_what_the_registry_and_the_instance_say() -> None:
    row = rows()["rig1"]
    assert abilities(row.instance, row.facts) == Skills().of(row)


def test_equal_abilities_are_one_object_and_others_are_not() -> None:
    skills, there = Skills(), rows()
    odd = msgspec.structs.replace(there["rig2"].instance, capabilities=Capabilities(tools=False))
    one, two, three = skills.of(there["rig1"]), skills.of(there["rig2"]), skills.of(with_instance(there["rig2"], odd))
    assert one is two
    assert (False, True) == (three.tools, one.tools)
    assert "Skills[2 instances, 2 kinds]" == repr(skills)


def with_instance(row: Row, instance: Instance) -> Row:
    return msgspec.structs.replace(row, instance=instance)


def test_what_is_learnt_later_counts_at_once() -> None:
    skills, row = Skills(), rows()["rig1"]
    assert skills.of(row).tools
    assert not skills.of(msgspec.structs.replace(row, facts=Facts(slots=2, tools=False))).tools
    assert skills.of(row).tools


def test_a_new_instance_under_an_old_id_is_asked_about_anew() -> None:
    skills, row = Skills(), rows()["rig1"]
    assert not skills.of(row).exact
    another = msgspec.structs.replace(row.instance, dialect="anthropic")
    assert skills.of(with_instance(row, another)).exact


def test_what_a_reload_has_taken_away_is_forgotten() -> None:
    skills = Skills()
    for row in rows().values():
        skills.of(row)
    skills.forget(["rig1", "never-asked"])
    assert "Skills[1 instances, 1 kinds]" == repr(skills)
