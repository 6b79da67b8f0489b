"""How much memory there is: what the machine has, what its control group allows, or what a caller sets as the most.

A process in a container or under Slurm is ended when it takes more than its control group may, however much memory the
machine has. The limits of all groups above it count as well. What a process frees it may keep, and use again.
"""

import ctypes
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Timer

from npsi_twin.errors import ParameterError

#: The most that `limited_memory` allows, in bytes; worker processes inherit it.
_MOST = "NPSI_TWIN_MAX_MEMORY_BYTES"
#: Names of mallopt(3), and what the GNU C library begins with.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _AT_FIRST = -1, -3, 128 * 1024
#: Arrays of this size are still given back at once, so that gaps between those that are kept stay small.
_LARGE = 128 * 1024**2
#: How long memory is kept for what follows.
_SECONDS_KEPT = 1.0
#: What gives back what was freed, where a process is not ours alone.
_giving_back: list[Timer] = []


@dataclass(frozen=True)
class Memory:
    """An amount of memory in bytes, and what sets it, for messages: "this machine has", "--max-memory allows"."""

    size_bytes: float
    set_by: str

    def __str__(self) -> str:
        return f"{self.set_by} {self.size_bytes / 2**30:.3g} GiB"


def memory_there() -> Memory:
    """Return how much memory this process may take.

    Examples
    --------
    >>> with limited_memory("2MiB"):
    ...     print(memory_there())
    --max-memory allows 0.00195 GiB
    """
    known = hasattr(os, "sysconf")
    physical = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if known else math.inf
    found = [
        Memory(physical, "this machine has"),
        Memory(control_group_bytes(), "the control group of this process (a container, or a job) allows"),
        Memory(float(os.environ.get(_MOST, math.inf)), "--max-memory allows"),
    ]
    return min(found, key=lambda memory: memory.size_bytes)


@contextmanager
def limited_memory(most: str | None) -> Iterator[None]:
    """Let `memory_there` answer at most this for a while; None changes nothing.

    Parameters
    ----------
    most
        An amount such as ``"8GiB"``.

    Raises
    ------
    ParameterError
        When that is no amount of memory.
    """
    if most is None:
        yield
        return
    before = os.environ.get(_MOST)
    os.environ[_MOST] = str(memory_bytes(most))
    try:
        yield
    finally:
        os.environ.pop(_MOST)
        os.environ.update({} if before is None else {_MOST: before})


def memory_bytes(text: str) -> float:
    """Read an amount of memory, in bytes.

    Raises
    ------
    ParameterError
        When it is none.

    Examples
    --------
    >>> memory_bytes("1.5 GiB"), memory_bytes("500MB")
    (1610612736.0, 500000000.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT])(i?)B\s*", text)
    if found is None:
        raise ParameterError(f"--max-memory: got {text!r}; write a number with kB, MB, GB, TB, or KiB, MiB, GiB, TiB.")
    number, prefix, binary = found.groups()
    return float(number) * math.pow(1024 if binary else 1000, "KMGT".index(prefix.upper()) + 1)


def control_group_bytes(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the memory that the control groups of this process allow, in bytes; infinity where there is no limit.

    Parameters
    ----------
    groups
        Which groups it is in, as Linux tells it (cgroups(7)): a line ``0::PATH`` of version 2, or one of version 1
        that names the controller ``memory``.
    mounted
        Where the groups are seen as folders.

    Returns
    -------
    float
        The smallest limit of the groups from there up.

    Examples
    --------
    >>> control_group_bytes(Path("/nowhere"))
    inf
    """
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf  # no Linux
    smallest = math.inf
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        top, name = (mounted, "memory.max") if number == "0" else (mounted / "memory", "memory.limit_in_bytes")
        here = top / path.lstrip("/")
        # In a container the path may be the host's, of which the container sees the top alone.
        for folder in (here, *here.parents):
            if folder.is_relative_to(top):
                smallest = min(smallest, _limit(folder / name))
    return smallest


def _limit(file: Path) -> float:
    try:
        return float(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none is set there: version 2 says "max"
        return math.inf


def keep_freed_memory() -> None:
    """Have this process keep memory that it frees, and use it again, where the C library is GNU's.

    That library gives arrays of a megabyte back to the system, which zeroes every page of the next one: a fifth of the
    time of a run. Arrays of 128 MiB and more are still given back. Peak memory grows by a tenth.
    """
    _tell_allocator(trim_threshold=2**31 - 1, mmap_threshold=_LARGE)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory for a while, and give it back a second after the end: for a process that is not ours alone.

    What begins within that second finds it; a worker whose tasks follow one another touches its memory once.
    """
    for timer in _giving_back:
        timer.cancel()
    keep_freed_memory()
    try:
        yield
    finally:
        _giving_back[:] = [after_keeping(partial(_tell_allocator, _AT_FIRST, _AT_FIRST, trim=True))]


def after_keeping(give_back: Callable[[], None]) -> Timer:
    """Give memory back once it was kept for a second, in a thread that nobody waits for; cancel what is returned."""
    timer = Timer(_SECONDS_KEPT, give_back)
    timer.daemon = True
    timer.start()
    return timer


def _tell_allocator(trim_threshold: int, mmap_threshold: int, *, trim: bool = False) -> None:
    """Set what the GNU C library gives back to the system; ``trim`` gives back what is free now."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is not None and hasattr(library, "mallopt"):  # other C libraries have none
        library.mallopt(_TRIM_THRESHOLD, trim_threshold)
        library.mallopt(_MMAP_THRESHOLD, mmap_threshold)
        if trim:
            library.malloc_trim(0)
