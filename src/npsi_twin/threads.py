"""How many threads a process uses: all processors, or its share of them beside other workers."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_THREADS = "NPSI_TWIN_THREADS"
_NUMBA = "NUMBA_NUM_THREADS"
_BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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


@contextmanager
def few_blas_threads(number: int) -> Iterator[None]:
    """Let processes that begin meanwhile have few threads of BLAS and OpenMP, which read these names once."""
    before = {name: os.environ.get(name) for name in _BLAS}
    os.environ.update(dict.fromkeys(_BLAS, str(number)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})


def limit_threads(number: int) -> None:
    """Limit this process, a worker, for good: what reads the names later, and numba where it was imported before."""
    os.environ.update(dict.fromkeys((_THREADS, _NUMBA, *_BLAS), str(number)))
    numba = sys.modules.get("numba")
    if numba is not None:  # it has read its name, and refuses another number there once it has threads
        os.environ[_NUMBA] = str(numba.config.NUMBA_NUM_THREADS)
        numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))
