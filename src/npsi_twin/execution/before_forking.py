"""What the server that workers are forked from does last, by importing this.

Numba loads its registries, which takes a process seconds when it runs its first kernel: workers find them loaded. The
kernel has no loop in parallel, so that no thread is started and the server stays safe to fork. What was imported is
garbage for nobody: no worker looks through it, which would copy its pages, and the server ends without doing so.
"""

import gc

from numba import njit


@njit(cache=True)
def _same(number: int) -> int:
    return number


_same(0)
gc.freeze()
