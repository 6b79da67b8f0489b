"""Share the slices of a volume out among threads.

A kernel that releases the interpreter's lock and a number of slices -> the kernel run on slabs of fixed height. The
slabs do not depend on the number of threads, and every kernel here writes to its own slices only, so that neither do
the results.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from npsi_twin.threads import threads

#: Slices of a slab.
SLAB = 16


def over_slabs(work: Callable[[int, int], None], slices: int, *, size: int = SLAB) -> None:
    """Call ``work(first, beyond)`` for every slab of ``size`` slices, on all threads that this process may use.

    Examples
    --------
    >>> import numpy as np
    >>> done = np.zeros(40, int)
    >>> over_slabs(lambda first, beyond: done.__setitem__(slice(first, beyond), 1), 40)
    >>> int(done.sum())
    40
    """
    slabs = [(first, min(first + size, slices)) for first in range(0, slices, size)]
    if len(slabs) == 1:
        work(*slabs[0])
        return
    with ThreadPoolExecutor(threads()) as pool:
        for _ in pool.map(lambda slab: work(*slab), slabs):  # a failure in a thread comes out here
            pass
