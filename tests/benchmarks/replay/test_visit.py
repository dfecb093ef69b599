from pathlib import Path

from benchmarks.replay.visit import with_log
from tests.benchmarks.replay.test_figures import row

LOG = b"""starting
{"request_id":"r1","foreseen":{"cached_tokens":500,"read_s":0.1},"instance_id":"i","status":200,"dropped":["x"]}
{"request_id":"r3","instance_id":"j"}
[1]
"""


def test_what_our_router_wrote_of_a_call_is_put_to_its_row(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LOG)
    first, second, third = with_log([row(request_id="r1"), row(), row(request_id="r3")], path)
    assert {"foreseen_cached_tokens": 500, "foreseen_read_s": 0.1, "instance_id": "i"} == first.log
    assert (500, None, None) == (first.foreseen_tokens, second.foreseen_tokens, third.foreseen_tokens)
    assert {"instance_id": "j"} == third.log
