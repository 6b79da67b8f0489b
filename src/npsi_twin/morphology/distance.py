"""Distances from the voxels of a mask to what lies outside it.

A bool volume -> squared distances between voxel centres, in voxels: whole numbers, hence exact. What lies beyond the
volume's faces is no outside.
"""

import numpy as np

from npsi_twin.morphology.collector import BoolArray
from npsi_twin.threads import threads
from npsi_twin.volumes import FloatArray


def squared_distance(mask: BoolArray) -> FloatArray:
    """Return the squared distance, in voxels, of every voxel of a mask to the nearest voxel outside it; 0 outside.

    The volume's faces are no outside: a mask that fills the volume is infinitely deep.

    Examples
    --------
    >>> squared_distance(np.array([[[False, True, True, True]]])).tolist()
    [[[0.0, 1.0, 4.0, 9.0]]]
    """
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    import edt

    writeable = np.require(mask, requirements=["C", "W"])
    found = edt.edtsq(writeable.view(np.uint8), parallel=threads())
    return np.asarray(found, np.float32)
