"""An array that outlives a task."""

import time
import weakref

import numpy as np

from npsi_twin import memory
from npsi_twin.kept_array import KeptArray


def test_an_array_is_kept_for_what_follows_and_forgotten_afterwards(monkeypatch):
    monkeypatch.setattr(memory, "_SECONDS_KEPT", 60.0)
    kept = KeptArray()
    with kept.lent((4, 5)) as first, kept.lent((4, 5)) as beside:
        assert not np.shares_memory(first, beside)
    with kept.lent((2, 3)) as smaller:
        assert smaller.shape == (2, 3)
        assert np.shares_memory(smaller, first)
    monkeypatch.setattr(memory, "_SECONDS_KEPT", 0.01)
    with kept.lent((6, 7)) as larger:
        assert not np.shares_memory(larger, first)
    memory_of_it = weakref.ref(larger.base)
    del larger
    deadline = time.monotonic() + 60
    while memory_of_it() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert memory_of_it() is None
