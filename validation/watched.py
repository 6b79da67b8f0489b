"""Run the command line as a user does, in a process of its own, and watch what it takes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

COMMAND = [sys.executable, "-m", "npsi_twin.cli"]


def resident_bytes(root: int) -> int:
    """Return the resident memory of a process and all its descendants (Linux)."""
    page = os.sysconf("SC_PAGE_SIZE")
    parents, sizes = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            sizes[int(entry.name)] = int((entry / "statm").read_text().split()[1]) * page
        except (OSError, IndexError):
            continue
        parents[int(entry.name)] = int(fields[1])
    family = {root}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(sizes.get(process, 0) for process in family)


def timed(arguments: list[str], environment: Mapping[str, str] | None = None) -> tuple[float, int, str]:
    """Run the command, some variables changed; return seconds, peak bytes of all its processes, and its output."""
    start = time.perf_counter()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | dict(environment or {}),
    ) as process:
        peak = 0

        def watch() -> None:
            nonlocal peak
            while process.poll() is None:
                peak = max(peak, resident_bytes(process.pid))
                time.sleep(0.1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        output = process.communicate()[0]
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{arguments} ended with {process.returncode}")
    return time.perf_counter() - start, peak, output
