"""The process that workers are forked from, begun before anything heavy is imported.

It imports what workers need while the caller imports and prepares; `npsi_twin.execution.executors` forks from it.
"""

import signal
import sys
from collections.abc import Iterable
from multiprocessing.forkserver import ensure_running, set_forkserver_preload

from npsi_twin.threads import available_cpus, few_blas_threads


def begin_server(workers: int, threads: int | None, modules: Iterable[str]) -> None:
    """Begin to import what workers need, in the process that they will be forked from; does not wait for it.

    Whoever knows early that there will be workers says so, and imports and prepares meanwhile. Only the first call of
    a process matters; there is no such server for one worker, and on systems that cannot fork.

    Parameters
    ----------
    workers, threads
        As `LocalProcesses` will have them.
    modules
        Names of the modules to import.
    """
    if workers < 2 or sys.platform != "linux":
        return
    set_forkserver_preload([*modules, "npsi_twin.execution.before_forking"])
    # Ctrl-C would end its imports in a traceback; what is blocked here is so in the server as well.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with few_blas_threads(threads_of_each(workers, threads)):  # it reads them once
            ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def threads_of_each(workers: int, threads: int | None) -> int:
    """Return how many threads each worker has: as many as are asked for, or its share of the processors."""
    return threads or max(1, available_cpus() // workers)
