"""CPU time and memory of a router's process tree, from Linux's own counters.

CPU comes from the kernel's clock of each process (nanoseconds, user and system, ended threads included), not
from /proc/PID/stat, which counts in hundredths of a second. A child that ended and was waited for is missed:
no contender has short-lived children.
"""

import os
import time
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_HZ = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(_parent(entry), []).append(int(entry.name))
    found = [root]
    for pid in found:  # grows while it is walked
        found += children.get(pid, [])
    return found


def cpu_s(root: int) -> float:
    """CPU seconds that the tree has used so far."""
    return sum(_cpu_s(pid) for pid in tree(root))


def rss_bytes(root: int) -> int:
    """Resident memory of the tree; pages shared between its processes count in each."""
    return sum(_rss(pid) for pid in tree(root))


def core_busy_s(core: int) -> float:
    """Seconds that a core was busy since boot, with anything."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            ticks = [int(field) for field in fields[:8]]
            return (sum(ticks) - ticks[3] - ticks[4]) / TICKS_HZ  # all but idle and iowait
    return 0.0


def cores() -> list[int]:
    """The cores this process may use."""
    return sorted(os.sched_getaffinity(0))


def machine() -> str:
    """One line about the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()}, {len(cores())} cores"
    return f"{len(cores())} cores"


def _cpu_s(pid: int) -> float:
    # The clock id of another process, as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED is 2.
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _parent(entry: Path) -> int:
    try:
        # The name in parentheses may hold spaces; the fields after it cannot.
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return -1


def _rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0
