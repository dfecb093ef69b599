import msgspec
import pytest

from router.config import schema
from router.config.schema import HostEntry, InstanceEntry, RouterFile

STRUCTS = [value for value in vars(schema).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)]


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_mapping_refuses_unknown_keys_and_changes(struct: type[msgspec.Struct]) -> None:
    config = struct.__struct_config__
    assert (config.frozen, config.forbid_unknown_fields) == (True, True)


def test_no_key_is_in_a_repr() -> None:
    entry = InstanceEntry(url="http://a:1", api_key="hunter2")
    host = HostEntry(api_key="hunter2")
    whole = RouterFile(
        models={"m": schema.ModelEntry(instances=(entry,))},
        hosts={"h": host},
    )
    for value in (entry, host, whole):
        assert "hunter2" not in repr(value)
        assert "api_key=<set>" in repr(value)
    assert "api_key=None" in repr(InstanceEntry(url="http://a:1"))


def test_the_repr_of_an_entry_leaves_no_field_out() -> None:
    for entry in (InstanceEntry(url="http://a:1"), HostEntry()):
        assert all(f"{name}=" in repr(entry) for name in entry.__struct_fields__)


def test_an_instance_is_known_by_its_id_or_by_host_and_port() -> None:
    assert InstanceEntry(url="http://rig1:8081", id="a").instance_id == "a"
    assert InstanceEntry(url="http://rig1:8081").instance_id == "rig1-8081"
