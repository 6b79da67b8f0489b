"""Importing this has numba load its registries, which takes a process seconds when it runs its first kernel.

The server that workers are forked from imports it, so that they find them loaded. The kernel has no loop in parallel:
no thread is started, and the server stays safe to fork.
"""

from numba import njit


@njit(cache=True)
def _same(number: int) -> int:
    return number


_same(0)
