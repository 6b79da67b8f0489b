"""An array that outlives a task, so that the next one need not ask the system for memory again."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Timer

import numpy as np

from npsi_twin.memory import after_keeping
from npsi_twin.volumes import FloatArray


class KeptArray:
    """A large float32 array that tasks of one process have one after the other, so that its pages are touched once.

    It is forgotten a second after it was last used: what follows at once finds it, and what comes later its memory.

    Examples
    --------
    >>> kept = KeptArray()
    >>> with kept.lent((2, 3)) as first:
    ...     first[:] = 1
    >>> with kept.lent((3, 2)) as second:
    ...     print(second.shape, float(second.sum()))
    (3, 2) 6.0
    """

    def __init__(self) -> None:
        self._idle: FloatArray | None = None
        self._forgetting: Timer | None = None
        self._lock = Lock()

    @contextmanager
    def lent(self, shape: tuple[int, ...]) -> Iterator[FloatArray]:
        """Lend an array of some shape, which holds anything; who asks while it is lent gets a new one."""
        size = math.prod(shape)
        with self._lock:
            array, self._idle = self._idle, None
            if self._forgetting is not None:
                self._forgetting.cancel()
        if array is None or array.size < size:
            del array  # it must not stand beside the new one
            array = np.empty(size, np.float32)
        try:
            yield array[:size].reshape(shape)
        finally:
            with self._lock:
                self._idle, self._forgetting = array, after_keeping(self._forget)

    def _forget(self) -> None:
        with self._lock:
            self._idle = None
