"""What the router itself tells of a chaos run: its log, and the sockets that it holds."""

import json
import re
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from tests.system.chaos_report import Report

EJECTED = re.compile(r"instance \S+: \w+ -> ejected \((\w+)\)")


def read_log(log: str, report: Report) -> dict[str, str]:
    """Failovers come from the records of the calls, faults from all else; returns failed calls by id."""
    failed: dict[str, str] = {}
    lines = log.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("{"):
            with suppress(ValueError):
                _read_record(line, json.loads(line), failed, report)
        elif line.startswith("Traceback"):
            frames = [*takewhile(lambda it: it.startswith(" "), lines[number + 1 :])]
            end = number + 1 + len(frames)
            report.faults.append("\n".join([lines[number - 1], *frames[-4:], *lines[end : end + 1]]))
        elif ("ERROR" in line or "CRITICAL" in line) and "the registry was not reloaded" not in line:
            report.faults.append(line)
        report.ejections.update(EJECTED.findall(line))
    return failed


def _read_record(line: str, record: dict[str, Any], failed: dict[str, str], report: Report) -> None:
    failed_on = record.get("failed_on", [])
    report.causes.update(record.get("causes", []))
    report.failed_over += bool(failed_on) and record["outcome"] == "ok"
    if record["outcome"] in {"failed", "refused"}:
        failed[record["request_id"]] = line
    if record.get("cause") == "router_error":
        report.faults.append(line)


def sockets_of(pid: int) -> list[str]:
    """The TCP sockets of a process: ports and state as in /proc/net/tcp (01 established, 08 close wait)."""
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(file.readlink().name.removeprefix("socket:[").rstrip("]"))
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if rest[5] in inodes:
            ports = [int(address.rpartition(":")[2], 16) for address in (local, remote)]
            found.append(f"{ports[0]}->{ports[1]} state {state}")
    return found
