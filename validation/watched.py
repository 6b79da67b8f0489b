"""Run the command line as a user does, in a process of its own, and watch what it takes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

COMMAND = [sys.executable, "-m", "npsi_twin.cli"]


def users_environment(changed: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with some variables changed, and bytecode kept, as on most users' machines."""
    kept = os.environ | changed
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # every process would compile the package's source
    return kept


def resident_bytes(root: int) -> int:
    """Return the resident memory of a process and all its descendants (Linux); takes a millisecond itself."""
    page = os.sysconf("SC_PAGE_SIZE")
    family, size = [root], 0
    for process in family:
        folder = Path(f"/proc/{process}")
        try:
            size += int((folder / "statm").read_text().split()[1]) * page
            for thread in (folder / "task").iterdir():
                family += map(int, (thread / "children").read_text().split())
        except (OSError, IndexError):  # it ended meanwhile
            continue
    return size


def timed(arguments: list[str], environment: Mapping[str, str] | None = None) -> tuple[float, int, str]:
    """Run the command, some variables changed; return seconds, peak bytes of all its processes, and its output."""
    start = time.perf_counter()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=users_environment(environment or {}),
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
