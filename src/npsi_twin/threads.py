"""How many threads a process uses: all processors, or its share of them beside other workers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_THREADS = "NPSI_TWIN_THREADS"


def available_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """Return how many threads this process should use: all processors, or its share in a worker."""
    return int(os.environ.get(_THREADS, available_cpus()))


@contextmanager
def using_threads(number: int | None) -> Iterator[None]:
    """Let `threads` answer ``number`` for a while; None changes nothing.

    Examples
    --------
    >>> with using_threads(3):
    ...     threads()
    3
    """
    before = os.environ.get(_THREADS)
    if number is not None:
        os.environ[_THREADS] = str(number)
    try:
        yield
    finally:
        if number is not None:
            os.environ.pop(_THREADS, None)
            os.environ.update({} if before is None else {_THREADS: before})


def limit_threads(number: int) -> None:
    """Limit a new process for good, before numba and BLAS are imported: they read these names once."""
    for name in (_THREADS, "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(number)
